"""A laboratory: tries of one task instance, against the emulator and a real S3 server, without Airflow between."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_imagegen.connection import GatewaySettings
from airflow_provider_imagegen.effects import Effect, Moment, observe
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.job import Terms
from airflow_provider_imagegen.landing import Destination
from airflow_provider_imagegen.ledger import Attempt, Entry, Ledger
from airflow_provider_imagegen.operators.work import Work
from airflow_provider_imagegen.resume import Policy
from airflow_provider_imagegen.schemas import ImageRequest, Manifest, Submission
from airflow_provider_imagegen.watcher import PollSchedule
from tests.burial import bury
from tests.conftest import BUCKET
from tests.integration.conftest import connections  # noqa: F401
from tests.ledgers import entries_of
from tests.stack.objectstore import ObjectStore

GRACE = 0.4
"""Seconds a request may stay invisible at the laboratory's gateway."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@dataclasses.dataclass
class Laboratory:
    """One task instance; every :meth:`work` is one of its tries.

    :param emulator: The gateway.
    :param s3: A client of the S3 server.
    :param settings: The connection.
    :param policy: What the user chose.
    """

    emulator: RunningEmulator
    s3: Any
    settings: GatewaySettings
    policy: Policy = dataclasses.field(default_factory=Policy)
    run_id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.s3, BUCKET, f"ledgers/{self.run_id}")

    def entries(self) -> list[Entry]:
        return entries_of(self.ledger, self.s3)

    def use(self, gateway: str, prefix: str = "", **changes: Any) -> None:
        # What a gateway without look-up does not answer in time is lost, on a busy machine too.
        if gateway == "openai":
            changes = {"timeout": 30.0} | changes
        self.settings = dataclasses.replace(
            self.settings, gateway=gateway, base_url=f"{self.emulator.base_url}{prefix}", **changes
        )

    def work(
        self,
        *,
        try_number: int = 1,
        epoch: int = 0,
        timeout: float = 20.0,
        on_partial: Any = "fail",
        deferrable: bool = False,
        dag_id: str = "dag",
        **request: Any,
    ) -> Work:
        asked = {"prompt": "a lighthouse", "model": "gpt-image-1"} | request
        attempt = Attempt(dag_id=dag_id, task_id="t", run_id=self.run_id, try_number=try_number, epoch=epoch)
        return Work(
            request=ImageRequest.checked(asked),
            settings=self.settings,
            s3=self.s3,
            destination=Destination(bucket=BUCKET, prefix=f"failures/{self.run_id}/{dag_id}"),
            ledger=self.ledger,
            terms=Terms(
                attempt=attempt,
                policy=self.policy,
                schedule=PollSchedule(interval=0.1, slowest=0.2),
                timeout=timeout,
                on_partial=on_partial,
            ),
            deferrable=deferrable,
        )

    def attempt(self, **kwargs: Any) -> Manifest:
        """Run one try to its end."""
        result = asyncio.run(self.work(**kwargs).begin())
        assert isinstance(result, Manifest)
        return result

    def submitted(self, **kwargs: Any) -> Submission:
        """Run one try up to its deferral."""
        result = asyncio.run(self.work(deferrable=True, **kwargs).begin())
        assert isinstance(result, Submission)
        return result

    def is_landed(self, manifest: Manifest) -> bool:
        """Whether every image of a manifest is in S3 with the bytes it says."""
        sizes = [self.s3.head_object(Bucket=image.bucket, Key=image.key)["ContentLength"] for image in manifest.images]
        return sizes == [image.bytes for image in manifest.images]

    @property
    def billed(self) -> int:
        return self.emulator.totals()["billed_images"]

    @property
    def submits(self) -> int:
        return self.emulator.totals()["submits"]


@contextmanager
def killed_at(which: Effect, moment: Moment, occurrence: int = 1) -> Iterator[None]:
    """Die at one point of the block."""
    seen = 0

    def observer(effect: Effect, when: Moment) -> None:
        nonlocal seen
        if (effect, when) == (which, moment):
            seen += 1
            if seen == occurrence:
                raise Killed

    end = observe(observer)
    try:
        with pytest.raises(Killed):
            yield
    finally:
        end()
        bury()


@pytest.fixture
def laboratory(emulator: RunningEmulator, object_store: ObjectStore) -> Laboratory:
    settings = GatewaySettings(
        base_url=emulator.base_url, token=emulator.token, gateway="acedatacloud", visibility_grace=GRACE, timeout=3.0
    )
    return Laboratory(emulator, object_store.client(), settings)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let a deferrable try hand over sooner than in real life."""

    def shorten(seconds: float) -> None:
        monkeypatch.setattr("airflow_provider_imagegen.operators.work.GRACE", seconds)

    return shorten
