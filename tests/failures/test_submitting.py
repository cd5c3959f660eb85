"""Rows 1 to 5: failures around the paid request."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tenacity import wait_chain, wait_fixed, wait_none

from airflow_provider_imagegen.engine import retry
from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.exceptions import NotSent, OutcomeUnknown, RateLimited
from airflow_provider_imagegen.failpoints import Failpoint
from airflow_provider_imagegen.schemas import Manifest
from tests.failures.conftest import GRACE, PASSING, Harness, killed_at, released_after_look_ups
from tests.stack.waiting import HANG

full = pytest.mark.full


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    """Return the seconds that a try chose to wait before it sent again."""
    records = [record for record in caplog.records if str(record.msg).startswith("Image %d was not accepted")]
    return [record.args[1] for record in records]  # type: ignore[index,misc]


class TestKilledAfterTheClaimBeforeTheRequestLeft:
    def test_retry_looks_finds_nothing_and_submits_once(self, harness: Harness) -> None:
        with killed_at(Failpoint.SUBMIT, "before"):
            harness.attempt()
        assert (harness.submits, harness.entries()[0].record.state) == (0, "claimed")
        harness.age_claims()
        manifest = harness.attempt(try_number=2)
        assert harness.is_landed(manifest)
        assert harness.submits == harness.billed == 1

    def test_gateway_without_lookup_has_an_unknown_outcome(self, harness: Harness) -> None:
        harness.use("openai", "/openai-api")
        with killed_at(Failpoint.SUBMIT, "before"):
            harness.attempt()
        with pytest.raises(OutcomeUnknown, match="cannot look requests up"):
            harness.attempt(try_number=2)
        assert harness.submits == 0


class TestKilledAfterTheGatewayAccepted:
    def test_retry_finds_the_task_and_attaches(self, harness: Harness) -> None:
        with killed_at(Failpoint.SUBMIT, "after"):
            harness.attempt()
        harness.age_claims()
        manifest = harness.attempt(try_number=2)
        assert harness.is_landed(manifest)
        assert harness.submits == harness.billed == manifest.billed == 1

    def test_gateway_without_lookup_stops(self, harness: Harness) -> None:
        harness.use("openai", "/openai-api")
        with killed_at(Failpoint.SUBMIT, "after"):
            harness.attempt()
        with pytest.raises(OutcomeUnknown) as caught:
            harness.attempt(try_number=2)
        assert caught.value.billed == "unknown"
        assert caught.value.trace_id == harness.entries()[0].record.trace_id
        assert harness.submits == 1

    def test_gateway_without_lookup_pays_again_only_with_resubmit(self, harness: Harness) -> None:
        harness.use("openai", "/openai-api")
        harness.policy = Policy(on_unknown="resubmit")
        with killed_at(Failpoint.SUBMIT, "after"):
            harness.attempt()
        assert harness.is_landed(harness.attempt(try_number=2))
        assert [entry.record.generation for entry in harness.entries()] == [1, 2]


class TestResponseLost:
    FAULTS = ("drop", "reset", "html", "truncated", "empty", "hollow", "wrong_types")

    @pytest.mark.parametrize("kind", FAULTS)
    def test_is_found_by_trace_id_in_the_same_try(self, harness: Harness, kind: str) -> None:
        harness.emulator.arm("submit", kind)
        manifest = harness.attempt()
        assert harness.is_landed(manifest)
        assert harness.submits == harness.billed == 1

    @pytest.mark.parametrize("kind", ["drop", *(pytest.param(kind, marks=full) for kind in ("reset", "error"))])
    def test_is_sent_again_once_when_it_never_arrived(self, harness: Harness, kind: str) -> None:
        harness.use("acedatacloud", visibility_grace=PASSING)
        harness.emulator.arm("submit", kind, accept=False)
        assert harness.is_landed(harness.attempt())
        assert (harness.submits, harness.billed) == (2, 1)

    @pytest.mark.parametrize("status", [503, *(pytest.param(status, marks=full) for status in (500, 502, 504))])
    @pytest.mark.parametrize("accept", [True, False])
    def test_server_errors_bill_once(self, harness: Harness, status: int, accept: bool) -> None:
        harness.use("acedatacloud", visibility_grace=GRACE if accept else PASSING)
        harness.emulator.arm("submit", "error", status=status, accept=accept)
        assert harness.is_landed(harness.attempt())
        assert (harness.submits, harness.billed) == (1 if accept else 2, 1)

    def test_silence_bills_once(self, harness: Harness) -> None:
        harness.use("acedatacloud", timeout=PASSING)
        harness.emulator.arm("submit", "hang")
        assert harness.is_landed(harness.attempt())
        assert harness.submits == harness.billed == 1

    @pytest.mark.parametrize("kind", FAULTS)
    def test_gateway_without_lookup_reports_an_unknown_outcome(self, harness: Harness, kind: str) -> None:
        harness.use("openai", "/openai-api")
        harness.emulator.arm("submit", kind)
        with pytest.raises(OutcomeUnknown):
            harness.attempt()
        with pytest.raises(OutcomeUnknown):
            harness.attempt(try_number=2)
        assert harness.submits == 1

    def test_before_any_byte_left_is_tried_again_until_the_deadline(
        self, harness: Harness, sends: list[Failpoint], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits = wait_chain(wait_none(), wait_none(), wait_fixed(2 * HANG))
        monkeypatch.setattr(retry, "wait_random_exponential", lambda **_: waits)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        harness.settings = type(harness.settings)(
            base_url=f"http://127.0.0.1:{port}", token="sesame-token", gateway="acedatacloud"
        )
        with pytest.raises(NotSent, match="billed: no"):
            harness.attempt(timeout=HANG)
        (entry,) = harness.entries()
        assert (entry.record.state, len(sends)) == ("waiting", 3)

    def test_is_not_hidden_by_a_sibling_that_may_be_retried(self, harness: Harness) -> None:
        harness.use("openai", "/openai-api")
        harness.emulator.arm("submit", "drop", times=1)
        harness.emulator.arm("submit", "refuse", times=None, code="bad_request", after=1)
        with pytest.raises(OutcomeUnknown):
            harness.attempt(model="dall-e-3", n=2)


class TestTooManyRequests:
    def test_waits_for_retry_after_and_is_billed_once(
        self, harness: Harness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retry, "wait_random_exponential", lambda **_: wait_none())
        harness.emulator.arm("submit", "refuse", code="too_many_requests", status=429, retry_after=1)
        assert harness.is_landed(harness.attempt())
        assert pauses(caplog) == [1.0]
        assert harness.billed == 1

    def test_waits_with_jitter_without_retry_after(self, harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
        harness.emulator.arm("submit", "refuse", code="rate_limited", status=429, times=2)
        assert harness.is_landed(harness.attempt())
        first, second = pauses(caplog)
        assert 0 < first <= 1
        assert 0 < second <= 2
        assert harness.billed == 1

    def test_does_not_wait_beyond_the_deadline(
        self, harness: Harness, sends: list[Failpoint], caplog: pytest.LogCaptureFixture
    ) -> None:
        harness.emulator.arm("submit", "refuse", code="rate_limited", status=429, retry_after=2 * HANG)
        with pytest.raises(RateLimited, match="billed: no"):
            harness.attempt(timeout=HANG)
        assert (pauses(caplog), len(sends)) == ([], 1)
        assert harness.is_landed(harness.attempt(try_number=2))
        assert [(entry.record.generation, entry.record.state) for entry in harness.entries()] == [(1, "landed")]


class TestTwoAttemptsAtOnce:
    @pytest.mark.parametrize("looks", [0, 2], ids=["done at once", "drawn for a while"])
    def test_one_claim_wins_and_the_other_attaches(self, harness: Harness, looks: int) -> None:
        harness.draw()

        async def both() -> list[Manifest]:
            works = [harness.work(try_number=1, n=3), harness.work(try_number=2, n=3)]
            manifests = await asyncio.gather(*(work.begin() for work in works))
            return [manifest for manifest in manifests if isinstance(manifest, Manifest)]

        with released_after_look_ups(harness.emulator, looks):
            one, other = asyncio.run(both())
        assert harness.submits == harness.billed == 3
        assert [image.sha256 for image in one.images] == [image.sha256 for image in other.images]
