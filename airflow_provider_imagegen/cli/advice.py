"""Say what to do about a ledger record: what the next try of its task would do; decisions without I/O.

The step is that of :func:`~airflow_provider_imagegen.engine.recovery.next_action`, which the submitter takes. Rules of
this module's own would one day promise what a task does not do, and people clear tasks on that promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from airflow_provider_imagegen.cli.records import StoredRecord
from airflow_provider_imagegen.engine import recovery
from airflow_provider_imagegen.gateways.base import Capabilities
from airflow_provider_imagegen.gateways.settings import DEFAULT_VISIBILITY_GRACE
from airflow_provider_imagegen.ledger.models import LedgerKey, LedgerRecord, Reuse, State
from airflow_provider_imagegen.schemas import ImageTask

ShownState = State | Literal["unknown"]

_LANDS = "if the Airflow task is not running any more, clear it: it lands the image without paying."
_BY_HAND = (
    "if the try that asked still runs, it lands it. No later try does (reuse='never'), and clearing the task "
    "pays for a new image: fetch this one from {gateway} by hand."
)
_ADOPT = (
    "Paid; the image came with the response. If the Airflow task is running, it is landing it: wait. If not, clear the "
    "task: it hands the image out if it got into S3. Otherwise it is lost; {gateway} keeps no copy: to pay for a new "
    "one, "
)
_FIND = (
    "If the Airflow task is running, wait. If not: run `airflow imagegen ledger reconcile`, which asks the gateway for "
    "free, "
)
_STOP = (
    "If the Airflow task is running, wait. If not: {gateway} cannot look requests up. See on its usage page whether it "
    "billed a request near {claimed} (x-client-request-id {trace_id}); such an image is lost. "
)
_FAILED = "Nothing was billed. See to what failure says, then clear the task: it asks again, and that is paid."
_WAITING = (
    "Nothing was billed: the gateway had no free slot, or could not be reached. If the Airflow task is running or "
    "deferred, wait: it sends the request again. If not, clear it."
)
_CANCELLING = "The gateway was asked to cancel it. Clear the task: it gets the image if that came too late."

# What to do by the step that the next try takes; second, where reuse="never" keeps it from finding the record.
_ADVICE: dict[type[recovery.Action], tuple[str, str]] = {
    recovery.Hand: (
        "Nothing: paid and in S3. Clearing the task hands out the same image unless on_clear='regenerate'.",
        "Nothing: paid and in S3. Clearing the task pays for a new image (reuse='never').",
    ),
    recovery.Renew: (_FAILED, _FAILED),
    recovery.Reclaim: (_WAITING, _WAITING),
    recovery.Attach: (_LANDS, _BY_HAND),
    recovery.AwaitEnd: (_CANCELLING, _CANCELLING),
    recovery.Adopt: (
        f"{_ADOPT}set on_unknown='resubmit' on the operator and clear the task.",
        f"{_ADOPT}clear the task.",
    ),
    recovery.Find: (
        f"{_FIND}or just clear the task: it asks first as well, and pays only if the gateway never got the request.",
        f"{_FIND}before you clear the task: clearing pays for a new image (reuse='never').",
    ),
    recovery.Stop: (
        f"{_STOP}To send it again, and pay for it, set on_unknown='resubmit' on the operator and clear the task. "
        "Clearing it without that fails again and costs nothing.",
        f"{_STOP}Clearing the task sends the request again, and that is paid.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class AskedGateway:
    """What asking a gateway can bring; one without tasks may be silent for its whole timeout."""

    name: str
    capabilities: Capabilities
    timeout: float
    visibility_grace: float = DEFAULT_VISIBILITY_GRACE
    base_url: str | None = None
    account: str = ""

    @property
    def grace(self) -> float:
        """Seconds after which a claimed request must have left, and shows up if it was accepted."""
        return recovery.time_to_show_up(self.visibility_grace, self.timeout)

    def reaches(self, record: LedgerRecord) -> bool:
        """Return whether a record's request was sent to this gateway, at this address or for this account."""
        elsewhere = record.base_url and self.base_url and record.base_url != self.base_url
        return record.gateway == self.name and (not elsewhere or record.account == self.account)


def shown_state(record: LedgerRecord, asked: AskedGateway, now: float) -> ShownState:
    """Return the record's state, or ``unknown`` for a claim too old to be still under way."""
    is_old = now - record.claimed_at > asked.grace
    return "unknown" if record.state == "claimed" and is_old else record.state


def reuse_of(record: LedgerRecord) -> Reuse:
    """Return the ``reuse`` of the operator that claimed it, derived from its ledger key."""
    choices: tuple[Reuse, ...] = ("always", "never")
    for reuse in choices:
        if str(LedgerKey.of(record.attempt, reuse, record.item, record.fingerprint)) == record.key:
            return reuse
    return "task"


def advice_for(stored: StoredRecord, asked: AskedGateway, now: float) -> str:
    """Return what to do about a record, in words."""
    record = stored.record
    if record.state not in ("landed", "submitted") and stored.location.newest > record.generation:
        return f"Nothing: generation {stored.location.newest} took its place. {_bill_of_old(record)}"
    if shown_state(record, asked, now) == "claimed":
        return f"Wait: it is being sent, or was just now. Look again in {asked.grace:.0f} s."
    step = _step(stored, asked)
    words = _words(step, record)
    if not isinstance(step, recovery.Attach):
        return words
    if record.state == "answered":
        return f"Paid: {words}"
    return f"Free to get: {words} `reconcile` shows whether the gateway has finished it."


def asked_how(stored: StoredRecord, asked: AskedGateway, now: float) -> Literal["trace_id", "id", "not"]:
    """Return what to look a record up by."""
    if not asked.reaches(stored.record):
        return "not"
    match _step(stored, asked):
        case recovery.Attach() | recovery.AwaitEnd():
            return "id"
        # A young claim may not have been sent yet: that it does not show up proves nothing.
        case recovery.Find() if shown_state(stored.record, asked, now) != "claimed":
            return "trace_id"
    return "not"


class LookupOutcome(NamedTuple):
    """What asking brought for one record."""

    found: str
    advice: str
    changes: dict[str, Any]


def outcome_of(stored: StoredRecord, task: ImageTask | None, asked: AskedGateway, now: float) -> LookupOutcome:
    """Return what an open record comes to by what the gateway shows; ``None`` where it was not looked up."""
    record = stored.record
    if not asked.reaches(record):
        address = f"{record.gateway} at {record.base_url}" if record.base_url else record.gateway
        return LookupOutcome(f"skipped: sent to {record.gateway}", f"Reconcile with a connection to {address}.", {})
    if task is None:
        state = shown_state(record, asked, now)
        why = {"claimed": "too new to tell", "answered": "paid, not landed"}
        found = why.get(state, f"{record.gateway} cannot look it up")
        return LookupOutcome(found, advice_for(stored, asked, now), {})
    return _shown(record, task)


def _shown(record: LedgerRecord, task: ImageTask) -> LookupOutcome:
    if task.state == "unseen":
        return _not_shown(record)
    if task.task_id is None:
        return LookupOutcome("cannot be understood", "The gateway's response names no task: reconcile again later.", {})
    known = {"task_id": task.task_id} if record.task_id is None else {}
    if task.state == "failed":
        is_news = record.state == "cancelling" or (record.task_id is None and record.state == "claimed")
        changes = {"state": "failed", "failure": task.failure, "task_id": task.task_id} if is_news else {}
        why = f" ({task.failure.code}: {task.failure.message})" if task.failure else ""
        return LookupOutcome("failed, not billed", f"Clear the task: it asks again, and that is paid{why}.", changes)
    changes = {"state": "submitted", **known} if known else {}
    lands = _words(recovery.Attach(task.task_id), record)
    if task.state == "succeeded":
        return LookupOutcome("finished: paid, not landed", f"Free to get: {lands}", changes)
    return LookupOutcome("running", f"Wait, or: {lands}", changes)


def iso(moment: float) -> str:
    """Return unix seconds as ISO 8601, UTC; the number where it is no date, as only somebody else can have written."""
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return str(moment)


def _step(stored: StoredRecord, asked: AskedGateway) -> recovery.Action:
    """Return what the task's next try, or the task once it is cleared, does with the record."""
    state = recovery.CallState(stored.entry)
    return recovery.next_action(state, stored.record.attempt, asked.capabilities, recovery.Policy(), asked.timeout)


def _words(step: recovery.Action, record: LedgerRecord) -> str:
    usual, never = _ADVICE[type(step)]
    text = never if reuse_of(record) == "never" else usual
    return text.format(gateway=record.gateway, trace_id=record.trace_id, claimed=iso(record.claimed_at))


def _not_shown(record: LedgerRecord) -> LookupOutcome:
    # An answered record stands for an image that was paid for: a lookup that does not show it proves nothing.
    if record.task_id is None and record.state == "claimed":
        advice = "Nothing was billed. If the Airflow task is not running, clear it: it sends the request, once."
        return LookupOutcome("never accepted", advice, {})
    advice = (
        f"Right connection? The gateway shows no task {record.task_id or ''} to this one. If it is the right one, ask "
        f"the gateway's support what became of it (trace {record.trace_id}); clearing the task does not pay again."
    )
    return LookupOutcome("not shown", advice, {})


def _bill_of_old(record: LedgerRecord) -> str:
    if record.state == "claimed":
        return "Whether this one was billed too, only the gateway's bill can show."
    return "This one was paid too." if record.billed else "This one was not billed."
