"""Rows 14 and 39: the result URL has expired before the download, or does not lead to the image yet."""

from __future__ import annotations

from typing import Any

import pytest
from tenacity import wait_none

from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.exceptions import ResultExpired
from airflow_provider_imagegen.failpoints import Failpoint
from tests.failures.conftest import Harness, killed_at
from tests.stack.waiting import HANG

NOT_YET = pytest.mark.parametrize(
    "fault", [{"kind": "refuse", "status": 404}, {"kind": "refuse", "status": 403}, {"kind": "empty"}]
)


@pytest.fixture
def time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every task finished longer ago than a CDN may need."""
    monkeypatch.setattr("airflow_provider_imagegen.engine.delivery.RESULT_DELAY", 0.0)


class TestImageThatIsNotThereYet:
    """A CDN is slower than the task record: the address of a finished task answers as if the image were gone."""

    @pytest.fixture(autouse=True)
    def retries_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wait as long as it takes, without pauses."""
        monkeypatch.setattr("airflow_provider_imagegen.engine.delivery.RESULT_DELAY", HANG)
        monkeypatch.setattr("airflow_provider_imagegen.engine.delivery.RESULT_PAUSE", wait_none())

    @NOT_YET
    def test_is_waited_for_and_nothing_is_noted_meanwhile(self, harness: Harness, fault: dict[str, Any]) -> None:
        harness.policy = Policy(on_unknown="resubmit")
        harness.emulator.arm("result", times=5, **fault)
        assert harness.is_landed(harness.attempt())
        record = harness.entries()[0].record
        assert (record.state, record.failure) == ("landed", None)
        assert harness.emulator.totals()["faults"] == 5
        assert harness.submits == harness.billed == 1

    @NOT_YET
    def test_is_expired_when_the_time_is_over(
        self, harness: Harness, time_is_over: None, fault: dict[str, Any]
    ) -> None:
        harness.emulator.arm("result", times=2, **fault)
        with pytest.raises(ResultExpired, match="billed: yes"):
            harness.attempt()
        record = harness.entries()[0].record
        assert (record.state, record.failure and record.failure.code) == ("submitted", "ResultExpired")
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1

    def test_leaves_a_killed_try_to_the_next_one(self, harness: Harness) -> None:
        harness.policy = Policy(on_unknown="resubmit")
        harness.emulator.arm("result", "refuse", status=404, times=3)
        with killed_at(Failpoint.PUT_IMAGE, "before"):
            harness.attempt()
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1


class TestExpiredAddress:
    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_is_requested_once_more_and_landed_in_the_same_try(self, harness: Harness, status: int) -> None:
        harness.attempt(prompt="first, to count lookups")
        usual = harness.emulator.totals()["lookup_requests"]
        harness.emulator.arm("result", "expire", status=status)
        manifest = harness.attempt()
        assert harness.is_landed(manifest)
        assert harness.emulator.totals()["lookup_requests"] - usual == usual + 1
        assert (manifest.billed, harness.submits, harness.billed) == (1, 2, 2)

    def test_that_stays_expired_is_an_error_and_a_retry_asks_again(self, harness: Harness) -> None:
        harness.emulator.arm("result", "expire", status=410, times=2)
        with pytest.raises(ResultExpired, match=r"answered 410.*billed: yes") as caught:
            harness.attempt()
        assert "sig=" not in str(caught.value)
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1

    def test_costs_its_siblings_nothing(self, harness: Harness) -> None:
        harness.emulator.arm("result", "expire", times=1)
        manifest = harness.attempt(model="dall-e-2", size="512x512", n=3)
        assert [image.index for image in manifest.images] == [0, 1, 2]
        assert harness.billed == 3

    def test_is_an_error_if_the_lookup_fails(self, harness: Harness, time_is_over: None) -> None:
        harness.emulator.arm("result", "expire")
        harness.emulator.arm("lookup", "refuse", after=1, times=1)
        with pytest.raises(ResultExpired, match="billed: yes"):
            harness.attempt()
