"""Cancels what nobody waits for any more, where the gateway can, and never what a newer try waits for.

Called when Airflow kills a task: by the operator in its worker, by the trigger while deferred. A cleared task's
new try may be at work before the old one learns that it was killed, so the ledger decides: a try may cancel only
what is still its own, and says so there before it asks the gateway.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from airflow_provider_imagegen.exceptions import GatewayError, LedgerConflict, LedgerError
from airflow_provider_imagegen.failpoints import Failpoint, failpoint
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.ledger.async_store import AsyncLedger
from airflow_provider_imagegen.ledger.models import SHARED_SCOPE, Attempt, Entry, LedgerKey
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import ImageTask, OpenTask

log = logging.getLogger(__name__)


async def cancel_all(tasks: Iterable[OpenTask], client: ImageClient, ledger: Ledger, attempt: Attempt) -> None:
    """Ask the gateway to cancel tasks, as far as it can and they are still this attempt's; say what became of each."""
    if not client.gateway.capabilities.cancel:
        log.warning(
            "Told to stop. What was sent keeps running at the gateway and is billed; a deferral or a retry lands it."
        )
        return
    records = AsyncLedger(ledger, time.time)
    for task in tasks:
        try:
            await _cancel(task, client, records, attempt)
        except (GatewayError, LedgerError) as error:
            log.warning("Task %s was not cancelled: %s", task.task_id, error)


async def _cancel(task: OpenTask, client: ImageClient, records: AsyncLedger, attempt: Attempt) -> None:
    key = LedgerKey(task.scope, task.index, task.fingerprint)
    entry = await records.read(key, task.generation)
    if entry is None or not _is_ours(entry, key, attempt):
        log.info("Task %s is not cancelled: others wait for it, or it is done", task.task_id)
        return
    try:
        # Noted before asking: a new try that reads the record waits for the end of the task instead of attaching to it.
        entry = await records.update(key, entry, state="cancelling")
    except LedgerConflict:
        log.info("Task %s is not cancelled: another try has just attached to it", task.task_id)
        return
    try:
        with failpoint(Failpoint.CANCEL):
            await client.cancel(task.task_id)
    except GatewayError:
        await records.update(key, entry, state="submitted")
        raise
    await _note_end(task, client, records, key, entry)


async def _note_end(task: OpenTask, client: ImageClient, records: AsyncLedger, key: LedgerKey, entry: Entry) -> None:
    """Note that the task is over, so that the next try starts a new generation without asking."""
    seen: ImageTask = (await client.look_up([task.task_id]))[task.task_id]
    if seen.state == "failed":
        await records.update(key, entry, state="failed", failure=seen.failure)
        log.info("Cancelled task %s; the next try starts a new generation", task.task_id)
    else:
        log.info("Asked the gateway to cancel task %s; it was %s just then", task.task_id, seen.state)


def _is_ours(entry: Entry, key: LedgerKey, attempt: Attempt) -> bool:
    record = entry.record
    # What others may reuse is theirs as well: cancelling it would fail a stranger's DAG.
    return key.scope != SHARED_SCOPE and record.state == "submitted" and record.attempt.is_same_try(attempt)
