"""The landing of what others submitted, for one task instance, between Airflow's calls.

Imported by the landing operator when a task runs, never at DAG parse. It pays nothing, so it claims nothing; it notes
in the submitting task's records what it lands, in that task's name.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from decimal import Decimal

from airflow_provider_imagegen.engine.batch.result_file import ResultFile
from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.engine.batch.summary import OnModeration
from airflow_provider_imagegen.engine.job import ImageJob
from airflow_provider_imagegen.engine.options import GRACE, SharedResources
from airflow_provider_imagegen.engine.receipts import KeptRequest, Receipt, landing_document
from airflow_provider_imagegen.engine.run import TaskRun
from airflow_provider_imagegen.exceptions import ConfigurationError, FailedElsewhere, ImageGenError, PaidImageLost
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.landing import ImageProcessing, Landing
from airflow_provider_imagegen.ledger.models import Entry, LedgerKey
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.polling import TaskPoller
from airflow_provider_imagegen.schemas import ImageTask, Manifest, MissingImage, OpenTask, Submission
from airflow_provider_imagegen.schemas.batch import BatchSummary
from airflow_provider_imagegen.storage.destination import safe_part, split_uri

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Receipts and ids that are landed side by side."""


class NoLedger(Ledger):
    """The ledger of tasks that were not submitted through one: it has no records."""

    def read(self, key: LedgerKey, generation: int) -> Entry | None:
        """Return that there is no record."""
        return None


@dataclass(kw_only=True)
class LandItem:
    """One receipt, or one bare id, to be landed; its landing is not opened yet."""

    row: Row
    landing: Landing
    job: ImageJob
    submission: Submission
    # An unknown somebody pays for a bare id: its cost is not part of our bill.
    is_theirs: bool = False
    tasks: dict[str, ImageTask] = field(default_factory=dict)

    @property
    def open(self) -> list[OpenTask]:
        """Tasks that are not over yet."""
        return [task for task in self.submission.open if not self.tasks[task.task_id].is_terminal]

    async def wait(self, until: float) -> None:
        """Look the tasks up until they are over or time is up."""
        self.tasks = await self.job.wait(self.submission, until)

    async def land(self) -> Manifest:
        """Land it, and write its manifest beside it."""
        async with self.landing:
            try:
                return await self.job.land(self.submission, self.tasks)
            except ImageGenError as error:
                raise FailedElsewhere.of(error) from None

    async def collect(self) -> RowResult:
        """Land it, and return its row."""
        async with self.landing:
            manifest, error = await self.job.collect(self.submission, self.tasks)
        if self.is_theirs:
            nothing = {"billed": 0, "usage": {}, "cost": Decimal(0), "cost_at_least": Decimal(0)}
            manifest = manifest.model_copy(update=nothing)
        return RowResult.of(self.row, manifest, None if error is None else FailedElsewhere.of(error))


@dataclass(frozen=True, kw_only=True)
class LandRun(TaskRun):
    """Submissions of others, or one receipt by itself, to be landed by one task instance."""

    receipts: Sequence[Receipt] = ()
    task_ids: Sequence[str] = ()
    is_one: bool = False
    on_moderation: OnModeration = "fail"
    _open: list[OpenTask] = field(default_factory=list, init=False, repr=False)

    def open_tasks(self) -> list[OpenTask]:
        """Return what is known to be at the gateway; from any thread."""
        return list(self._open)

    def s3_location(self, result: Manifest | BatchSummary | None) -> tuple[str, str, str] | None:
        """Return S3 endpoint, bucket and key prefix of the result: for a receipt, those of the task that submitted."""
        if result is None or not result.manifest_uri:
            return None
        bucket, key = split_uri(result.manifest_uri)
        return self.s3.meta.endpoint_url, bucket, key.rpartition("/")[0]

    def cancel(self) -> None:
        """Leave the requests at the gateway: they are not this task's to cancel."""
        log.warning("Told to stop. The requests keep running at the gateway; a deferral or a retry lands them.")

    async def begin(self) -> Manifest | BatchSummary | Submission:
        """Land what is done; hand over what is not."""
        now = time.time()
        grace = min(GRACE, self.options.timeout) if self.deferrable else self.options.timeout
        return await self._go_on(now, now + self.options.timeout, until=now + grace)

    async def resume(self, submission: Submission, gave_up: bool) -> Manifest | BatchSummary | Submission:
        """Go on after a deferral, which may have ended early; only its times are relied on."""
        return await self._go_on(submission.submitted_at, submission.deadline, until=time.time(), gave_up=gave_up)

    async def _go_on(
        self, started_at: float, deadline: float, *, until: float, gave_up: bool = False
    ) -> Manifest | BatchSummary | Submission:
        async with ImageClient(self.settings) as client:
            items = await self._items(client, started_at)
            self._open.extend(task for item in items for task in item.submission.open)
            log.info("To be landed: %d submission(s), %d task(s) at the gateway", len(items), len(self._open))
            # One lookup for all: they share a poller.
            await asyncio.gather(*(item.wait(until) for item in items))
            still_open = tuple(task for item in items for task in item.open)
            # After the deadline everything is collected as it is: a task that is not over becomes a failed row.
            if still_open and self.deferrable and time.time() < deadline:
                fault = next((item.job.last_fault for item in items if item.job.last_fault), None)
                if gave_up and fault is not None:
                    raise fault
                return Submission(submitted_at=started_at, deadline=deadline, open=still_open)
            return await items[0].land() if self.is_one else await self._land_rows(items, started_at)

    async def _items(self, client: ImageClient, started_at: float) -> list[LandItem]:
        poller = TaskPoller(client, self.options.schedule)
        shared = SharedResources(poller=poller, turn=nullcontext())
        items = await asyncio.gather(
            *(self._item_of_receipt(*pair, client, shared) for pair in enumerate(self.receipts))
        )
        ids = enumerate(self.task_ids, len(items))
        return [*items, *(self._item_of_id(*pair, started_at, client, shared) for pair in ids)]

    async def _item_of_receipt(
        self, number: int, receipt: Receipt, client: ImageClient, shared: SharedResources
    ) -> LandItem:
        document = await asyncio.to_thread(landing_document, self.s3, receipt, self.ledger)
        if document.gateway != client.gateway.name:
            # Its ids mean nothing to another gateway, which would answer that there are no such tasks.
            message = f"{self.settings.name} leads to {client.gateway.name}, and it was submitted to {document.gateway}"
            raise ConfigurationError(message, billed="unknown", advice="Was its gateway changed? Change it back.")
        submission = document.submission
        landing = Landing(
            self.s3,
            document.destination,
            self.settings,
            {**document.metadata, "fingerprint": submission.fingerprint},
            ImageProcessing(svg=document.svg, provenance=document.provenance, model=document.request.model),
        )
        # In the submitting task's name: its records count the cost, and its retry finds that the images have landed.
        options = replace(self.options, attempt=document.attempt)
        return LandItem(
            row=Row(number=number, key=document.prefix, request=document.request),
            landing=landing,
            job=ImageJob(document.request, client, landing, self.ledger, options, shared=shared),
            submission=await _without_lost(submission, landing),
        )

    def _item_of_id(
        self, number: int, task_id: str, started_at: float, client: ImageClient, shared: SharedResources
    ) -> LandItem:
        """Return the item of a bare id: nothing is known about the request, or who submitted it."""
        key = safe_part(task_id)
        request = KeptRequest(prompt="(submitted elsewhere)", shown_parameters={})
        # The id stands for the request in the fingerprint, so that landing it again is known to be the same.
        identity = json.dumps({"gateway": client.gateway.name, "task_id": task_id})
        digest = hashlib.sha256(identity.encode()).hexdigest()
        landing = Landing(self.s3, self.destination, self.settings, self.metadata, self.processing)
        ledger = NoLedger(self.s3, self.destination.bucket, "")
        task = OpenTask(index=0, count=1, task_id=task_id, scope="", fingerprint=digest, generation=0)
        return LandItem(
            row=Row(number=number, key=key, request=request),
            landing=landing,
            job=ImageJob(request, client, landing, ledger, self.options, name_of=f"{key}/{{}}".format, shared=shared),
            submission=Submission(submitted_at=started_at, deadline=started_at, open=(task,), fingerprint=digest),
            is_theirs=True,
        )

    async def _land_rows(self, items: Sequence[LandItem], started_at: float) -> BatchSummary:
        slots = asyncio.Semaphore(AT_ONCE)
        with ResultFile() as results:

            async def land(item: LandItem) -> None:
                # Each has its own landing, with connections and temporary files of its own.
                async with slots:
                    results.add(await item.collect())

            await asyncio.gather(*map(land, items))
            return await results.publish(
                Landing(self.s3, self.destination, self.settings, self.metadata),
                self.gateway,
                started_at,
                on_partial=self.options.on_partial,
                on_moderation=self.on_moderation,
            )


async def _without_lost(submission: Submission, landing: Landing) -> Submission:
    """Return a submission without images that landed before it ended and are missing in S3 now."""
    landed, failures = [], list(submission.failures)
    for image in submission.landed:
        if await landing.reuse(image, str(image.index)) is not None:
            landed.append(image)
            continue
        error = PaidImageLost(f"{image.uri} had landed and is not there any more; clear the task that submitted it")
        failures.append(MissingImage.because_of(error, image.index))
    return submission.model_copy(update={"landed": tuple(landed), "failures": tuple(failures)})
