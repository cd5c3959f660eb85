"""Waits for tasks: looks them up until all are done or the time is over.

The schedule decides and does nothing; the watcher does and decides nothing else. Worker and trigger use
the same one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airflow_provider_imagegen.client import ImageClient
from airflow_provider_imagegen.exceptions import ImageGenError, LookUpFailed, RateLimited, UnreadableAnswer
from airflow_provider_imagegen.schemas import ImageTask

log = logging.getLogger(__name__)

DEFAULT_POLL_INTERVAL = 5.0


@dataclass(frozen=True, kw_only=True)
class PollSchedule:
    """When to look next, and how much trouble to put up with.

    :param interval: Seconds between look-ups while all goes well.
    :param slowest: Seconds between look-ups at most, however long the trouble lasts.
    :param unreadable_limit: Answers in a row that may make no sense before giving up.
    """

    interval: float = DEFAULT_POLL_INTERVAL
    slowest: float = 60.0
    unreadable_limit: int = 5

    def delay(self, faults_in_a_row: int, asked_to_wait: float | None = None) -> float:
        """Return the seconds until the next look-up.

        :param faults_in_a_row: Look-ups that failed since the last good one; each doubles the interval.
        :param asked_to_wait: Seconds the gateway asked for, if it did.
        """
        backed_off = min(self.interval * 2.0 ** min(faults_in_a_row, 16), max(self.slowest, self.interval))
        return max(backed_off, asked_to_wait or 0.0)


class TaskWatcher:
    """Looks up tasks on one client until they are done.

    :param client: An opened client.
    :param schedule: When to look.
    :param clock: Wall clock, in unix seconds; deadlines come from other processes.
    """

    def __init__(self, client: ImageClient, schedule: PollSchedule, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._schedule = schedule
        self._clock = clock
        self.last_fault: ImageGenError | None = None
        """Why the last look-up failed; ``None`` if it did not."""

    async def wait(self, task_ids: Iterable[str], *, until: float, submitted_at: float) -> dict[str, ImageTask]:
        """Look up until every task is done, or until the time is over.

        Failing look-ups are ridden out: the tasks go on at the gateway whether we look or not. There is
        always one look-up, and always a last one at ``until``.

        :param task_ids: The gateway's ids.
        :param until: Unix seconds at which to stop waiting.
        :param submitted_at: Unix seconds of the submit: for a while after it a task may be invisible.
        :return: The last that was seen of every task; ``running`` where nothing was.
        :raises AuthenticationError: If the token is not accepted.
        :raises UnreadableAnswer: If answers made no sense too often in a row.
        """
        seen = {task_id: ImageTask(state="running", task_id=task_id) for task_id in task_ids}
        # The wall clock counts between processes; within this one it may jump.
        start, now = time.monotonic(), self._clock()
        end, invisible_until = start + until - now, start + submitted_at - now + self._grace
        faults = 0
        while open_ids := [task_id for task_id, task in seen.items() if not task.is_terminal]:
            asked_to_wait = None
            try:
                seen |= await self._client.look_up(open_ids)
                faults, self.last_fault = 0, None
            except (LookUpFailed, RateLimited) as error:
                faults, self.last_fault = faults + 1, error
                if isinstance(error, UnreadableAnswer) and faults >= self._schedule.unreadable_limit:
                    raise
                asked_to_wait = getattr(error, "retry_after", None)
                log.warning("Look-up failed, the task goes on at the gateway: %s", error)
            if time.monotonic() > invisible_until:
                seen = {task_id: _given_up_if_unseen(task) for task_id, task in seen.items()}
            left = end - time.monotonic()
            if left <= 0 or all(task.is_terminal for task in seen.values()):
                break
            await asyncio.sleep(min(self._schedule.delay(faults, asked_to_wait), left))
        return seen

    @property
    def _grace(self) -> float:
        return self._client.settings.visibility_grace


def _given_up_if_unseen(task: ImageTask) -> ImageTask:
    return task.model_copy(update={"state": "lost"}) if task.state == "unseen" else task
