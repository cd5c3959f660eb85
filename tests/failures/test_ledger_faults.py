"""What S3 and look-ups may do to the ledger at the worst moment: nothing is paid twice for it, and nothing is lost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from airflow_provider_imagegen.effects import Effect, Moment, observe
from airflow_provider_imagegen.exceptions import FewerImages, ImageGenError, LandingError, OutcomeUnknown, OutOfBalance
from airflow_provider_imagegen.resume import Policy
from airflow_provider_imagegen.schemas import Manifest
from tests.failures.conftest import PASSING, Laboratory, killed_at
from tests.stack.objectstore import ObjectStore
from tests.stack.waiting import HANG

full = pytest.mark.full
GATEWAYS = pytest.mark.parametrize(("gateway", "prefix"), [("acedatacloud", ""), ("openai", "/openai-api")])


@pytest.fixture
def losing(laboratory: Laboratory, object_store: ObjectStore) -> Callable[[str], Laboratory]:
    """Lose the answer to the first ledger write with a header: S3 has done it, and boto3 repeats it by itself."""

    def lose(header: str) -> Laboratory:
        retries = {"total_max_attempts": 3, "mode": "standard"}
        config = Config(connect_timeout=HANG, read_timeout=HANG, retries=retries)  # type: ignore[arg-type]
        laboratory.s3 = object_store.client(config=config)
        session = laboratory.s3._endpoint.http_session
        send, lost = session.send, []

        def lossy(request: Any) -> Any:
            answer = send(request)
            if "ledgers/" in request.url and header in {name.lower() for name in request.headers} and not lost:
                lost.append(request.url)
                raise ReadTimeoutError(endpoint_url=request.url)
            return answer

        session.send = lossy
        return laboratory

    return lose


@pytest.fixture
def side_by_side(laboratory: Laboratory) -> Callable[..., list[Manifest]]:
    """Run several tries at once."""

    async def run(tries: tuple[dict[str, Any], ...]) -> list[Any]:
        return list(await asyncio.gather(*(laboratory.work(**arguments).begin() for arguments in tries)))

    return lambda *tries: asyncio.run(run(tries))


@pytest.fixture
def hiccup(laboratory: Laboratory, object_store: ObjectStore) -> Callable[[], None]:
    """Let S3 refuse the next conditional update as it does when it is busy."""
    laboratory.s3 = object_store.client()

    def arm() -> None:
        struck: list[str] = []

        def strike(params: Any, **_: Any) -> None:
            if "If-Match" in params["headers"] and not struck:
                struck.append("struck")
                raise ClientError({"Error": {"Code": "SlowDown", "Message": "busy"}}, "PutObject")

        laboratory.s3.meta.events.register("before-call.s3.PutObject", strike)

    return arm


class TestOwnWriteRepeated:
    """The answer to a conditional put is lost, boto3 puts again, and S3 says that the condition failed."""

    @GATEWAYS
    @pytest.mark.parametrize("header", ["if-none-match", "if-match"])
    def test_is_known_for_ones_own(
        self, losing: Callable[[str], Laboratory], gateway: str, prefix: str, header: str
    ) -> None:
        laboratory = losing(header)
        laboratory.use(gateway, prefix)
        assert laboratory.is_landed(laboratory.attempt())
        assert laboratory.submits == laboratory.billed == 1


class TestLookUpByTraceIdThatMakesNoSense:
    @pytest.mark.parametrize("kind", ["hollow", "html", "truncated", "wrong_types", "empty", "error"])
    def test_is_never_taken_for_a_request_that_was_not_sent(self, laboratory: Laboratory, kind: str) -> None:
        with killed_at(Effect.SUBMIT, "after"):
            laboratory.attempt()
        laboratory.age_claims()
        laboratory.emulator.arm("lookup", kind, times=1)
        assert laboratory.is_landed(laboratory.attempt(try_number=2))
        assert laboratory.submits == laboratory.billed == 1


class TestTokenOfAnotherAccount:
    def test_cannot_tell_what_the_first_account_paid(self, laboratory: Laboratory) -> None:
        with killed_at(Effect.SUBMIT, "before"):
            laboratory.attempt()
        laboratory.age_claims()
        laboratory.emulator.change(token="another-account")
        laboratory.use("acedatacloud", token="another-account")
        with pytest.raises(OutcomeUnknown, match=r"another token.*billed: unknown"):
            laboratory.attempt(try_number=2)
        assert laboratory.submits == 0


class TestOnePayerForAll:
    def test_that_answers_at_once_is_waited_for_by_the_others(
        self, laboratory: Laboratory, side_by_side: Callable[..., list[Manifest]]
    ) -> None:
        laboratory.use("openai", "/openai-api")
        laboratory.emulator.hold()
        laboratory.policy = Policy(reuse="always")
        claims: list[Effect] = []

        def answer_when_all_claim(which: Effect, moment: Moment) -> None:
            if (which, moment) == (Effect.CLAIM, "before"):
                claims.append(which)
                if len(claims) == 4:
                    laboratory.emulator.release()

        end = observe(answer_when_all_claim)
        manifests = side_by_side(*({"dag_id": name} for name in "abcd"))
        end()
        assert all(laboratory.is_landed(manifest) for manifest in manifests)
        assert laboratory.submits == laboratory.billed == sum(manifest.billed for manifest in manifests) == 1


class TestImagesGoneFromS3:
    @GATEWAYS
    def test_are_drawn_anew_once_and_then_shared(self, laboratory: Laboratory, gateway: str, prefix: str) -> None:
        laboratory.use(gateway, prefix)
        laboratory.policy = Policy(reuse="always")
        for image in laboratory.attempt(dag_id="a").images:
            laboratory.s3.delete_object(Bucket=image.bucket, Key=image.key)
        second, third = laboratory.attempt(dag_id="b"), laboratory.attempt(dag_id="c")
        assert laboratory.is_landed(second)
        assert laboratory.is_landed(third)
        assert (second.billed, third.billed, laboratory.submits) == (1, 0, 2)

    def test_because_others_took_their_place_are_not_handed_out(self, laboratory: Laboratory) -> None:
        laboratory.draw()
        first = laboratory.attempt(prompt="A")
        other = laboratory.attempt(prompt="B", try_number=2, epoch=1)
        assert other.images[0].key == first.images[0].key
        again = laboratory.attempt(prompt="A", try_number=3, epoch=2)
        head = laboratory.s3.head_object(Bucket=again.images[0].bucket, Key=again.images[0].key)
        assert head["Metadata"]["sha256"] == again.images[0].sha256 != other.images[0].sha256


class TestUnknownOutcomeThatWasPaidForAnew:
    def test_does_not_spoil_the_key_for_good(self, laboratory: Laboratory) -> None:
        laboratory.use("openai", "/openai-api")
        with killed_at(Effect.SUBMIT, "after"):
            laboratory.attempt()
        laboratory.policy = Policy(on_unknown="resubmit")
        assert laboratory.is_landed(laboratory.attempt(try_number=2, epoch=1))
        laboratory.policy = Policy()
        assert laboratory.is_landed(laboratory.attempt(try_number=3, epoch=2))
        assert laboratory.submits == 2


class TestResultGoneForGood:
    @pytest.mark.parametrize(("kind", "extra"), [("expire", {"status": 410}), ("html", {})])
    def test_is_drawn_anew_where_that_was_chosen(
        self, laboratory: Laboratory, kind: str, extra: dict[str, int]
    ) -> None:
        laboratory.emulator.arm("result", kind, times=2 if kind == "expire" else 1, **extra)
        with pytest.raises(LandingError, match="on_unknown='resubmit'"):
            laboratory.attempt()
        spoilt = laboratory.entries()[0].record.task_id
        laboratory.emulator.arm("result", kind, times=None, task_id=spoilt, **extra)
        laboratory.policy = Policy(on_unknown="resubmit")
        assert laboratory.is_landed(laboratory.attempt(try_number=2))
        assert laboratory.submits == 2


class TestTaskThatWaitedLongForItsTurn:
    def test_has_as_much_time_to_become_visible_as_any(self, laboratory: Laboratory) -> None:
        grace = 3 * PASSING
        laboratory.use("acedatacloud", visibility_grace=grace)
        laboratory.emulator.arm("submit", "refuse", code="rate_limited", status=429, retry_after=math.ceil(grace))
        laboratory.emulator.arm("submit", "invisible", seconds=grace / 6)
        assert laboratory.is_landed(laboratory.attempt())


class TestHiccupOfS3:
    def test_while_a_refusal_is_noted_leaves_no_claim_behind(
        self, laboratory: Laboratory, hiccup: Callable[[], None]
    ) -> None:
        laboratory.use("openai", "/openai-api")
        laboratory.emulator.arm("submit", "refuse", code="used_up", status=403)
        hiccup()
        with pytest.raises(OutOfBalance):
            laboratory.attempt()
        assert laboratory.is_landed(laboratory.attempt(try_number=2))


class TestFewerImagesThanAsked:
    def test_in_one_call_is_not_retried_in_vain(self, laboratory: Laboratory) -> None:
        laboratory.emulator.arm("submit", "fewer", images=1)
        with pytest.raises(FewerImages, match=r"1 of 2.*billed: yes"):
            laboratory.attempt(model="dall-e-2", size="512x512", n=2)


class TestBillOfTheWholeRequest:
    def test_is_told_by_the_error_of_one_of_its_images(self, laboratory: Laboratory) -> None:
        laboratory.emulator.arm("submit", "moderation", times=1)
        with pytest.raises(ImageGenError, match="billed: yes"):
            laboratory.attempt(n=2)
        assert laboratory.billed == 1


class TestImageThatNobodyKeeps:
    @pytest.mark.parametrize("kind", ["cut", "html", *(pytest.param(kind, marks=full) for kind in ("drop", "error"))])
    def test_is_landed_in_spite_of_a_hiccup(self, laboratory: Laboratory, kind: str) -> None:
        laboratory.use("openai", "/openai-api")
        laboratory.emulator.arm("result", kind, times=4 if kind != "html" else 1)
        manifest = laboratory.attempt(model="dall-e-3", size="1024x1024", response_format="url")
        assert laboratory.is_landed(manifest)
        assert laboratory.submits == laboratory.billed == 1
