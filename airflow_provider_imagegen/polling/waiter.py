"""One wait: the tasks it is for, what was last seen of them, and what a round of lookups means for it.

Made by the poller for every call of ``wait``; knows neither clocks nor other waiters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass

from airflow_provider_imagegen.exceptions import ImageGenError, LookUpFailed, RateLimited, UnreadableResponse
from airflow_provider_imagegen.polling.schedule import Look, PollSchedule
from airflow_provider_imagegen.polling.usual_times import time_running
from airflow_provider_imagegen.schemas import ImageTask


@dataclass(frozen=True)
class Seen:
    """What waiting came to.

    :param tasks: The last that was seen of every task; ``running`` where nothing was.
    :param last_fault: Why the last lookup failed; ``None`` if it did not.
    """

    tasks: dict[str, ImageTask]
    last_fault: ImageGenError | None = None


@dataclass(frozen=True, kw_only=True)
class Span:
    """The times of one wait, by the event loop's clock.

    :param submitted: When its tasks were submitted.
    :param joined: When it began.
    :param visible: From when on a task that is not shown is lost.
    :param end: When it ends.
    """

    submitted: float
    joined: float
    visible: float
    end: float


class Waiter:
    """The state of one wait.

    :param task_ids: The gateway's ids.
    :param span: From when to when.
    :param schedule: When to look.
    :param model: What generates the tasks, if known.
    """

    __slots__ = (
        "_answered",
        "_fault",
        "_running_at",
        "asked_at",
        "done",
        "faults",
        "held_back",
        "last_fault",
        "looks",
        "model",
        "open_ids",
        "schedule",
        "span",
        "tasks",
        "unanswered",
    )

    def __init__(self, task_ids: Iterable[str], span: Span, schedule: PollSchedule, model: str | None) -> None:
        self.tasks = {task_id: ImageTask(state="running", task_id=task_id) for task_id in task_ids}
        self.open_ids = list(self.tasks)
        self.span = span
        self.schedule = schedule
        self.model = model
        self.done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.asked_at = span.joined
        self.held_back = False
        self.looks = self.faults = self.unanswered = 0
        self.last_fault: ImageGenError | None = None
        self._fault: ImageGenError | None = None
        self._running_at: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return self.done.done()

    def finish(self, error: Exception | None = None) -> None:
        """End the wait, with an error of its own if several share one: raising one adds to its traceback."""
        if not self.done.done():
            self.done.set_result(copy(error) if isinstance(error, ImageGenError) else error)

    def begin_round(self, now: float) -> None:
        """Note that all open tasks are being looked up."""
        self.unanswered = len(self.open_ids)
        self.asked_at = now
        self.looks += 1
        self._fault = None

    def take(self, task_id: str, task: ImageTask | None) -> None:
        """Note what a lookup shows of one task; ``None`` if it said nothing about it."""
        self.unanswered -= 1
        if task is not None:
            self.tasks[task_id] = task

    def take_fault(self, error: Exception) -> None:
        """Note that one task could not be looked up; what is no passing trouble ends the wait."""
        self.unanswered -= 1
        if isinstance(error, LookUpFailed | RateLimited):
            self._fault = error
        else:
            self.finish(error)

    def lesson(self) -> float | None:
        """Return the seconds for which tasks like these are known to run, if this round taught it."""
        if not any(self.tasks[task_id].state == "succeeded" for task_id in self.open_ids):
            return None
        return time_running(
            submitted=self.span.submitted,
            held_back=self.held_back,
            last_running=self._running_at,
            now=self.asked_at,
        )

    def end_round(self, now: float) -> Look:
        """Judge a round of lookups when every open task is answered for; it may end the wait.

        :param now: The time.
        :return: The round, as the schedule needs it to say when the next one is due.
        """
        self.last_fault = fault = self._fault
        self.faults = self.faults + 1 if fault else 0
        if fault is None:
            self._running_at = self.asked_at
        if now > self.span.visible:
            self.tasks = {task_id: _given_up_if_unseen(task) for task_id, task in self.tasks.items()}
        self.open_ids = [task_id for task_id, task in self.tasks.items() if not task.is_terminal]
        if isinstance(fault, UnreadableResponse) and self.faults >= self.schedule.unreadable_limit:
            self.finish(fault)
        elif not self.open_ids or now >= self.span.end:
            self.finish()
        return Look(
            asked_at=self.asked_at,
            answered_at=now,
            looks=self.looks,
            faults_in_a_row=self.faults,
            asked_to_wait=getattr(fault, "retry_after", None),
        )


def _given_up_if_unseen(task: ImageTask) -> ImageTask:
    return task.model_copy(update={"state": "lost"}) if task.state == "unseen" else task
