"""What a record means to people: how it stands, what it cost, what to do next; decisions without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from airflow_provider_imagegen.cli.records import Filed
from airflow_provider_imagegen.engine.recovery import time_to_show_up
from airflow_provider_imagegen.gateways.base import Capabilities
from airflow_provider_imagegen.gateways.settings import DEFAULT_VISIBILITY_GRACE
from airflow_provider_imagegen.ledger.models import LedgerKey, LedgerRecord, Reuse, State
from airflow_provider_imagegen.schemas import ImageTask

Standing = State | Literal["unknown"]


@dataclass(frozen=True, kw_only=True)
class Lookups:
    """What asking a gateway can bring.

    :param name: The gateway's name.
    :param by_trace_id: It finds requests by a trace id of ours.
    :param grace: Seconds after which a claimed request must have left, and shows up if it was accepted.
    :param base_url: Where it is asked; ``None`` if it is not.
    """

    name: str
    by_trace_id: bool
    grace: float
    base_url: str | None = None

    @classmethod
    def of(
        cls, name: str, capabilities: Capabilities, timeout: float, visibility_grace: float = DEFAULT_VISIBILITY_GRACE
    ) -> Lookups:
        """Tell it from what a gateway can do.

        :param timeout: Seconds the gateway may be silent; one without tasks is silent while it generates.
        :param visibility_grace: As the connection says.
        """
        grace = time_to_show_up(visibility_grace, timeout)
        return cls(name=name, by_trace_id=capabilities.look_up_by_trace_id, grace=grace)

    def reaches(self, record: LedgerRecord) -> bool:
        """Return whether a record's request was sent to this gateway, at this address."""
        elsewhere = record.base_url and self.base_url and record.base_url != self.base_url
        return record.gateway == self.name and not elsewhere


def standing(record: LedgerRecord, lookups: Lookups, now: float) -> Standing:
    """Return the record's state, or ``unknown`` for a claim too old to be still on its way."""
    is_old = now - record.claimed_at > lookups.grace
    return "unknown" if record.state == "claimed" and is_old else record.state


def reuse_of(record: LedgerRecord) -> Reuse:
    """Return the ``reuse`` of the operator that claimed it, derived from its ledger key."""
    choices: tuple[Reuse, ...] = ("always", "never")
    for reuse in choices:
        if str(LedgerKey.of(record.attempt, reuse, record.item, record.fingerprint)) == record.key:
            return reuse
    return "task"


def next_step(filed: Filed, lookups: Lookups, now: float) -> str:
    """Return what to do about a record, in words."""
    record = filed.record
    if record.state not in ("landed", "submitted") and filed.place.newest > record.generation:
        return f"Nothing: generation {filed.place.newest} took its place. {_bill_of_old(record)}"
    match standing(record, lookups, now):
        case "landed":
            words = _when_landed(record)
        case "failed":
            words = (
                "Nothing was billed. See to what failure says, then clear the task: it asks again, and that is paid."
            )
        case "submitted":
            words = f"Free to get: {_pick_up(record)} `reconcile` tells whether the gateway has finished it."
        case "cancelling":
            words = "The gateway was asked to cancel it. Clear the task: it gets the image if that came too late."
        case "answered":
            words = _when_answered(record)
        case "claimed":
            words = f"Wait: it is being sent, or was just now. Look again in {lookups.grace:.0f} s."
        case "unknown":
            words = _when_unknown(record, lookups)
    return words


def asked_how(filed: Filed, lookups: Lookups, now: float) -> Literal["trace_id", "id", "not"]:
    """Return what to look a record up by."""
    if not lookups.reaches(filed.record):
        return "not"
    match standing(filed.record, lookups, now):
        case "unknown" if lookups.by_trace_id:
            return "trace_id"
        case "submitted" | "cancelling" | "answered" if filed.record.task_id:
            return "id"
    return "not"


@dataclass(frozen=True)
class Finding:
    """What asking brought for one record.

    :param found: In a few words.
    :param advice: What to do next.
    :param changes: What to note in the record.
    """

    found: str
    advice: str
    changes: dict[str, Any]


def finding(filed: Filed, task: ImageTask | None, lookups: Lookups, now: float) -> Finding:
    """Judge an open record by what the gateway shows.

    :param task: What the lookup showed; ``None`` if the record could not be looked up.
    """
    record = filed.record
    if not lookups.reaches(record):
        address = f"{record.gateway} at {record.base_url}" if record.base_url else record.gateway
        return Finding(f"skipped: sent to {record.gateway}", f"Reconcile with a connection to {address}.", {})
    if task is None:
        return Finding(_why_not_asked(record, lookups, now), next_step(filed, lookups, now), {})
    return _shown(record, task)


def _shown(record: LedgerRecord, task: ImageTask) -> Finding:
    is_news = record.task_id is None or (record.state == "cancelling" and task.state == "failed")
    if task.state == "unseen":
        return _never_accepted() if is_news else _no_longer_shown(record)
    if task.task_id is None:
        return Finding("cannot be understood", "The gateway's response names no task: reconcile again later.", {})
    known = {"task_id": task.task_id} if is_news else {}
    if task.state == "failed":
        changes = {"state": "failed", "failure": task.failure, **known} if is_news else {}
        why = f" ({task.failure.code}: {task.failure.message})" if task.failure else ""
        return Finding("failed, not billed", f"Clear the task: it asks again, and that is paid{why}.", changes)
    changes = {"state": "submitted", **known} if is_news else {}
    if task.state == "succeeded":
        return Finding("finished: paid, not landed", f"Free to get: {_pick_up(record)}", changes)
    return Finding("running", f"Wait, or: {_pick_up(record)}", changes)


def iso(moment: float) -> str:
    """Return unix seconds as ISO 8601, UTC."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _pick_up(record: LedgerRecord) -> str:
    if reuse_of(record) == "never":
        return (
            f"if the try that asked still runs, it lands it. No later try does (reuse='never'), and clearing the task "
            f"pays for a new image: fetch this one from {record.gateway} by hand."
        )
    return "if the Airflow task is not running any more, clear it: it lands the image without paying."


def _when_landed(record: LedgerRecord) -> str:
    if reuse_of(record) == "never":
        return "Nothing: paid and in S3. Clearing the task pays for a new image (reuse='never')."
    return "Nothing: paid and in S3. Clearing the task hands out the same image unless on_clear='regenerate'."


def _when_answered(record: LedgerRecord) -> str:
    if record.task_id is not None:
        return f"Paid: {_pick_up(record)}"
    again = "" if reuse_of(record) == "never" else "set on_unknown='resubmit' on the operator and "
    return (
        f"Paid; the image came with the response. If the Airflow task is running, it is landing it: wait. If not, "
        f"clear the task: it hands the image out if it got into S3. Otherwise it is lost; {record.gateway} keeps no "
        f"copy: to pay for a new one, {again}clear the task."
    )


def _when_unknown(record: LedgerRecord, lookups: Lookups) -> str:
    may_be_sending = "If the Airflow task is running, wait. If not: "
    if lookups.by_trace_id:
        step = "run `airflow imagegen ledger reconcile`, which asks the gateway for free"
        if reuse_of(record) == "never":
            return f"{may_be_sending}{step}, before you clear the task: clearing pays for a new image (reuse='never')."
        return (
            f"{may_be_sending}{step}, or just clear the task: it asks first as well, and pays only if the gateway "
            f"never got the request."
        )
    looked_for = (
        f"{record.gateway} cannot look requests up. See on its usage page whether it billed a request near "
        f"{iso(record.claimed_at)} (x-client-request-id {record.trace_id}); such an image is lost. "
    )
    if reuse_of(record) == "never":
        return f"{may_be_sending}{looked_for}Clearing the task sends the request again, and that is paid."
    return (
        f"{may_be_sending}{looked_for}To send it again, and pay for it, set on_unknown='resubmit' on the operator and "
        f"clear the task. Clearing it without that fails again and costs nothing."
    )


def _why_not_asked(record: LedgerRecord, lookups: Lookups, now: float) -> str:
    match standing(record, lookups, now):
        case "claimed":
            return "too new to tell"
        case "answered":
            return "paid, not landed"
    return f"{record.gateway} cannot look it up"


def _never_accepted() -> Finding:
    advice = "Nothing was billed. If the Airflow task is not running, clear it: it sends the request, once."
    return Finding("never accepted", advice, {})


def _no_longer_shown(record: LedgerRecord) -> Finding:
    advice = (
        f"Right connection? The gateway shows no task {record.task_id} to this one. If it is the right one, ask the "
        f"gateway's support what became of it (trace {record.trace_id}); clearing the task does not pay again."
    )
    return Finding("not shown", advice, {})


def _bill_of_old(record: LedgerRecord) -> str:
    if record.state == "claimed":
        return "Whether this one was billed too, only the gateway's bill can tell."
    return "This one was paid too." if record.billed else "This one was not billed."
