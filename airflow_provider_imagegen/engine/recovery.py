"""Decide what to do with a ledger record that an earlier attempt left; pure, without any I/O.

The submitter asks :func:`next_action` in a loop until a call is submitted, answered or landed; the budget and the
command line ask the same function. The record, the gateway's capabilities and the user's choices decide:

======================  ===================================  ==========================================================
record                  gateway                              action
======================  ===================================  ==========================================================
just claimed            any                                  :class:`Send`
response lost           looks requests up by trace id        :class:`Find`; otherwise :class:`Stop`
``failed``              any                                  :class:`Renew`: nothing was billed, start over; or
                                                             :class:`Stop`, if a refusal is remembered
``waiting``             any                                  :class:`Reclaim`: it was refused for now, and not sent
``landed``              any                                  :class:`Hand` it out, or :class:`Renew` after a clear
task id known           any                                  :class:`Attach`; :class:`AwaitEnd` if it was cancelled
``claimed``             looks requests up by trace id        :class:`Find`: send only if it does not show up
``claimed``             cannot                               :class:`Wait` for another task instance, then stop or renew
``answered``            cannot                               :class:`Adopt` the image if it reached S3
======================  ===================================  ==========================================================

:class:`Stop` is the honest end where nobody can tell whether a request was billed: the user chooses with
``on_unknown="resubmit"`` to risk a second bill. Guessing is wrong in both directions.

How long a request may stay invisible is the sum of three times (:func:`time_to_show_up`): it may have been sent as
late as its claim's lease allowed, accepted as late as its sender would have waited, and shown as late as the
gateway's ``visibility_grace``. A shorter wait would send again what is about to appear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_provider_imagegen.exceptions import ImageGenError, ModerationBlocked, OutcomeUnknown, PaidImageLost
from airflow_provider_imagegen.gateways.base import Capabilities
from airflow_provider_imagegen.gateways.responses import is_moderation
from airflow_provider_imagegen.ledger.models import Attempt, Entry, LedgerRecord, Reuse

OnUnknown = Literal["fail", "resubmit"]
OnClear = Literal["reuse", "regenerate"]

LANDING = 300.0
"""Seconds within which another task instance lands an image that came with a response."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the user chose for the cases in which there is a choice.

    :param reuse: Who may have an image that is already paid for: this task instance, anyone, or no later try.
    :param on_unknown: What to do where nobody can tell whether a request was accepted.
    :param on_clear: What a cleared task that had succeeded does: hand out the same images, or pay for new ones.
    :param remember_refusals: Seconds for which what the content policy refused is not sent again.
    """

    reuse: Reuse = "task"
    on_unknown: OnUnknown = "fail"
    on_clear: OnClear = "reuse"
    remember_refusals: float = 0.0


@dataclass(frozen=True)
class CallState:
    """What is known of a call: its entry, and the error if this process sent it and no usable response came."""

    entry: Entry
    lost: OutcomeUnknown | None = None


@dataclass(frozen=True)
class Send:
    """This attempt has just claimed it, so nobody else sends it: send it."""


@dataclass(frozen=True)
class Reclaim:
    """The gateway refused it for now: claim it again, and send it without looking for it."""


@dataclass(frozen=True)
class Attach:
    """The gateway has it: wait for this task."""

    task_id: str


@dataclass(frozen=True)
class AwaitEnd:
    """The gateway was asked to cancel it: see what becomes of this task."""

    task_id: str


@dataclass(frozen=True)
class Find:
    """It may have been sent: look for it by trace id, and send only if it does not show up."""


@dataclass(frozen=True)
class Hand:
    """It is in S3: hand it out."""


@dataclass(frozen=True)
class Wait:
    """Somebody else may just be at it, and the gateway cannot be asked: read the record again."""


@dataclass(frozen=True)
class Adopt:
    """It came with the response: it is in S3 if it was put, and nowhere else."""


@dataclass(frozen=True)
class Renew:
    """This generation is over: start the next one."""


@dataclass(frozen=True)
class Stop:
    """Nobody can tell whether it was paid: stop."""

    error: ImageGenError


Action = Send | Reclaim | Attach | AwaitEnd | Adopt | Wait | Find | Hand | Renew | Stop


def lease_time(visibility_grace: float) -> float:
    """Return for how many seconds a claim entitles to send."""
    return visibility_grace / 2


def time_to_show_up(visibility_grace: float, timeout: float) -> float:
    """Return within how many seconds of its claim a request shows up, if it was ever sent.

    It may have been sent as late as its lease allowed, and accepted as late as its sender would have waited for
    the response, even if that did not live to see it.

    :param visibility_grace: Seconds an accepted request may stay invisible to lookups.
    :param timeout: Seconds the gateway may stay silent.
    """
    return lease_time(visibility_grace) + timeout + visibility_grace


def next_action(  # noqa: PLR0911 - one return for each action
    state: CallState, attempt: Attempt, capabilities: Capabilities, policy: Policy, timeout: float
) -> Action:
    """Return what to do about a call, if the gateway may stay silent for so many seconds."""
    entry, record = state.entry, state.entry.record
    if state.lost is not None:
        # Sending again without looking would pay twice for every response that was lost on its way back.
        return Find() if capabilities.look_up_by_trace_id else Stop(state.lost)
    if entry.is_new:
        return Send()
    if entry.age < policy.remember_refusals and (refusal := _refusal(record)) and not _was_cleared(record, attempt):
        return Stop(refusal)
    # Nothing was billed in the first case, and the user asked for new images in the second: no other record is renewed.
    if record.state == "failed" or _must_regenerate(record, attempt, policy):
        return Renew()
    if record.state == "waiting":
        return Reclaim()
    if record.state == "landed":
        return Hand()
    if record.task_id is not None:
        return _go_on_with(record, record.task_id, policy)
    if capabilities.look_up_by_trace_id:
        return Find()
    # A gateway that cannot be asked leaves only the ledger: whoever claimed may be sending or landing this moment.
    if record.attempt.instance != attempt.instance and entry.age < (timeout if record.state == "claimed" else LANDING):
        return Wait()
    return Adopt() if record.state == "answered" else _resubmit_or_stop(record, policy)


def _go_on_with(record: LedgerRecord, task_id: str, policy: Policy) -> Action:
    # A failure on a submitted record: the gateway has an image that cannot be landed. Only the user may give it up.
    if record.failure is not None and policy.on_unknown == "resubmit":
        return Renew()
    # Cancelled and generated again too early, both would be billed.
    return AwaitEnd(task_id) if record.state == "cancelling" else Attach(task_id)


def when_gone(record: LedgerRecord, policy: Policy) -> Renew | Stop:
    """Return what to do about a record whose images were paid for and are not in S3."""
    # Landed once and deleted since: the user had the image, and asking for it again is their choice. One that never
    # got there is a loss, which only `on_unknown` may pay for.
    return Renew() if record.state == "landed" else _resubmit_or_stop(record, policy)


def is_held_by_older_epoch(record: LedgerRecord, attempt: Attempt, policy: Policy) -> bool:
    """Return whether what a cleared task attaches to must be noted as its own.

    Else what an older try lands in its place would count as made before the clear, and a retry would pay for another.

    """
    is_older = record.attempt.instance == attempt.instance and record.attempt.epoch < attempt.epoch
    return is_older and policy.on_clear == "regenerate"


def _resubmit_or_stop(record: LedgerRecord, policy: Policy) -> Renew | Stop:
    return Renew() if policy.on_unknown == "resubmit" else Stop(_unknown_outcome(record))


def _must_regenerate(record: LedgerRecord, attempt: Attempt, policy: Policy) -> bool:
    return record.state == "landed" and policy.on_clear == "regenerate" and _was_cleared(record, attempt)


def _was_cleared(record: LedgerRecord, attempt: Attempt) -> bool:
    """Return whether somebody has cleared the task since, or instead of, the try that a record is of."""
    return attempt.epoch > (record.attempt.epoch if record.attempt.instance == attempt.instance else 0)


def _refusal(record: LedgerRecord) -> ImageGenError | None:
    """Return the content policy's refusal that a record tells; ``None`` if it tells none."""
    failure = record.failure if record.state == "failed" else None
    if failure is None or not (is_moderation(failure.code) or failure.code == ModerationBlocked.kind):
        return None
    origin = f"{record.attempt.dag_id}.{record.attempt.task_id} in run {record.attempt.run_id}"
    return ModerationBlocked(
        f"not sent, because {origin} was refused with the same request: {failure.message}",
        gateway=record.gateway,
        code=failure.code,
        advice="Reword the prompt; clear the task, or shorten remember_refusals, to send the same again.",
    )


def _unknown_outcome(record: LedgerRecord) -> ImageGenError:
    origin = f"try {record.attempt.try_number} of {record.attempt.dag_id}.{record.attempt.task_id}"
    if record.state == "answered":
        return PaidImageLost(
            f"{origin} got the image and did not land it; {record.gateway} keeps no copy to fetch",
            gateway=record.gateway,
            trace_id=record.trace_id,
        )
    return OutcomeUnknown(
        f"{origin} left no outcome of its request, and {record.gateway} cannot look requests up",
        gateway=record.gateway,
        trace_id=record.trace_id,
    )
