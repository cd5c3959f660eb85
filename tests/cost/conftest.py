"""A harness whose gateway has prices, and whose task instances may have a budget."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_imagegen.catalog.prices import read_prices
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.engine.batch.run import BatchRun
from airflow_provider_imagegen.engine.budget import Budget
from airflow_provider_imagegen.engine.dry_run import DryRun
from airflow_provider_imagegen.engine.run import GenerateRun
from airflow_provider_imagegen.schemas import Manifest
from airflow_provider_imagegen.schemas.batch import BatchSummary
from tests.batch.conftest import IMAGE_BYTES, BatchHarness, grace  # noqa: F401
from tests.failures.conftest import quick, s3, settings_of  # noqa: F401
from tests.integration.conftest import airflow_database, connections, run_task  # noqa: F401

PRICE = Decimal("0.03")
PRICES = {"gpt-image-1": {"per_image": "0.03"}, "dall-e-2": {"per_image": "0.01"}}


@dataclasses.dataclass
class CostHarness(BatchHarness):
    """Tries that may be given a budget."""

    def prices(self, prices: object, **changes: Any) -> None:
        """Change what the connection says of prices."""
        self.settings = dataclasses.replace(self.settings, prices=read_prices(prices), **changes)

    def paying(self, work: Any, budget: str) -> Any:
        """Return a try with a budget."""
        granted = Budget(Decimal(budget), self.settings.currency)
        return dataclasses.replace(work, options=dataclasses.replace(work.options, budget=granted))

    def attempt_within(self, budget: str, **ask: Any) -> Manifest:
        """Run one try with a budget to its end."""
        work: GenerateRun = self.paying(self.work(**ask), budget)
        result = asyncio.run(work.begin())
        assert isinstance(result, Manifest)
        return result

    def run_within(self, budget: str, requests: object, **ask: Any) -> BatchSummary:
        """Run one try of a batch with a budget to its end."""
        work: BatchRun = self.paying(self.batch(requests, **ask), budget)
        result = asyncio.run(work.begin())
        assert isinstance(result, BatchSummary)
        return result

    def dry_run(self, budget: str | None = None, **ask: Any) -> DryRun:
        """Run one try as a dry run."""
        work = self.work(**ask)
        return asyncio.run((work if budget is None else self.paying(work, budget)).dry_run())

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
def harness(emulator: RunningEmulator, s3: Any, quick: None) -> CostHarness:  # noqa: F811
    emulator.change(image_bytes=IMAGE_BYTES)
    return CostHarness(emulator, s3, settings_of(emulator, prices=read_prices(PRICES)))
