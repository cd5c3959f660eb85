"""The triggers that wait for submitted tasks, and for a free slot: they look tasks up and do nothing else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_imagegen.exceptions import ImageGenError

if TYPE_CHECKING:
    from airflow_provider_imagegen.polling import Seen

log = logging.getLogger(__name__)

KWARGS_VERSION = 1

# An event loop holds its tasks only weakly: without this, a cancel could be collected while it is under way.
_cancelling: set[asyncio.Task[None]] = set()


class ImageTasksTrigger(BaseTrigger):
    """Fire once every task is done, or as many as the submission says, or at the deadline.

    It never sends a paid request and never touches an image. Arguments that it does not know are ignored.

    :param imagegen_conn_id: The connection to look up through.
    :param submission: A :class:`~airflow_provider_imagegen.schemas.Submission` as JSON: ids, deadline.
    :param not_before: Unix seconds before which it does not fire.
    :param poll_interval: Seconds between lookups.
    :param hold: A :class:`~airflow_provider_imagegen.schemas.CancelContext` as JSON: whose the tasks are.
    :param version: Version of these arguments.
    """

    def __init__(
        self,
        *,
        imagegen_conn_id: str,
        submission: dict[str, Any],
        not_before: float,
        poll_interval: float,
        hold: dict[str, Any] | None = None,
        version: int = KWARGS_VERSION,
        # The triggerer rebuilds a trigger from what another release may have stored, before an upgrade or a roll-back:
        # new arguments need a default, and none may be taken away that an older release requires.
        **_ignored: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.imagegen_conn_id = imagegen_conn_id
        self.submission = submission
        self.not_before = not_before
        self.poll_interval = poll_interval
        self.hold = hold
        self.version = version

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments to rebuild this trigger from."""
        # All that it needs is in them, since any triggerer may have to rebuild it, and what ``defer(kwargs=…)`` is
        # given does not reach the worker under ``dag.test()``. No prompt and no address of an image is: the submission
        # comes back in the event, which Airflow logs whole and stores unencrypted.
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "imagegen_conn_id": self.imagegen_conn_id,
                "submission": self.submission,
                "not_before": self.not_before,
                "poll_interval": self.poll_interval,
                "hold": self.hold,
                "version": self.version,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire one event: a status word and the submission, from which the worker goes on."""
        # A trigger that fires before the worker's deferral is settled gets its task failed by the
        # scheduler: https://github.com/apache/airflow/issues/71580
        await asyncio.sleep(max(0.0, self.not_before - time.time()))
        event = {"version": KWARGS_VERSION, "status": await self._status(), "submission": self.submission}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the tasks where the gateway can, unless a newer try waits for them already.

        Airflow 3.3 and later call this when a user marks or clears the deferred task, never on a restart.
        """
        # One that waits for a slot may have nothing at the gateway.
        if self.hold is None or not self.submission.get("open"):
            return
        # Airflow cancels this very call at its next beat, about a second later, hence a task of its own.
        cancelling = asyncio.create_task(self._cancel(self.hold))
        _cancelling.add(cancelling)
        cancelling.add_done_callback(_cancelling.discard)
        await asyncio.shield(cancelling)

    async def _cancel(self, hold: dict[str, Any]) -> None:
        from airflow_provider_imagegen.engine.cancel import cancel_all
        from airflow_provider_imagegen.hooks.aws import as3_client
        from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
        from airflow_provider_imagegen.ledger.models import Attempt
        from airflow_provider_imagegen.ledger.store import Ledger
        from airflow_provider_imagegen.schemas import CancelContext, Submission

        holder, submission = CancelContext.model_validate(hold), Submission.model_validate(self.submission)
        try:
            ledger = Ledger(await as3_client(holder.aws_conn_id), holder.bucket, holder.ledger_key)
            async with await ImageGenHook(self.imagegen_conn_id).aget_conn() as client:
                await cancel_all(submission.open, client, ledger, Attempt.model_validate(holder.attempt))
        except ImageGenError as error:
            log.warning("Nothing was cancelled: %s", error)

    async def _status(self) -> str:
        """Wait for the tasks and return ``done``, ``timeout`` or ``failed``."""
        try:
            seen = await self._wait()
        except ImageGenError as error:
            # Only the word goes into the event: the worker looks for itself, meets the same error, and fails with it.
            log.error("Waiting ended: %s", error)
            return "failed"
        if sum(not task.is_terminal for task in seen.tasks.values()) <= self.submission.get("left_open", 0):
            return "done"
        if seen.last_fault is not None:
            log.warning("The deadline passed and the last lookup failed: %s", seen.last_fault)
        return "timeout"

    async def _wait(self) -> Seen:
        from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
        from airflow_provider_imagegen.polling import PollSchedule, wait_through
        from airflow_provider_imagegen.schemas import Submission

        return await wait_through(
            self.imagegen_conn_id,
            ImageGenHook(self.imagegen_conn_id).asettings,
            Submission.model_validate(self.submission),
            PollSchedule(interval=self.poll_interval),
        )


class ImageSlotTrigger(ImageTasksTrigger):
    """Fire when it is this task's turn to submit, or at the deadline.

    All tasks that wait for a slot of a connection in this triggerer form one queue (see ``polling.slots``). The
    arguments are those of :class:`ImageTasksTrigger`; the submission contains the place in the queue. Its open tasks
    are looked up meanwhile.
    """

    async def _status(self) -> str:
        """Wait for a slot and return ``slot``, ``timeout`` or ``failed``."""
        from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
        from airflow_provider_imagegen.polling import PollSchedule, wait_for_slot
        from airflow_provider_imagegen.schemas import Submission

        submission = Submission.model_validate(self.submission)
        try:
            has_turn = await wait_for_slot(
                self.imagegen_conn_id,
                ImageGenHook(self.imagegen_conn_id).asettings,
                submission,
                PollSchedule(interval=self.poll_interval),
            )
        except ImageGenError as error:
            log.error("Waiting ended: %s", error)
            return "failed"
        return "slot" if has_turn else "timeout"
