"""A batch that Airflow kills, at a gateway that supports cancelling: its running requests are cancelled."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_imagegen.exceptions import PartialDelivery
from airflow_provider_imagegen.gateways import registered_gateways
from tests.batch.conftest import BatchHarness, prompts
from tests.stack.waiting import HANG, wait_until

THIRD_PARTY = Path(__file__).parents[1] / "third_party"


@pytest.fixture
def cancellable(harness: BatchHarness, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchHarness]:
    """A harness whose gateway can cancel, and finishes nothing until it is released."""
    monkeypatch.syspath_prepend(THIRD_PARTY)
    monkeypatch.setattr("airflow_provider_imagegen.engine.run.CANCEL_TIMEOUT", HANG)
    registered_gateways.cache_clear()
    harness.use("cancelling")
    harness.emulator.hold()
    yield harness
    registered_gateways.cache_clear()
    sys.modules.pop("cancelling_gateway", None)


class TestKilledWhileItWaits:
    def test_cancels_all_that_is_in_flight_and_the_retry_pays_once(self, cancellable: BatchHarness) -> None:
        work = cancellable.batch(prompts(4), max_in_flight=4)
        ended: list[BaseException] = []

        def begin() -> None:
            try:
                asyncio.run(work.begin())
            except PartialDelivery as error:
                ended.append(error)

        worker = threading.Thread(target=begin)
        worker.start()
        wait_until(lambda: len(work.open_tasks()) == 4, what="the submits")
        work.cancel()
        worker.join()
        assert len(ended) == 1
        assert cancellable.emulator.totals()["in_flight"] == cancellable.billed == 0
        assert cancellable.emulator.release() == 0
        summary = cancellable.run(prompts(4), try_number=2)
        assert (summary.landed, cancellable.billed) == (4, 4)
