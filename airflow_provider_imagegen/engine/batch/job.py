"""The rows of a batch side by side, within a number of slots; each lands or fails alone.

A row is an :class:`~airflow_provider_imagegen.engine.job.ImageJob`; all of them share client, landing, ledger and
lookups. Knows nothing of Airflow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from operator import attrgetter

from airflow_provider_imagegen import metrics
from airflow_provider_imagegen.engine.batch.checkpoint import BatchState
from airflow_provider_imagegen.engine.batch.duplicates import Duplicates
from airflow_provider_imagegen.engine.batch.limits import HandOver, Slots
from airflow_provider_imagegen.engine.batch.progress import Progress, suppress_item_logs
from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.engine.job import ImageJob
from airflow_provider_imagegen.exceptions import ImageGenError, TaskTimeout
from airflow_provider_imagegen.ledger.models import LedgerKey
from airflow_provider_imagegen.schemas import ImageTask, OpenTask, SlotWait, Submission

log = logging.getLogger(__name__)

LANDING_ROWS = 64
SLOT_PAUSE, MOST_SLOT_PAUSE = 0.5, 5.0
"""Seconds until a row is sent again that was refused for lack of a slot: at first, and at most."""

MakeJob = Callable[[Row, Collection[LedgerKey]], ImageJob]
"""Makes the job of a row; the ledger keys are those whose cost another row accounts for."""


@dataclass(kw_only=True)
class _Item:
    """A row at work, the slots it holds, and what was submitted of it before a deferral."""

    row: Row
    job: ImageJob
    slots: int
    submission: Submission | None
    since: float = field(default_factory=time.monotonic)
    is_landing: bool = False


@dataclass(eq=False, kw_only=True)
class BatchJob:
    """The rows of a batch on their way into a bucket; to be run once.

    :param deadline: Unix seconds at which the whole batch stops waiting.
    :param waited: The batch's place among those that wait for a slot at the gateway, if it has one.
    :param has_more: Whether waiting ended before every row was begun.
    :param last_fault: Why the last lookup of a row that is handed over failed; ``None`` if none did.
    """

    state: BatchState
    make_job: MakeJob
    slots: Slots
    duplicates: Duplicates
    progress: Progress
    hand_over: HandOver
    deadline: float
    waited: SlotWait | None = None
    has_more: bool = field(default=False, init=False)
    last_fault: ImageGenError | None = field(default=None, init=False)
    _at_work: dict[int, _Item] = field(default_factory=dict, init=False)
    _group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup, init=False)
    _trying: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    # With a slow S3, ever more images would be paid for and expire at the gateway before they can be landed.
    _landing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LANDING_ROWS), init=False)

    @property
    def open_tasks(self) -> list[OpenTask]:
        """Tasks that rows at work know to be at the gateway, finished or not; from any thread."""
        # A copy: a signal handler asks in the middle of everything.
        at_work = [task for item in list(self._at_work.values()) for task in item.job.open]
        return [*at_work, *self.state.open_tasks]

    async def run(self) -> None:
        """Bring all rows to an end; the state then holds the results, and the rows that are handed over."""
        reporting = asyncio.create_task(self.progress.report_regularly(self._rows_at_work))
        try:
            with suppress_item_logs():
                async with self._group:
                    await self._begin_all()
        except BaseExceptionGroup as group:
            raise _innermost(group) from None
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
        await self.progress.report_last(len(self.state.open))

    def _rows_at_work(self) -> tuple[int, int]:
        """Return how many rows are in flight, and how many are landing."""
        landing = sum(item.is_landing for item in self._at_work.values())
        return len(self._at_work) - landing + len(self.state.open), landing

    async def _begin_all(self) -> None:
        fresh, resumed = self.state.fresh, [row for row in self.state.rows if row.number in self.state.open]
        for row in resumed:
            self.duplicates.begin(row)
            if (submission := self.state.open[row.number]).slot is None:
                del self.state.open[row.number]
                self._start(row, await self.slots.take_free(submission), submission)
        for row in resumed:
            if row.number in self.state.open:
                await self._begin_rest(row)
        for row in self.duplicates.leaders(fresh):
            await self._begin(row)
            if self.hand_over.is_over:
                self.has_more = True
                break

    async def _begin(self, row: Row) -> None:
        """Start a row as soon as there are slots; or end it at once, and begin those that wait for it."""
        ready = deque([row])
        while ready:
            row = ready.popleft()
            slots = await self.slots.take(row)
            if self.hand_over.is_over and not self.duplicates.have_landed(row):
                # Those that are handed over have left their slots here, but not at the gateway. Copies need none.
                self.slots.release(slots)
                continue
            # Only now: the wait for slots may have taken hours.
            refusal = self._refusal(row)
            if refusal is None:
                self._start(row, slots)
                continue
            self.slots.release(slots)
            metrics.count("failed", row.request.n)
            self.progress.add(RowResult.refused(row, refusal))
            ready += self.duplicates.end(row, refusal)
            # A hundred thousand rows may be refused in a row; those at work are to go on meanwhile.
            await asyncio.sleep(0)

    async def _begin_rest(self, row: Row) -> None:
        """Start a row of which some calls were accepted before, as soon as there are slots for the others."""
        slots = await self.slots.take(row)
        if self.hand_over.is_over:
            self.slots.release(slots)
            return
        submission = self.state.open.pop(row.number)
        if self._refusal(row) is not None:
            # No more is sent, but what was accepted is paid for.
            submission = submission.model_copy(update={"slot": None})
        self._start(row, slots, submission)

    def _refusal(self, row: Row) -> ImageGenError | None:
        """Return why a row is not sent; ``None`` if it may be."""
        if time.time() >= self.deadline:
            return TaskTimeout("the deadline passed before it was sent", billed="no")
        return self.state.circuit_breaker.refusal() or self.duplicates.refusal(row)

    def _start(self, row: Row, slots: int, submission: Submission | None = None) -> None:
        job = self.make_job(row, self.duplicates.counted(row))
        item = self._at_work[row.number] = _Item(row=row, job=job, slots=slots, submission=submission)
        self.hand_over.begin_submit()
        self._group.create_task(self._work(item))

    async def _work(self, item: _Item) -> None:
        """Bring a row to its end, and begin those that wait for it."""
        row = item.row
        error: ImageGenError | None = None
        try:
            submission, tasks = await self._tasks_of(item)
            if tasks is None:
                self._hand_over(row, submission)
                self.last_fault = item.job.last_fault or self.last_fault
                return
            async with self._landing:
                # The image is made: the next row may be sent while this one lands.
                self._release(item)
                item.is_landing = True
                manifest, error = await item.job.collect(submission, tasks)
            result = RowResult.of(row, manifest, error)
        except ImageGenError as caught:
            result, error = RowResult.refused(row, caught), caught
        except Exception as fault:
            # A mistake of ours, or of somebody's gateway, that one row brings to light must not end the others.
            log.exception("Row %s", row.key)
            may_be_billed = item.submission is not None or item.job.may_be_billed
            error = ImageGenError.of_defect(fault, "unknown" if may_be_billed else "no")
            result = RowResult.refused(row, error)
        finally:
            self._release(item)
            del self._at_work[row.number]
        self.state.circuit_breaker.see(error)
        # After a deferral, rows seem to take as long as what is left of them.
        seconds = time.monotonic() - item.since if item.submission is None else None
        self.progress.add(result, seconds)
        for follower in self.duplicates.end(row, error):
            await self._begin(follower)

    def _hand_over(self, row: Row, submission: Submission) -> None:
        if submission.slot is None or submission.open:
            self.state.open[row.number] = submission
        if submission.slot is not None:
            refused = (self.state.refused or submission.slot, submission.slot)
            self.state.refused = min(refused, key=attrgetter("not_before"))

    def _release(self, item: _Item) -> None:
        self.slots.release(item.slots)
        item.slots = 0

    async def _tasks_of(self, item: _Item) -> tuple[Submission, dict[str, ImageTask] | None]:
        """Submit a row or look it up, and wait for it; no tasks are returned if waiting ended before they did."""
        job, submission = item.job, item.submission
        try:
            if submission is None or submission.slot is not None:
                submission = await self._submit(job, submission)
                if submission.slot is not None:
                    return submission, None
            else:
                # What the trigger saw is not relied on. Tasks that are over need no waiting.
                tasks = await job.wait(submission, time.time())
                if time.time() >= submission.deadline or all(task.is_terminal for task in tasks.values()):
                    return submission, tasks
                if self.hand_over.looks_once:
                    self.hand_over.end_all()
                    return submission, None
        finally:
            self.hand_over.end_submit()
        if not submission.open:
            # Copies, and images that came with the response: there is nothing that a trigger could wait for.
            return submission, {}
        return submission, await self.hand_over.wait(job.wait(submission, submission.deadline))

    async def _submit(self, job: ImageJob, before: Submission | None) -> Submission:
        """Submit a row; if the gateway has no slot, again and again until the batch is to wait for one deferred."""
        submission = await job.submit(before.submitted_at if before else None, self.waited)
        if submission.slot is not None:
            # One at a time: dozens of rows that try again and again would be refused a dozen times a second.
            async with self._trying:
                submission = await self._try_again(job, submission, submission.slot)
        if submission.slot is not None:
            self.hand_over.end_all()
        else:
            # It had its turn: from here on it waits behind the others.
            self.waited = None
        return submission

    async def _try_again(self, job: ImageJob, submission: Submission, first: SlotWait) -> Submission:
        place = self.waited or first.model_copy(update={"refusals": 0})
        pause = SLOT_PAUSE
        due = max(first.not_before, time.time() + pause)
        while (grace := self.hand_over.left) > 0:
            if (left := due - time.time()) > 0:
                # Not beyond the moment from which a slot is waited for deferred; others that end put that off.
                await asyncio.sleep(min(left, grace))
                continue
            submission = await job.submit(submission.submitted_at, place)
            if submission.slot is None:
                break
            pause = min(pause * 1.5, MOST_SLOT_PAUSE)
            due = max(submission.slot.not_before, time.time() + pause)
        return submission


def _innermost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _innermost(error) if isinstance(error, BaseExceptionGroup) else error
