"""A laboratory whose gateway has prices, and whose task instances may have a budget."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_imagegen.batch.summary import BatchSummary
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.operators.batch_work import BatchWork
from airflow_provider_imagegen.operators.work import Work
from airflow_provider_imagegen.pricing.prices import read_prices
from airflow_provider_imagegen.pricing.purse import Purse
from airflow_provider_imagegen.rehearsal import Rehearsal
from airflow_provider_imagegen.schemas import Manifest
from tests.batch.conftest import IMAGE_BYTES, BatchLaboratory, grace  # noqa: F401
from tests.failures.conftest import quick, s3, settings_of  # noqa: F401
from tests.integration.conftest import airflow_database, connections, run_task  # noqa: F401

PRICE = Decimal("0.03")
PRICES = {"gpt-image-1": {"per_image": "0.03"}, "dall-e-2": {"per_image": "0.01"}}


@dataclasses.dataclass
class CostLaboratory(BatchLaboratory):
    """Tries that may be given a budget."""

    def prices(self, prices: object, **changes: Any) -> None:
        """Change what the connection says of prices."""
        self.settings = dataclasses.replace(self.settings, prices=read_prices(prices), **changes)

    def paying(self, work: Any, budget: str) -> Any:
        """Return a try with a budget."""
        purse = Purse(Decimal(budget), self.settings.currency)
        return dataclasses.replace(work, terms=dataclasses.replace(work.terms, purse=purse))

    def attempt_within(self, budget: str, **ask: Any) -> Manifest:
        """Run one try with a budget to its end."""
        work: Work = self.paying(self.work(**ask), budget)
        result = asyncio.run(work.begin())
        assert isinstance(result, Manifest)
        return result

    def run_within(self, budget: str, requests: object, **ask: Any) -> BatchSummary:
        """Run one try of a batch with a budget to its end."""
        work: BatchWork = self.paying(self.batch(requests, **ask), budget)
        result = asyncio.run(work.begin())
        assert isinstance(result, BatchSummary)
        return result

    def rehearse(self, budget: str | None = None, **ask: Any) -> Rehearsal:
        """Rehearse one try."""
        work = self.work(**ask)
        return asyncio.run((work if budget is None else self.paying(work, budget)).rehearse())

    @contextmanager
    def s3_calls(self) -> Iterator[Counter[str]]:
        """Count calls to S3 inside the block, by operation."""
        counts: Counter[str] = Counter()

        def count(model: Any, **_: Any) -> None:
            counts[model.name] += 1

        self.s3.meta.events.register("before-call.s3", count)
        try:
            yield counts
        finally:
            self.s3.meta.events.unregister("before-call.s3", count)


@pytest.fixture
def laboratory(emulator: RunningEmulator, s3: Any, quick: None) -> CostLaboratory:  # noqa: F811
    emulator.change(image_bytes=IMAGE_BYTES)
    return CostLaboratory(emulator, s3, settings_of(emulator, prices=read_prices(PRICES)))
