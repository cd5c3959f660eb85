"""A harness: tries of one task instance, against the emulator and a real S3 server, without Airflow between."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_imagegen.emulator import painter
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.engine.options import JobOptions
from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.engine.run import GenerateRun
from airflow_provider_imagegen.failpoints import Failpoint, Moment, observe
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.ledger import store
from airflow_provider_imagegen.ledger.models import Attempt, Entry
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.polling import PollSchedule
from airflow_provider_imagegen.schemas import ImageRequest, Manifest, Submission
from airflow_provider_imagegen.storage.destination import Destination
from tests.cleanup import close_leftovers
from tests.conftest import BUCKET
from tests.integration.conftest import connections  # noqa: F401
from tests.ledgers import age_claims, entries_of
from tests.stack.object_store import ObjectStore
from tests.stack.waiting import HANG, scaled, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

GRACE = scaled(30.0)
"""Seconds a request may stay invisible at the harness's gateway, and the gateway silent: no test waits so long."""
PASSING = scaled(1.0)
"""The same where a test waits until they are over; nothing else in it may have to be faster."""
DEADLINE = scaled(5.0)
"""Seconds until a deadline that a test lets pass: a hundred times what the submits before it need."""
IMAGE_BYTES = 40_000
"""Size of an image; to draw a real one takes 0.3 s."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@dataclasses.dataclass
class Harness:
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
        return entries_of(self.ledger)

    def age_claims(self) -> None:
        """Make every claim an hour old, as it is by Airflow's usual retry."""
        age_claims(self.ledger)

    def draw(self) -> None:
        """Have real images drawn from now on, each different from all others."""
        self.emulator.studio.image_bytes = None

    def use(self, gateway: str, prefix: str = "", **changes: Any) -> None:
        self.settings = dataclasses.replace(
            self.settings, gateway=gateway, base_url=f"{self.emulator.base_url}{prefix}", **changes
        )

    def work(
        self,
        *,
        try_number: int = 1,
        epoch: int = 0,
        timeout: float = HANG,
        on_partial: Any = "fail",
        deferrable: bool = False,
        dag_id: str = "dag",
        slot_grace: float | None = None,
        **request: Any,
    ) -> GenerateRun:
        asked = {"prompt": "a lighthouse", "model": "gpt-image-1"} | request
        attempt = Attempt(dag_id=dag_id, task_id="t", run_id=self.run_id, try_number=try_number, epoch=epoch)
        return GenerateRun(
            request=ImageRequest.checked(asked),
            settings=self.settings,
            s3=self.s3,
            destination=Destination(bucket=BUCKET, prefix=f"failures/{self.run_id}/{dag_id}"),
            ledger=self.ledger,
            options=JobOptions(
                attempt=attempt,
                policy=self.policy,
                schedule=PollSchedule(interval=0.1, slowest=0.2),
                timeout=timeout,
                on_partial=on_partial,
                slot_grace=slot_grace,
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
        """Return whether every image of a manifest is in S3 with the right bytes."""
        sizes = [self.s3.head_object(Bucket=image.bucket, Key=image.key)["ContentLength"] for image in manifest.images]
        return sizes == [image.bytes for image in manifest.images]

    @property
    def billed(self) -> int:
        return self.emulator.totals()["billed_images"]

    @property
    def submits(self) -> int:
        return self.emulator.totals()["submits"]


@contextmanager
def killed_at(which: Failpoint, moment: Moment, occurrence: int = 1) -> Iterator[None]:
    """Die at one point of the block."""
    seen = 0

    def observer(effect: Failpoint, when: Moment) -> None:
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
        close_leftovers()


@contextmanager
def released_when(emulator: RunningEmulator, is_time: Callable[[dict[str, int]], bool], **which: Any) -> Iterator[None]:
    """Hold what is submitted from now on until the emulator's counts, from zero when the block begins, say so.

    :param which: What to hold, as :meth:`RunningEmulator.hold` takes it; everything unless this says otherwise.
    """
    before, over = emulator.totals(), threading.Event()
    emulator.hold(**which)

    def is_due() -> bool:
        now = emulator.totals()
        return over.is_set() or is_time({name: now[name] - before[name] for name in now})

    def wait() -> None:
        wait_until(is_due, what="the moment to release what is held", interval=0.02)
        if not over.is_set():
            emulator.release()

    thread = threading.Thread(target=wait, name="release")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def released_after_look_ups(emulator: RunningEmulator, count: int = 1) -> AbstractContextManager[None]:
    """Hold what is submitted from now on until it has been looked up so many times, unfinished."""
    return released_when(emulator, lambda now: now["lookup_requests"] >= count)


async def first_event(trigger: Any, emulator: RunningEmulator) -> Any:
    """Run a trigger as a triggerer does, and finish the held tasks once it waits for them; return its event."""
    looks = emulator.totals()["lookup_requests"]
    waiting = asyncio.ensure_future(anext(trigger.run()))
    await asyncio.to_thread(
        wait_until,
        lambda: waiting.done() or emulator.totals()["lookup_requests"] > looks,
        what="the trigger's first lookup",
        interval=0.02,
    )
    await asyncio.to_thread(emulator.release)
    return (await waiting).payload


@pytest.fixture(scope="session")
def s3(object_store: ObjectStore) -> Iterator[S3Client]:
    """One client for all tests: another costs 0.1 s and 13 MB. Who registers handlers with it makes his own."""
    client = object_store.client()
    yield client
    client.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have images drawn coarsely, look for lost requests often, and keep no client in a cache for ever."""
    monkeypatch.setattr(painter, "LONGEST_WORKING_EDGE", 64)
    monkeypatch.setattr("airflow_provider_imagegen.engine.submit.LOOK_AGAIN", 0.1)
    yield
    store._is_conditional.cache_clear()


@pytest.fixture
def harness(emulator: RunningEmulator, s3: S3Client, quick: None) -> Harness:
    emulator.change(image_bytes=IMAGE_BYTES)
    return Harness(emulator, s3, settings_of(emulator))


def settings_of(emulator: RunningEmulator, **changes: Any) -> GatewaySettings:
    """Return a connection to the emulator that takes no busy machine for a silent gateway."""
    settings = GatewaySettings(
        base_url=emulator.base_url,
        token=emulator.token,
        gateway="acedatacloud",
        visibility_grace=GRACE,
        timeout=GRACE,
    )
    return dataclasses.replace(settings, **changes)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let a deferrable try hand over sooner than in real life."""

    def shorten(seconds: float) -> None:
        monkeypatch.setattr("airflow_provider_imagegen.engine.run.GRACE", seconds)

    return shorten


@pytest.fixture
def sends() -> Iterator[list[Failpoint]]:
    """Every paid request that is about to be sent."""
    sent: list[Failpoint] = []
    end = observe(lambda which, moment: sent.append(which) if (which, moment) == (Failpoint.SUBMIT, "before") else None)
    yield sent
    end()
