"""Failures of S3 and lookups at critical moments: nothing is paid twice, and nothing is lost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.exceptions import (
    FewerImages,
    ImageGenError,
    LandingError,
    LedgerCorrupt,
    OutcomeUnknown,
    OutOfBalance,
)
from airflow_provider_imagegen.failpoints import Failpoint, Moment, observe
from airflow_provider_imagegen.ledger.models import LedgerKey
from airflow_provider_imagegen.schemas import Manifest
from tests.failures.conftest import PASSING, Harness, killed_at
from tests.stack.object_store import ObjectStore
from tests.stack.waiting import HANG

full = pytest.mark.full
GATEWAYS = pytest.mark.parametrize(("gateway", "prefix"), [("acedatacloud", ""), ("openai", "/openai-api")])


@pytest.fixture
def losing(harness: Harness, object_store: ObjectStore) -> Callable[[str], Harness]:
    """Lose the response to the first ledger write with a header: S3 has done it, and boto3 repeats it by itself."""

    def lose(header: str) -> Harness:
        retries = {"total_max_attempts": 3, "mode": "standard"}
        config = Config(connect_timeout=HANG, read_timeout=HANG, retries=retries)  # type: ignore[arg-type]
        harness.s3 = object_store.client(config=config)
        session = harness.s3._endpoint.http_session
        send, lost = session.send, []

        def lossy(request: Any) -> Any:
            answer = send(request)
            if "ledgers/" in request.url and header in {name.lower() for name in request.headers} and not lost:
                lost.append(request.url)
                raise ReadTimeoutError(endpoint_url=request.url)
            return answer

        session.send = lossy
        return harness

    return lose


@pytest.fixture
def side_by_side(harness: Harness) -> Callable[..., list[Manifest]]:
    """Run several tries at once."""

    async def run(tries: tuple[dict[str, Any], ...]) -> list[Any]:
        return list(await asyncio.gather(*(harness.work(**arguments).begin() for arguments in tries)))

    return lambda *tries: asyncio.run(run(tries))


@pytest.fixture
def hiccup(harness: Harness, object_store: ObjectStore) -> Callable[[], None]:
    """Let S3 refuse the next conditional update as it does when it is busy."""
    harness.s3 = object_store.client()

    def arm() -> None:
        struck: list[str] = []

        def strike(params: Any, **_: Any) -> None:
            if "If-Match" in params["headers"] and not struck:
                struck.append("struck")
                raise ClientError({"Error": {"Code": "SlowDown", "Message": "busy"}}, "PutObject")

        harness.s3.meta.events.register("before-call.s3.PutObject", strike)

    return arm


class TestOwnWriteRepeated:
    """The response to a conditional put is lost, boto3 puts again, and S3 says that the condition failed."""

    @GATEWAYS
    @pytest.mark.parametrize("header", ["if-none-match", "if-match"])
    def test_is_known_for_ones_own(
        self, losing: Callable[[str], Harness], gateway: str, prefix: str, header: str
    ) -> None:
        harness = losing(header)
        harness.use(gateway, prefix)
        assert harness.is_landed(harness.attempt())
        assert harness.submits == harness.billed == 1


class TestInvalidLookupByTraceId:
    @pytest.mark.parametrize("kind", ["hollow", "html", "truncated", "wrong_types", "empty", "error"])
    def test_is_never_treated_as_a_request_that_was_not_sent(self, harness: Harness, kind: str) -> None:
        with killed_at(Failpoint.SUBMIT, "after"):
            harness.attempt()
        harness.age_claims()
        harness.emulator.arm("lookup", kind, times=1)
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1


class TestTokenOfAnotherAccount:
    def test_cannot_tell_what_the_first_account_paid(self, harness: Harness) -> None:
        with killed_at(Failpoint.SUBMIT, "before"):
            harness.attempt()
        harness.age_claims()
        harness.emulator.change(token="another-account")
        harness.use("acedatacloud", token="another-account")
        with pytest.raises(OutcomeUnknown, match=r"another token.*billed: unknown"):
            harness.attempt(try_number=2)
        assert harness.submits == 0


class TestOnePayerForAll:
    def test_that_is_synchronous_is_waited_for_by_the_others(
        self, harness: Harness, side_by_side: Callable[..., list[Manifest]]
    ) -> None:
        harness.use("openai", "/openai-api")
        harness.emulator.hold()
        harness.policy = Policy(reuse="always")
        claims: list[Failpoint] = []

        def answer_when_all_claim(which: Failpoint, moment: Moment) -> None:
            if (which, moment) == (Failpoint.CLAIM, "before"):
                claims.append(which)
                if len(claims) == 4:
                    harness.emulator.release()

        end = observe(answer_when_all_claim)
        manifests = side_by_side(*({"dag_id": name} for name in "abcd"))
        end()
        assert all(harness.is_landed(manifest) for manifest in manifests)
        assert harness.submits == harness.billed == sum(manifest.billed for manifest in manifests) == 1


class TestImagesGoneFromS3:
    @GATEWAYS
    def test_are_generated_again_once_and_then_shared(self, harness: Harness, gateway: str, prefix: str) -> None:
        harness.use(gateway, prefix)
        harness.policy = Policy(reuse="always")
        for image in harness.attempt(dag_id="a").images:
            harness.s3.delete_object(Bucket=image.bucket, Key=image.key)
        second, third = harness.attempt(dag_id="b"), harness.attempt(dag_id="c")
        assert harness.is_landed(second)
        assert harness.is_landed(third)
        assert (second.billed, third.billed, harness.submits) == (1, 0, 2)

    def test_because_others_took_their_place_are_not_returned(self, harness: Harness) -> None:
        harness.draw()
        first = harness.attempt(prompt="A")
        other = harness.attempt(prompt="B", try_number=2, epoch=1)
        assert other.images[0].key == first.images[0].key
        again = harness.attempt(prompt="A", try_number=3, epoch=2)
        head = harness.s3.head_object(Bucket=again.images[0].bucket, Key=again.images[0].key)
        assert head["Metadata"]["sha256"] == again.images[0].sha256 != other.images[0].sha256


class TestRecordThatNamesAnotherBucket:
    def test_is_refused_and_nothing_is_paid_again(self, harness: Harness) -> None:
        harness.attempt()
        (entry,) = harness.entries()
        record = entry.record
        (image,) = record.images
        scope, _, name = record.key.partition("/")
        key = LedgerKey(scope, record.item, record.fingerprint)
        assert str(key) == f"{scope}/{name}"
        harness.ledger.update(key, entry, images=(image.model_copy(update={"bucket": "another"}),))
        with pytest.raises(LedgerCorrupt, match="a record of bucket 'images' names"):
            harness.attempt(try_number=2, epoch=1)
        assert harness.submits == harness.billed == 1


class TestUnknownOutcomeThatWasPaidAgain:
    def test_does_not_spoil_the_key_for_good(self, harness: Harness) -> None:
        harness.use("openai", "/openai-api")
        with killed_at(Failpoint.SUBMIT, "after"):
            harness.attempt()
        harness.policy = Policy(on_unknown="resubmit")
        assert harness.is_landed(harness.attempt(try_number=2, epoch=1))
        harness.policy = Policy()
        assert harness.is_landed(harness.attempt(try_number=3, epoch=2))
        assert harness.submits == 2


class TestResultGoneForGood:
    @pytest.mark.parametrize(("kind", "extra"), [("expire", {"status": 410}), ("html", {})])
    def test_is_generated_again_where_that_was_chosen(self, harness: Harness, kind: str, extra: dict[str, int]) -> None:
        harness.emulator.arm("result", kind, times=2 if kind == "expire" else 1, **extra)
        with pytest.raises(LandingError, match="on_unknown='resubmit'"):
            harness.attempt()
        spoilt = harness.entries()[0].record.task_id
        harness.emulator.arm("result", kind, times=None, task_id=spoilt, **extra)
        harness.policy = Policy(on_unknown="resubmit")
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == 2


class TestTaskThatWaitedLongForItsTurn:
    def test_has_as_much_time_to_become_visible_as_any(self, harness: Harness) -> None:
        grace = 3 * PASSING
        harness.use("acedatacloud", visibility_grace=grace)
        harness.emulator.arm("submit", "refuse", code="rate_limited", status=429, retry_after=math.ceil(grace))
        harness.emulator.arm("submit", "invisible", seconds=grace / 6)
        assert harness.is_landed(harness.attempt())


class TestTemporaryS3Error:
    def test_while_a_refusal_is_noted_leaves_no_claim_behind(
        self, harness: Harness, hiccup: Callable[[], None]
    ) -> None:
        harness.use("openai", "/openai-api")
        harness.emulator.arm("submit", "refuse", code="used_up", status=403)
        hiccup()
        with pytest.raises(OutOfBalance):
            harness.attempt()
        assert harness.is_landed(harness.attempt(try_number=2))


class TestFewerImagesThanAsked:
    def test_in_one_call_is_not_retried(self, harness: Harness) -> None:
        harness.emulator.arm("submit", "fewer", images=1)
        with pytest.raises(FewerImages, match=r"1 of 2.*billed: yes"):
            harness.attempt(model="dall-e-2", size="512x512", n=2)


class TestBillingOfTheWholeRequest:
    def test_is_reported_by_the_error_of_one_of_its_images(self, harness: Harness) -> None:
        harness.emulator.arm("submit", "moderation", times=1)
        with pytest.raises(ImageGenError, match="billed: yes"):
            harness.attempt(n=2)
        assert harness.billed == 1


class TestImageWithoutCopy:
    @pytest.mark.parametrize("kind", ["cut", "html", *(pytest.param(kind, marks=full) for kind in ("drop", "error"))])
    def test_is_landed_in_spite_of_a_hiccup(self, harness: Harness, kind: str) -> None:
        harness.use("openai", "/openai-api")
        harness.emulator.arm("result", kind, times=4 if kind != "html" else 1)
        manifest = harness.attempt(model="dall-e-3", size="1024x1024", response_format="url")
        assert harness.is_landed(manifest)
        assert harness.submits == harness.billed == 1
