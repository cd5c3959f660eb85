"""Everything this provider raises, and what each error says about the money.

::

    ImageGenError
    ├── InvalidRequest *          a parameter the model or gateway is known to refuse
    ├── InvalidRows *             rows of a batch that make no request
    ├── RowsUnread                S3 did not hand over the file with a batch's rows
    ├── ConfigurationError *      connection missing or unusable: base URL, token, gateway, S3 credentials
    ├── BudgetExceeded *          it would cost more than budget=, or nobody knows what
    ├── DestinationError *        the bucket is missing or not ours to write
    ├── LedgerError               the ledger in S3 could not be read or written
    │   ├── LedgerConflict        another attempt changed a record first
    │   └── LedgerCorrupt *       a record cannot be understood
    ├── GatewayError
    │   ├── NotSent               no byte left: DNS, refused connection, TLS
    │   │   └── TaskStopped       Airflow stops the worker
    │   ├── AuthenticationError * the gateway does not accept the token
    │   ├── OutOfBalance *        the account has nothing left to spend
    │   ├── RequestRefused *      the gateway refused this request for what it says
    │   │   └── ModerationBlocked *
    │   ├── RateLimited           too many requests, or too many in flight
    │   ├── OutcomeUnknown *      the request left and no usable response came back
    │   ├── LookUpFailed          a task could not be looked up
    │   │   └── UnreadableResponse  the gateway answered something that cannot be understood
    │   ├── UnknownTask           the gateway does not know the task
    │   ├── GenerationFailed      the gateway tried and failed
    │   │   └── FailedElsewhere *   at what another task had submitted
    │   └── TaskTimeout           the deadline passed while the gateway was still generating
    └── LandingError
        ├── PaidImageLost *       a synchronous gateway's image was paid for and is gone
        ├── DownloadFailed        the image could not be fetched whole
        │   ├── ResultExpired     the result's address no longer leads to it
        │   └── ResultHostRefused the result's address leads to a host that is not public
        ├── NotAnImage            what came back is not an acceptable image
        ├── TempFileFailed        a temporary file could not be written: disk full, over quota
        ├── UploadFailed          S3 did not take the object
        │   └── ObjectExists *    something else is there, and replace is False
        └── PartialDelivery       fewer images than asked for
            ├── FewerImages *     because the gateway made no more
            └── IncompleteBatch * rows of a batch are missing, and no retry can get any of them

Errors marked ``*`` are :class:`~airflow.exceptions.AirflowFailException` too: Airflow does not retry
the task, because a retry cannot help (or, for :class:`OutcomeUnknown`, could pay twice).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_imagegen.redaction import foreign_id, foreign_text, redacted, short_value

if TYPE_CHECKING:
    from pydantic import BaseModel

Billed = Literal["yes", "no", "unknown"]

ROWS_SHOWN = 20
"""Wrong rows that are listed one by one."""

# By kind, not by class name: what is stored outlives an upgrade that renames a class. A kind never changes.
_ERRORS: dict[str, type[ImageGenError]] = {}


class ImageGenError(Exception):
    """Base of all errors of this provider.

    Its text reads: what happened (to which task); whether it was billed; what to do. Whoever raises it redacts the
    words of others; whatever still looks like a secret is cut out here, and ids are foreign words too.

    :param message: What happened, in one line.
    :param gateway: Name of the gateway that was spoken to.
    :param task_id: The gateway's id of the task, if one is known.
    :param trace_id: The id this provider or the gateway gave the request.
    :param request_id: The gateway's id of the HTTP request (``x-request-id``).
    :param code: The gateway's own error code, e.g. ``moderation_blocked``.
    :param status: HTTP status of the response.
    :param billed: Whether money was spent on it; the class's own value when omitted.
    :param advice: What to do next; the class's own advice when omitted.
    """

    kind: ClassVar[str] = "ImageGenError"
    """Stable name of this error in stored JSON; a subclass without one of its own is stored as its base."""
    billed: Billed = "no"
    advice: str = ""
    result: BaseModel | None = None
    """Manifest or summary of the images that landed in spite of the error, where there are some."""

    def __init_subclass__(cls, kind: str | None = None) -> None:
        super().__init_subclass__()
        if kind is not None:
            cls.kind = kind
            _ERRORS[kind] = cls

    def __init__(
        self,
        message: str,
        *,
        gateway: str | None = None,
        task_id: str | None = None,
        trace_id: str | None = None,
        request_id: str | None = None,
        code: str | None = None,
        status: int | None = None,
        billed: Billed | None = None,
        advice: str | None = None,
    ) -> None:
        message = foreign_text(message)
        super().__init__(message)
        self.message = message
        self.gateway = gateway
        self.task_id = None if task_id is None else foreign_id(task_id)
        self.trace_id = None if trace_id is None else foreign_id(trace_id)
        self.request_id = None if request_id is None else foreign_id(request_id)
        self.code = None if code is None else redacted(code)
        self.status = status
        self.billed = billed or self.billed
        self.advice = self.advice if advice is None else foreign_text(advice)

    @classmethod
    def of_defect(cls, fault: Exception, billed: Billed = "unknown") -> ImageGenError:
        """Return an error for a defect that none of these classes foresees, of ours or of code that was called."""
        return ImageGenError(redacted(f"{type(fault).__name__}: {fault}"), code=type(fault).__name__, billed=billed)

    def __str__(self) -> str:
        known = {
            "gateway": self.gateway,
            "task": self.task_id,
            "trace": self.trace_id,
            "request": self.request_id,
            "code": self.code,
        }
        origin = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
        what = f"{self.message} ({origin})" if origin else self.message
        return f"{what}; billed: {self.billed}. {self.advice}".rstrip()


_ERRORS[ImageGenError.kind] = ImageGenError


class PermanentError(ImageGenError, AirflowFailException, kind="PermanentError"):
    """An error that a retry of the task cannot cure; Airflow fails the task at once."""


class InvalidRequest(PermanentError, kind="InvalidRequest"):
    """A parameter is known to be wrong; nothing was sent.

    :param field: The parameter's name.
    :param value: What was given.
    :param allowed: What is allowed, in words.
    """

    advice = "Correct the operator's arguments."
    field: str = ""
    value: object = None
    allowed: str = ""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}={short_value(value)} is not allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed

    @classmethod
    def unsupported(cls, field: str, value: object, gateway: str) -> InvalidRequest:
        """Return the refusal of a parameter that a gateway does not support at all."""
        error = cls(field, value, "leave it out")
        error.message = f"{gateway} does not support {field}={short_value(value)}"
        return error

    def __reduce__(self) -> tuple[type[InvalidRequest], tuple[str, object, str], dict[str, object]]:
        return type(self), (self.field, self.value, self.allowed), vars(self)


class InvalidRow(NamedTuple):
    """A row of a batch that makes no request.

    :param place: Where it stands: ``line 7``, or ``requests[6]``.
    :param reason: What is wrong with it, in one line.
    :param number: Position in the batch, from 0; ``None`` if it is no row, as the line that names the columns.
    """

    place: str
    reason: str
    number: int | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class InvalidRows(PermanentError, kind="InvalidRows"):
    """Rows of a batch are wrong; none of it was sent.

    :param rows: All of them.
    :param advice: What to do where going on without them is no way.
    """

    advice = "Correct them, or pass on_invalid='skip' to go on without such rows."
    rows: tuple[InvalidRow, ...] = ()

    def __init__(self, rows: Sequence[InvalidRow], advice: str | None = None) -> None:
        super().__init__("1 row is wrong" if len(rows) == 1 else f"{len(rows)} rows are wrong", advice=advice)
        self.rows = tuple(rows)

    def __str__(self) -> str:
        shown = [str(row) for row in self.rows[:ROWS_SHOWN]]
        if more := len(self.rows) - len(shown):
            shown.append(f"… and {more} more")
        return "\n  ".join([super().__str__(), *shown])

    def __reduce__(self) -> tuple[type[InvalidRows], tuple[tuple[InvalidRow, ...]], dict[str, object]]:
        return type(self), (self.rows,), vars(self)


class RowsUnread(ImageGenError, kind="RowsUnread"):
    """S3 did not hand over the whole file with a batch's rows; nothing was sent."""

    advice = "Check the AWS connection; a retry reads it again."


class ConfigurationError(PermanentError, kind="ConfigurationError"):
    """A connection is missing or cannot be used as it is; nothing was sent."""

    advice = "Correct the connection."


class BudgetExceeded(PermanentError, kind="BudgetExceeded"):
    """The price is not covered by ``budget``, or is not known; nothing was sent."""

    advice = "Raise budget, or ask for less; what is paid for already is handed out without it."


class DestinationError(PermanentError, kind="DestinationError"):
    """The S3 destination is missing or refuses to be written; noticed before anything is paid."""

    advice = "Correct s3_bucket, s3_key or the AWS connection and its permissions."


class LedgerError(ImageGenError, kind="LedgerError"):
    """The ledger in S3 could not be read or written."""

    advice = "Check the bucket and the AWS connection; a retry goes on where this try stopped."


class LedgerConflict(LedgerError, kind="LedgerConflict"):
    """Another attempt changed a record first."""

    # Not permanent: a retry reads the record again and attaches to what the other attempt submitted.
    billed = "unknown"
    advice = "Another attempt of this task is at work; a retry attaches to what it submitted."


class LedgerCorrupt(LedgerError, PermanentError, kind="LedgerCorrupt"):
    """A record cannot be understood; unreadable is not absent, so nothing is sent."""

    billed = "unknown"
    advice = "Look at the object; delete it only if the gateway shows no request with its trace id."


class GatewayError(ImageGenError, kind="GatewayError"):
    """The gateway could not be reached, refused, or failed."""


class NotSent(GatewayError, kind="NotSent"):
    """The connection failed before any byte of the request left; a retry is safe."""

    advice = "Check that the connection's host can be reached; retrying is safe."


class TaskStopped(NotSent, kind="TaskStopped"):
    """The worker was told to stop (SIGTERM) before this was sent, or before all that was sent had landed."""

    advice = "A retry sends what was not sent, and lands what was."


class AuthenticationError(GatewayError, PermanentError, kind="AuthenticationError"):
    """The gateway does not accept the token."""

    advice = "Correct the connection's password (the API token)."


class OutOfBalance(GatewayError, PermanentError, kind="OutOfBalance"):
    """The gateway's account has nothing left to spend."""

    advice = "Top up the account at the gateway, then clear the task."


class RequestRefused(GatewayError, PermanentError, kind="RequestRefused"):
    """The gateway refused the request for what it says; repeating it would be refused again."""

    advice = "Change the request as the message says."


class ModerationBlocked(RequestRefused, kind="ModerationBlocked"):
    """The gateway's content policy refused the prompt or the image."""

    advice = "Reword the prompt; a retry of the same text would be refused again."


class RateLimited(GatewayError, kind="RateLimited"):
    """Too many requests, or too many in flight; nothing was generated.

    :param retry_after: Seconds the gateway asked to wait, if it said so.
    """

    advice = "Wait, or lower the number of requests in flight; retrying is safe."
    retry_after: float | None = None


NOT_NOW = (NotSent, RateLimited)
"""Certainly not accepted, and not refused for what it says: the same request may be sent again."""


class OutcomeUnknown(GatewayError, PermanentError, kind="OutcomeUnknown"):
    """The request left, and whether the gateway accepted it is unknown."""

    # Not retried: the gateway may have accepted and billed a request whose response was lost (time-out, reset, 5xx),
    # and none of the known ones takes an idempotency key.
    billed = "unknown"
    advice = "See at the gateway whether it was billed; on_unknown='resubmit' and a clear pay for a new image."


class LookUpFailed(GatewayError, kind="LookUpFailed"):
    """A submitted task could not be looked up."""

    billed = "unknown"
    advice = "The task goes on at the gateway; a retry looks it up again."


class UnreadableResponse(LookUpFailed, kind="UnreadableResponse"):
    """The gateway answered something that cannot be understood."""


class UnknownTask(GatewayError, kind="UnknownTask"):
    """The gateway does not know the task, even after the time it may take to become visible."""

    # Not permanent: looking again is free, and the gateway may only be slow to show what it has accepted and bills.
    billed = "unknown"
    advice = "A retry looks again and pays nothing; on_unknown='resubmit' pays for a new image."


class GenerationFailed(GatewayError, kind="GenerationFailed"):
    """The gateway tried and failed; failures are not billed."""

    advice = "A retry starts a new generation."


class FailedElsewhere(GenerationFailed, PermanentError, kind="FailedElsewhere"):
    """The gateway tried and failed at what another task, or somebody else, had submitted: a retry sees the same."""

    advice = "Clear the task that submitted it: it starts a new generation."

    @classmethod
    def of(cls, error: ImageGenError) -> ImageGenError:
        """Return an error as it looks to a task that did not submit: a failed generation stays failed."""
        if type(error) is not GenerationFailed:
            return error
        seen = cls(error.message, code=error.code, billed=error.billed)
        seen.gateway, seen.task_id, seen.trace_id = error.gateway, error.task_id, error.trace_id
        seen.result = error.result
        return seen


class TaskTimeout(GatewayError, kind="TaskTimeout"):
    """The deadline passed while the gateway was still generating."""

    billed = "unknown"
    advice = "Clear the task: it attaches to what was submitted and pays nothing. A longer timeout waits longer."


class LandingError(ImageGenError, kind="LandingError"):
    """A generated image did not reach S3."""

    billed = "yes"
    advice = "A retry lands it again."


class PaidImageLost(LandingError, PermanentError, kind="PaidImageLost"):
    """An image came with the response to the submit, was paid for, and did not reach S3."""

    # Permanent, because a retry of its own accord would pay a second time.
    advice = "Pass on_unknown='resubmit' and clear the task to pay for a new one."


class DownloadFailed(LandingError, kind="DownloadFailed"):
    """The image could not be fetched whole from the address the gateway gave."""


class ResultExpired(DownloadFailed, kind="ResultExpired"):
    """The result's address no longer leads to the image."""

    advice = "Ask the gateway's support with the task id; on_unknown='resubmit' pays for a new image."


class ResultHostRefused(DownloadFailed, kind="ResultHostRefused"):
    """The result's address, or a redirect of it, leads to a host that is not public; it was not connected to."""

    advice = "A retry lands the image once its host is allowed."


class NotAnImage(LandingError, kind="NotAnImage"):
    """The result is not an image, is cut off, or is larger than allowed."""

    advice = "A retry fetches it again; on_unknown='resubmit' pays for a new image."


class UploadFailed(LandingError, kind="UploadFailed"):
    """S3 did not take the object."""

    advice = "Check the bucket and the AWS connection."


class ObjectExists(UploadFailed, PermanentError, kind="ObjectExists"):
    """Something else is where the image belongs, and ``replace`` is False."""

    advice = "Move it away or pass replace=True, and clear the task: the paid image is then uploaded."


class TempFileFailed(LandingError, kind="TempFileFailed"):
    """A temporary file could not be written or read: the disk is full, over quota, or broken."""

    advice = "Free space there or point TMPDIR elsewhere; a retry lands what the gateway still keeps."


class PartialDelivery(LandingError, kind="PartialDelivery"):
    """Fewer images were delivered than asked for, and ``on_partial`` is ``fail``."""

    advice = "The delivered ones are in S3; pass on_partial='accept' to go on with fewer."


class FewerImages(PartialDelivery, PermanentError, kind="FewerImages"):
    """The gateway made fewer images than it was asked for, which a retry of the same request does not change."""


class IncompleteBatch(PartialDelivery, PermanentError, kind="IncompleteBatch"):
    """Rows of a batch are missing, and a retry would end as this try did."""

    advice = "Correct the rows that manifest.jsonl says are wrong, and clear the task: what landed is not paid again."


def restored_error(kind: str, message: str, *, gateway: str, code: str, billed: Billed) -> ImageGenError:
    """Return an error that was stored; :class:`GenerationFailed` if its kind is another release's."""
    found = _ERRORS.get(kind, GenerationFailed)
    error = found.__new__(found)
    # Not the constructor of its class: some take what was wrong instead of a message, and that is not stored.
    ImageGenError.__init__(error, message, gateway=gateway, code=code, billed=billed)
    return error
