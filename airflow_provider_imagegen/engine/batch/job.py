"""Many requests on their way: within a number of places, each row by itself, whatever becomes of the others.

One loop takes row after row; a row is an :class:`~airflow_provider_imagegen.engine.job.ImageJob` of its own, but shares
client, landing, ledger and lookups. Knows nothing of Airflow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from airflow_provider_imagegen import metrics
from airflow_provider_imagegen.engine.batch.circuit_breaker import CircuitBreaker
from airflow_provider_imagegen.engine.batch.duplicates import Duplicates, Keys
from airflow_provider_imagegen.engine.batch.limits import Slots
from airflow_provider_imagegen.engine.batch.progress import Progress, suppress_item_logs
from airflow_provider_imagegen.engine.batch.result_file import ResultFile
from airflow_provider_imagegen.engine.batch.results import OpenRow, RowResult
from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.engine.job import ImageJob
from airflow_provider_imagegen.engine.options import JobOptions, SharedResources
from airflow_provider_imagegen.engine.plan import fingerprint, plan, split
from airflow_provider_imagegen.exceptions import ImageGenError, TaskTimeout
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.polling import TaskPoller
from airflow_provider_imagegen.schemas import ImageTask, OpenTask, Submission

log = logging.getLogger(__name__)

LANDING_ROWS = 64
"""Rows that may be landing beside those at the gateway: what a slow S3 holds up is bounded."""


@dataclass(frozen=True, kw_only=True)
class BatchResources:
    """What all rows of a batch work with.

    :param client: An opened client; its settings say how many requests may be in flight.
    :param landing: An opened landing.
    :param ledger: The ledger of the destination's bucket.
    :param poller: Looks up for all of them.
    :param turn: Entered before every paid call.
    """

    client: ImageClient
    landing: Landing
    ledger: Ledger
    poller: TaskPoller
    turn: AbstractAsyncContextManager[object]


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A row at work.

    :param row: The row.
    :param job: What does it.
    :param keys: Ledger keys that it leads with.
    :param places: Places it takes at the gateway.
    :param submission: What became of its submits before this, if there was anything before.
    """

    row: Row
    job: ImageJob
    keys: Keys
    places: int
    submission: Submission | None = None


class BatchJob:
    """The rows of a batch on their way into a bucket.

    :param means: What they work with.
    :param terms: On what terms; the timeout is each row's, and cut short by the batch's deadline.
    :param sheet: Takes the results.
    :param progress: Notified of every row that ends.
    :param deadline: Unix seconds at which the whole batch stops waiting.
    """

    def __init__(
        self, means: BatchResources, terms: JobOptions, sheet: ResultFile, progress: Progress, deadline: float
    ) -> None:
        self._means = means
        self._terms = terms
        self._sheet = sheet
        self._progress = progress
        self._deadline = deadline
        capacity = means.client.settings.max_in_flight
        self._places = Slots(capacity)
        self._room = asyncio.Semaphore(capacity + LANDING_ROWS)
        self._twins = Duplicates()
        self._at_work: dict[int, ImageJob] = {}
        self._open: list[OpenRow] = []
        self._hand_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submits = _Submits()
        self._looks_once = False
        self._faults: list[ImageGenError] = []
        self.circuit_breaker = CircuitBreaker()
        progress.in_flight = lambda: self._places.taken + len(self._open)

    @property
    def open_tasks(self) -> list[OpenTask]:
        """Tasks that rows at work know to be at the gateway, finished or not."""
        return [task for job in list(self._at_work.values()) for task in job.open]

    @property
    def last_fault(self) -> ImageGenError | None:
        """Why the last lookup for a row that is handed over failed; ``None`` if none did."""
        return self._faults[-1] if self._faults else None

    def settle(self, rows: Iterable[Row]) -> None:
        """Note rows that landed before this began: what asks the same of them is not billed again."""
        for row in rows:
            self._twins.settle(self._keys(row))

    async def run(
        self,
        rows: Sequence[Row],
        resumed: Sequence[tuple[Row, Submission]] = (),
        *,
        grace: float | None = None,
        looks_once: bool = False,
    ) -> list[OpenRow]:
        """Bring all rows to an end, but for those that may be waited for elsewhere.

        :param rows: Rows to begin.
        :param resumed: Rows to go on with.
        :param grace: Seconds to wait once everything is submitted, before what is still open is handed over;
            ``None`` to wait to the end.
        :param looks_once: Whether to look only once, and hand over at once what still runs.
        :return: What is still open.
        """
        self._looks_once = looks_once
        watches = [asyncio.create_task(self._progress.tell_regularly())]
        if grace is not None:
            watches.append(asyncio.create_task(self._hand_over_after(grace)))
        try:
            with suppress_item_logs():
                await self._run(rows, resumed)
        except BaseExceptionGroup as group:
            raise _innermost(group) from None
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
        await self._progress.tell_at_last()
        return sorted(self._open, key=lambda open_row: open_row.row)

    async def _run(self, rows: Sequence[Row], resumed: Sequence[tuple[Row, Submission]]) -> None:
        left = await self._stretch(rows, resumed)
        while left and not self._open:
            # Those that others waited for were done in the very moment in which waiting was given up.
            self._hand_over = asyncio.get_running_loop().create_future()
            left = await self._stretch(left, ())

    async def _stretch(self, rows: Sequence[Row], resumed: Sequence[tuple[Row, Submission]]) -> Sequence[Row]:
        """Return rows that were not begun, because they wait for others that are handed over."""
        async with asyncio.TaskGroup() as group:
            for row, submission in resumed:
                places = self._places.hold(len(submission.open))
                self._start(group, row, self._keys(row), places, submission)
            while True:
                self._twins.listen()
                rows = [row for row in rows if not await self._dealt_with(group, row)]
                self._submits.all_begun()
                if not rows or self._hand_over.done():
                    return rows
                await self._twins.change()

    async def _dealt_with(self, group: asyncio.TaskGroup, row: Row) -> bool:
        """Begin a row, or end it at once; ``False`` if it must wait for another that asks the same."""
        keys = self._keys(row)
        if self._twins.must_wait(keys):
            return False
        await self._room.acquire()
        places = await self._places.take(sum(1 for _ in split(row.request, self._means.client.gateway)))
        refusal = self._refusal(keys)
        if refusal is None and not self._hand_over.done():
            self._start(group, row, keys, places)
            return True
        self._places.give_back(places)
        self._room.release()
        if refusal is None:
            return False
        metrics.count("failed", row.request.n)
        self._note(RowResult.refused(row, refusal))
        await asyncio.sleep(0)
        return True

    def _refusal(self, keys: Keys) -> ImageGenError | None:
        """Return why a row is not sent; ``None`` if it may be."""
        if time.time() >= self._deadline:
            return TaskTimeout("the deadline passed before it was sent", billed="no")
        return self.circuit_breaker.refusal() or self._twins.refusal(keys)

    def _start(
        self, group: asyncio.TaskGroup, row: Row, keys: Keys, places: int, submission: Submission | None = None
    ) -> None:
        counted = self._twins.begin(keys)
        job = self._at_work[row.number] = self._job(row, counted)
        item = _Item(row=row, job=job, keys=keys - counted, places=places, submission=submission)
        self._submits.begin()
        group.create_task(self._work(item))

    async def _work(self, item: _Item) -> None:
        """See a row through, and note what became of it."""
        error: ImageGenError | None
        try:
            reached = await self._reached(item)
            if reached is None:
                return
            result, error = reached
        except ImageGenError as caught:
            result, error = RowResult.refused(item.row, caught), caught
        except Exception as fault:
            # A mistake of ours, or of somebody's gateway, that one row brings to light must not end the others.
            log.exception("Row %s", item.row.key)
            error = ImageGenError.of_defect(fault)
            result = RowResult.refused(item.row, error)
        finally:
            del self._at_work[item.row.number]
            if item.submission is None:
                self._room.release()
        self._twins.end(item.keys, error)
        self.circuit_breaker.see(error)
        self._note(result)

    async def _reached(self, item: _Item) -> tuple[RowResult, ImageGenError | None] | None:
        """Bring a row to its end; ``None`` if it is handed over."""
        try:
            submission, tasks = await self._begun(item)
            if tasks is None and not (item.submission and self._looks_once):
                tasks = await self._waited(item.job, submission)
        finally:
            self._places.give_back(item.places)
        if tasks is None:
            self._leave(item, submission)
            return None
        manifest, error = await item.job.collect(submission, tasks)
        return RowResult.of(item.row, manifest, error), error

    async def _waited(self, job: ImageJob, submission: Submission) -> dict[str, ImageTask] | None:
        """Wait for a row's tasks; ``None`` if waiting ends before they do."""
        waiting = asyncio.create_task(job.wait(submission, submission.deadline))
        ends: tuple[asyncio.Future[Any], ...] = (waiting, self._hand_over)
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    def _leave(self, item: _Item, submission: Submission) -> None:
        self._open.append(OpenRow(row=item.row.number, submission=submission))
        if item.job.last_fault is not None:
            self._faults.append(item.job.last_fault)

    async def _begun(self, item: _Item) -> tuple[Submission, dict[str, ImageTask] | None]:
        """Submit a row, or look at what was submitted of it before.

        :return: What became of the submits, and its tasks if they are over already.
        """
        try:
            if item.submission is None:
                return await item.job.submit(), None
            tasks = await item.job.wait(item.submission, time.time())
            is_over = time.time() >= item.submission.deadline or all(task.is_terminal for task in tasks.values())
            return item.submission, tasks if is_over else None
        finally:
            self._submits.end()

    async def _hand_over_after(self, grace: float) -> None:
        """End the waiting, once everything is submitted and that is a while ago."""
        await self._submits.quiet(grace)
        self._hand_over.set_result(None)
        self._twins.wake()

    def _note(self, result: RowResult) -> None:
        self._sheet.add(result)
        if result.status == "landed":
            self._progress.landed()
        else:
            self._progress.failed(result.key, f"{result.code}: {result.message}")

    def _keys(self, row: Row) -> Keys:
        """Return what a row's calls are filed under; nothing where every row pays."""
        if self._terms.policy.reuse == "never":
            return frozenset()
        attempt, reuse, gateway = self._terms.attempt, self._terms.policy.reuse, self._means.client.gateway
        return frozenset(call.key for call in plan(row.request, gateway, attempt, reuse))

    def _job(self, row: Row, counted: Keys) -> ImageJob:
        means, terms = self._means, replace(self._terms, timeout=max(0.0, self._deadline - time.time()))
        if terms.policy.reuse == "never":
            terms = replace(terms, attempt=terms.attempt.model_copy(update={"row": row.key}))
        return ImageJob(
            row.request,
            means.client,
            means.landing.for_request(row.request.model, fingerprint(row.request, means.client.gateway)),
            means.ledger,
            terms,
            name_of=partial(object_name, row.key, row.request.n),
            shared=SharedResources(poller=means.poller, turn=means.turn, counted=counted),
        )


class _Submits:
    """How many rows are being submitted or looked at for the first time, and when that was last so."""

    def __init__(self) -> None:
        self._number = self._begun = 0
        self._has_more = True
        self._is_quiet = asyncio.Event()

    def begin(self) -> None:
        """Count one more."""
        self._number += 1
        self._begun += 1
        self._is_quiet.clear()

    def end(self) -> None:
        """Count one less."""
        self._number -= 1
        self._look()

    def all_begun(self) -> None:
        """Note that no more rows will begin by themselves."""
        self._has_more = False
        self._look()

    async def quiet(self, seconds: float) -> None:
        """Return when all is submitted and nothing has been for so many seconds."""
        while True:
            await self._is_quiet.wait()
            begun = self._begun
            await asyncio.sleep(seconds)
            if self._is_quiet.is_set() and begun == self._begun:
                return

    def _look(self) -> None:
        if not self._number and not self._has_more:
            self._is_quiet.set()


def object_name(key: str, count: int, index: int) -> str:
    """Return the name of one of a row's objects, without prefix and extension.

    :param key: The row's key.
    :param count: Number of images the row asks for.
    :param index: Position of the image; beyond ``count`` if the gateway made more than it was asked for.
    """
    if index >= count:
        return f"{key}.extra-{index}"
    return key if count == 1 else f"{key}-{index}"


def _innermost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _innermost(error) if isinstance(error, BaseExceptionGroup) else error
