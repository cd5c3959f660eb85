"""Ledger keys, trace ids and fingerprints: the same where they must be, different where they must."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.engine.plan import fingerprint, plan
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.ledger.models import Attempt, LedgerKey
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest, ImageSource

GATEWAY = gateway_for(GatewaySettings(base_url="https://a.example", token="sesame-token", gateway="acedatacloud"))
NAMES = st.text(max_size=30)
ATTEMPTS = st.builds(
    Attempt,
    dag_id=NAMES,
    task_id=NAMES,
    run_id=NAMES,
    map_index=st.integers(-1, 5),
    try_number=st.integers(1, 3),
    epoch=st.integers(0, 3),
)


def key(attempt: Attempt, reuse: Any = "task", item: int = 0) -> LedgerKey:
    return LedgerKey.of(attempt, reuse, item, "f" * 64)


class TestLedgerKey:
    @given(ATTEMPTS, ATTEMPTS)
    def test_is_shared_by_the_tries_of_one_task_instance_alone(self, one: Attempt, other: Attempt) -> None:
        assert (key(one) == key(other)) == (one.instance == other.instance)

    @given(ATTEMPTS, ATTEMPTS)
    def test_is_shared_where_every_task_may_reuse(self, one: Attempt, other: Attempt) -> None:
        assert key(one, "always") == key(other, "always")

    @given(ATTEMPTS)
    def test_differs_in_every_try_where_no_task_may_reuse(self, attempt: Attempt) -> None:
        later = attempt.model_copy(update={"try_number": attempt.try_number + 1})
        assert key(attempt, "never") != key(later, "never")

    @given(ATTEMPTS, st.sampled_from(["task", "always", "never"]), st.integers(0, 9999))
    def test_is_safe_in_an_object_key_whatever_the_ids_hold(self, attempt: Attempt, reuse: str, item: int) -> None:
        text = str(key(attempt, reuse, item))
        assert text.isascii()
        assert all(letter.isalnum() or letter in "/-" for letter in text)
        assert len(text) < 150


class TestTraceId:
    @given(ATTEMPTS, st.integers(1, 5), st.integers(1, 5))
    def test_is_derived_from_key_and_generation(self, attempt: Attempt, one: int, other: int) -> None:
        ledgers = [Ledger(None, "bucket", "prefix"), Ledger(None, "bucket", "prefix/")]  # type: ignore[arg-type]
        ids = [ledger.trace_id(key(attempt), generation) for ledger in ledgers for generation in (one, other)]
        assert ids[:2] == ids[2:]
        assert (ids[0] == ids[1]) == (one == other)

    def test_differs_between_buckets(self) -> None:
        where = key(Attempt(dag_id="d", task_id="t", run_id="r"))
        assert Ledger(None, "a", "p").trace_id(where, 1) != Ledger(None, "b", "p").trace_id(where, 1)  # type: ignore[arg-type]


REQUESTS = st.builds(
    ImageRequest,
    prompt=st.text(min_size=1).filter(str.strip),
    model=st.sampled_from(["gpt-image-1", "dall-e-2"]),
    n=st.integers(1, 10),
    size=st.sampled_from(["auto", "1024x1024"]),
    extra=st.dictionaries(st.sampled_from(["seed", "steps"]), st.integers()),
)


class TestFingerprint:
    @given(REQUESTS, REQUESTS)
    def test_is_the_same_only_for_the_same_image(self, one: ImageRequest, other: ImageRequest) -> None:
        assert (fingerprint(one, GATEWAY) == fingerprint(other, GATEWAY)) == (one.asked() == other.asked())

    @given(REQUESTS)
    def test_does_not_depend_on_who_asks_and_how_it_is_delivered(self, request: ImageRequest) -> None:
        delivered = request.model_copy(
            update={"user": "u", "callback_url": "https://h", "response_format": "url", "partial_images": 2}
        )
        personal = ImageRequest(**{name: getattr(delivered, name) for name in ImageRequest.model_fields})
        plain = ImageRequest(**{name: getattr(request, name) for name in ImageRequest.model_fields})
        assert fingerprint(personal, GATEWAY) == fingerprint(plain, GATEWAY)

    def test_depends_on_the_gateway_and_its_address(self) -> None:
        request = ImageRequest(prompt="p")
        elsewhere = gateway_for(GatewaySettings(base_url="https://b.example", token="t", gateway="acedatacloud"))
        other = gateway_for(GatewaySettings(base_url="https://a.example", token="t", gateway="openai"))
        assert len({fingerprint(request, gateway) for gateway in (GATEWAY, elsewhere, other)}) == 3

    @pytest.mark.parametrize("account", ["shop", "https://A.example:443/v1/"])
    def test_depends_on_the_account_in_place_of_the_address_where_it_is_named(self, account: str) -> None:
        def of(host: str, **extra: str) -> str:
            extra = {"gateway": "acedatacloud", **extra}
            settings = GatewaySettings.from_fields(name="c", host=host, scheme=None, port=None, token="t", extra=extra)
            return fingerprint(ImageRequest(prompt="p"), gateway_for(settings))

        hosts = ("https://b.example", "https://c.example/v1", "http://localhost:8790/proxy")
        assert len({of(host, account=account) for host in hosts}) == 1
        assert of(hosts[0], account=account) != of(hosts[0], account="another") != of(hosts[0])
        # Named by its old address, an account keeps what was paid for there.
        assert (of(hosts[0], account=account) == of("https://a.example/v1")) == account.startswith("https")
        assert of(hosts[0], account=account) != of(hosts[0], account=account, submit_path="/other")

    def test_of_an_edit_is_not_that_of_a_request_with_its_fields_in_extra(self) -> None:
        gateway = gateway_for(GatewaySettings(base_url="https://a.example", token="t", gateway="nano_banana"))
        source = ImageSource(url="https://h.example/a.png")
        edit = EditRequest(prompt="p", images=(source,))
        imitation = ImageRequest(prompt="p", extra={"images": [source.identity], "mask": None})
        assert edit.asked() == imitation.asked()
        assert fingerprint(edit, gateway) != fingerprint(imitation, gateway)

    def test_of_an_edit_depends_on_the_bytes_and_not_on_their_name(self) -> None:
        def edit(content: bytes, name: str) -> str:
            source = ImageSource(content=content, name=name)
            return fingerprint(EditRequest(prompt="p", images=(source,)), GATEWAY)

        assert edit(b"a", "1.png") == edit(b"a", "2.png") != edit(b"b", "1.png")


class TestPlan:
    @given(REQUESTS)
    def test_covers_every_image_once(self, request: ImageRequest) -> None:
        calls = plan(request, GATEWAY, Attempt(dag_id="d", task_id="t", run_id="r"), "task")
        covered = [call.index + offset for call in calls for offset in range(call.count)]
        assert covered == list(range(request.n))
        assert all(call.count <= GATEWAY.images_per_call(request) for call in calls)
