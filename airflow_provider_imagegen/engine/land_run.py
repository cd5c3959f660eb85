"""What one task instance has to do to land what others submitted, between Airflow's calls.

Imported by the landing operator when a task runs, never at DAG parse. It pays nothing, so it claims nothing; what it
lands it notes in the submitting task's records, in that task's name.
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
from datetime import UTC, datetime
from decimal import Decimal

from airflow_provider_imagegen.engine.batch.outcome import OnModeration, error_for
from airflow_provider_imagegen.engine.batch.result_file import ResultFile
from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.engine.batch.run import MANIFEST
from airflow_provider_imagegen.engine.job import ImageJob
from airflow_provider_imagegen.engine.options import GRACE, SharedResources
from airflow_provider_imagegen.engine.receipts import KeptRequest, LandingDocument, Receipt, landing_document
from airflow_provider_imagegen.engine.run import TaskRun
from airflow_provider_imagegen.exceptions import ConfigurationError, FailedElsewhere, ImageGenError, PaidImageLost
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.landing import ImageProcessing, Landing
from airflow_provider_imagegen.ledger.models import Entry, LedgerKey
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.polling import TaskPoller
from airflow_provider_imagegen.schemas import (
    ImageTask,
    LandedImage,
    Manifest,
    MissingImage,
    OpenTask,
    Submission,
)
from airflow_provider_imagegen.schemas.batch import BatchSummary
from airflow_provider_imagegen.storage.destination import safe_part, split_uri

log = logging.getLogger(__name__)

_NOTHING = Decimal(0)

AT_ONCE = 16
"""Receipts and ids that are landed side by side."""


class NoLedger(Ledger):
    """The ledger of what was not submitted through one: it has no records."""

    def read(self, key: LedgerKey, generation: int) -> Entry | None:
        """Return that there is no record."""
        return None


@dataclass(kw_only=True)
class LandItem:
    """What one receipt, or one bare id, is landed by.

    :param row: What it is called in the rows of a list.
    :param landing: Where to, not opened yet.
    :param job: What lands it.
    :param submission: What was submitted.
    :param is_theirs: Whether somebody pays whom we do not know: then the bill is not ours to draw up.
    :param tasks: What was last seen of it.
    """

    row: Row
    landing: Landing
    job: ImageJob
    submission: Submission
    is_theirs: bool = False
    tasks: dict[str, ImageTask] = field(default_factory=dict)

    @property
    def open(self) -> list[OpenTask]:
        """What is not over yet."""
        return [task for task in self.submission.open if not self.tasks[task.task_id].is_terminal]

    async def wait(self, until: float) -> None:
        """Look what became of it, until it is over or time is up."""
        self.tasks = await self.job.wait(self.submission, until)

    async def land(self) -> Manifest:
        """Land it, and write its manifest beside it.

        :raises ImageGenError: If something is missing.
        """
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
            manifest = manifest.model_copy(
                update={"billed": 0, "usage": {}, "cost": _NOTHING, "cost_at_least": _NOTHING}
            )
        return RowResult.of(self.row, manifest, None if error is None else FailedElsewhere.of(error))


@dataclass(frozen=True, kw_only=True)
class LandRun(TaskRun):
    """What others submitted, to be landed by one task instance.

    :param receipts: What tasks with ``wait=False`` returned.
    :param task_ids: The gateway's ids of what was submitted by anybody.
    :param is_one: Whether all of it is one receipt that came by itself.
    :param on_moderation: Whether what the content policy refused is an error.
    """

    receipts: Sequence[Receipt] = ()
    task_ids: Sequence[str] = ()
    is_one: bool = False
    on_moderation: OnModeration = "fail"
    _open: list[OpenTask] = field(default_factory=list, init=False, repr=False)

    def open_tasks(self) -> list[OpenTask]:
        """Return what is known to be at the gateway; from any thread."""
        return list(self._open)

    def s3_location(self, result: Manifest | BatchSummary | None) -> tuple[str, str, str] | None:
        """Return S3 endpoint, bucket and key prefix of what landed: for a receipt, where its task said."""
        if result is None or not result.manifest_uri:
            return None
        bucket, key = split_uri(result.manifest_uri)
        return self.s3.meta.endpoint_url, bucket, key.rpartition("/")[0]

    def cancel(self) -> None:
        """Leave at the gateway what is not this task's to cancel."""
        log.warning("Task killed. The requests keep running at the gateway; a retry will fetch the images.")

    async def begin(self) -> Manifest | BatchSummary | Submission:
        """Land what is done; hand over what is not.

        :return: The manifest or summary, or what to wait for.
        :raises ImageGenError: As the error tree says.
        """
        now = time.time()
        grace = min(GRACE, self.terms.timeout) if self.deferrable else self.terms.timeout
        return await self._go_on(now, now + self.terms.timeout, until=now + grace)

    async def resume(self, submission: Submission, gave_up: bool) -> Manifest | BatchSummary | Submission:
        """Go on after a deferral, which may have ended early; only its times are relied on.

        :param submission: What was waited for.
        :param gave_up: Whether the trigger could not go on looking; then neither can this.
        """
        return await self._go_on(submission.submitted_at, submission.deadline, until=time.time(), gave_up=gave_up)

    async def _go_on(
        self, started_at: float, deadline: float, *, until: float, gave_up: bool = False
    ) -> Manifest | BatchSummary | Submission:
        async with ImageClient(self.settings) as client:
            errands = await self._errands(client, started_at)
            self._open.extend(task for errand in errands for task in errand.submission.open)
            log.info("To be landed: %d submission(s), %d task(s) at the gateway", len(errands), len(self._open))
            await asyncio.gather(*(errand.wait(until) for errand in errands))
            still_open = tuple(task for errand in errands for task in errand.open)
            if still_open and self.deferrable and time.time() < deadline:
                fault = next((errand.job.last_fault for errand in errands if errand.job.last_fault), None)
                if gave_up and fault is not None:
                    raise fault
                return Submission(submitted_at=started_at, deadline=deadline, open=still_open)
            return await errands[0].land() if self.is_one else await self._land_rows(errands, started_at)

    async def _errands(self, client: ImageClient, started_at: float) -> list[LandItem]:
        poller = TaskPoller(client, self.terms.schedule)
        company = SharedResources(poller=poller, turn=nullcontext())
        places = asyncio.Semaphore(AT_ONCE)

        async def errand_for(number: int, receipt: Receipt) -> LandItem:
            async with places:
                note = await asyncio.to_thread(landing_document, self.s3, receipt)
                return await self._errand_for(number, receipt.submission, note, client, company)

        of_receipts = await asyncio.gather(*(errand_for(*pair) for pair in enumerate(self.receipts)))
        ids = enumerate(self.task_ids, len(self.receipts))
        return [*of_receipts, *(self._errand_of(number, one, started_at, client, company) for number, one in ids)]

    async def _errand_for(
        self, number: int, submission: Submission, note: LandingDocument, client: ImageClient, company: SharedResources
    ) -> LandItem:
        """Return the errand of a receipt."""
        if note.gateway != client.gateway.name:
            words = f"{self.settings.name} leads to {client.gateway.name}, and it was submitted to {note.gateway}"
            raise ConfigurationError(words, billed="unknown", advice="Was its gateway changed? Change it back.")
        landing = Landing(
            self.s3,
            note.destination,
            self.settings,
            {**note.metadata, "fingerprint": submission.fingerprint},
            ImageProcessing(svg=note.svg, provenance=note.provenance, model=note.request.model),
        )
        ledger = Ledger(self.s3, note.bucket, note.ledger_key)
        terms = replace(self.terms, attempt=note.attempt)
        return LandItem(
            row=Row(number=number, key=note.prefix, request=note.request),
            landing=landing,
            job=ImageJob(note.request, client, landing, ledger, terms, shared=company),
            submission=await _still_there(submission, landing),
        )

    def _errand_of(
        self, number: int, task_id: str, started_at: float, client: ImageClient, company: SharedResources
    ) -> LandItem:
        """Return the errand of a bare id: nothing is known of what was asked for, or by whom."""
        key = safe_part(task_id)
        request = KeptRequest(prompt="(submitted elsewhere)", shown_parameters={})
        identity = json.dumps({"gateway": client.gateway.name, "task_id": task_id})
        digest = hashlib.sha256(identity.encode()).hexdigest()
        landing = Landing(self.s3, self.destination, self.settings, self.metadata, self.treatment)
        ledger = NoLedger(self.s3, self.destination.bucket, "")
        job = ImageJob(request, client, landing, ledger, self.terms, name_of=f"{key}/{{}}".format, shared=company)
        task = OpenTask(index=0, count=1, task_id=task_id, scope="", fingerprint=digest, generation=0)
        submission = Submission(submitted_at=started_at, deadline=started_at, open=(task,), fingerprint=digest)
        row = Row(number=number, key=key, request=request)
        return LandItem(row=row, landing=landing, job=job, submission=submission, is_theirs=True)

    async def _land_rows(self, errands: Sequence[LandItem], started_at: float) -> BatchSummary:
        places = asyncio.Semaphore(AT_ONCE)
        with ResultFile() as sheet:

            async def land(errand: LandItem) -> None:
                async with places:
                    sheet.add(await errand.collect())

            await asyncio.gather(*map(land, errands))
            elapsed = round(time.time() - started_at, 3)
            with await asyncio.to_thread(sheet.as_file) as lines:
                landing = Landing(self.s3, self.destination, self.settings, self.metadata)
                uri = await landing.put_lines(MANIFEST, lines)
            summary = sheet.tally.summary(
                gateway=self.gateway.name,
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                elapsed=elapsed,
                manifest_uri=uri,
                currency=self.settings.currency,
            )
            on_partial = self.terms.on_partial
            error = error_for(
                summary, sheet.tally, on_partial=on_partial, on_moderation=self.on_moderation, stopped_by=None
            )
        if error is not None:
            raise error
        return summary


async def _still_there(submission: Submission, landing: Landing) -> Submission:
    """Return a submission without the images that had landed before it ended and are gone from S3 since."""
    found = [(image, await landing.reuse(image, str(image.index)) is not None) for image in submission.landed]
    landed = tuple(image for image, is_there in found if is_there)
    gone = (_gone(image) for image, is_there in found if not is_there)
    return submission.model_copy(update={"landed": landed, "failures": (*submission.failures, *gone)})


def _gone(image: LandedImage) -> MissingImage:
    words = f"{image.uri} had landed and is not there any more; clear the task that submitted it"
    return MissingImage.because_of(PaidImageLost(words), image.index)
