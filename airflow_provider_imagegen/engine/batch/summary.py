"""The end of a batch, without any I/O: its results in a few numbers for XCom, and whether they are an error."""

from __future__ import annotations

from collections import Counter
from copy import copy
from typing import Literal

from pydantic import JsonValue

from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.engine.outcome import OnPartial
from airflow_provider_imagegen.exceptions import (
    Billed,
    ImageGenError,
    IncompleteBatch,
    ModerationBlocked,
    PartialDelivery,
    TaskStopped,
)
from airflow_provider_imagegen.money import NOTHING, Cost
from airflow_provider_imagegen.redaction import short_in_json
from airflow_provider_imagegen.schemas.batch import BatchSummary

OnModeration = Literal["fail", "skip"]

MAX_FAILURES_SHOWN = 20
MAX_CODES = 50
MAX_USAGE_FIELDS = 30
OTHER_CODES = "(other)"

# Bytes of a text as JSON writes it: every limit above times these stays far below what an XCom should hold.
_MESSAGE_BYTES, _NAME_BYTES, _CODE_BYTES = 300, 420, 100
_CODES_IN_MESSAGE = 5


class Tally:
    """Counts results one by one."""

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._usage: Counter[str] = Counter()
        self._failures: list[dict[str, JsonValue]] = []
        self.images = self.billed = self.reused = 0
        self.moderated = self.retryable = self.stopped = 0
        self.cost = NOTHING

    def __getitem__(self, status: str) -> int:
        return self._states[status]

    def add(self, result: RowResult) -> None:
        """Count one more."""
        self._states[result.status] += 1
        self.images += len(result.images)
        self.billed += result.billed
        # One row of unknown cost makes the total unknown: a sum of the others would be read as the bill.
        self.cost += Cost(result.cost_at_least if result.cost is None else result.cost, result.cost is not None)
        self.reused += sum(image.reused for image in result.images)
        self._usage.update({name: number for name, number in result.usage.items() if type(number) is int})
        if result.status in {"failed", "unknown"}:
            self._add_failure(result)

    def summary(
        self, *, gateway: str, created_at: str, elapsed: float, manifest_uri: str, manifest_sha256: str, currency: str
    ) -> BatchSummary:
        """Sum up."""
        usage = {short_in_json(name, _CODE_BYTES): count for name, count in self._usage.most_common(MAX_USAGE_FIELDS)}
        return BatchSummary(
            gateway=gateway,
            rows=self._states.total(),
            landed=self["landed"],
            failed=self["failed"],
            unknown=self["unknown"],
            skipped=self["skipped"],
            images=self.images,
            billed=self.billed,
            reused=self.reused,
            failed_by_code=self._failed_by_code(),
            failures=tuple(self._failures),
            usage=usage,
            created_at=created_at,
            elapsed=elapsed,
            manifest_uri=manifest_uri,
            manifest_sha256=manifest_sha256,
            cost=self.cost.total,
            cost_at_least=self.cost.known,
            currency=currency,
        )

    def _add_failure(self, result: RowResult) -> None:
        self.moderated += result.is_moderated
        self.retryable += result.retryable
        self.stopped += TaskStopped.kind in {result.code, *(missing.kind for missing in result.failures)}
        code = short_in_json(result.code or "", _CODE_BYTES)
        self._codes[code] += 1
        if len(self._failures) < MAX_FAILURES_SHOWN:
            name, message = short_in_json(result.key, _NAME_BYTES), short_in_json(result.message or "", _MESSAGE_BYTES)
            self._failures.append({"row": result.row, "key": name, "code": code, "message": message})

    def _failed_by_code(self) -> dict[str, int]:
        shown = dict(self._codes.most_common(MAX_CODES))
        if others := self._codes.total() - sum(shown.values()):
            shown[OTHER_CODES] = shown.get(OTHER_CODES, 0) + others
        return shown


def error_for(
    summary: BatchSummary,
    tally: Tally,
    *,
    on_partial: OnPartial,
    on_moderation: OnModeration,
    stopped_by: ImageGenError | None = None,
) -> ImageGenError | None:
    """Return the error that reports missing rows, with the summary; ``None`` if what landed is enough."""
    # What the content policy refuses once, it refuses again.
    excused = tally.moderated if on_moderation == "skip" else 0
    missing = summary.failed + summary.unknown - excused
    message = _message(summary)
    error: ImageGenError
    if excused and not missing and not summary.images:
        error = ModerationBlocked(message)
    # A worker that stops in the middle is nothing that a user has accepted: the retry sends the rest.
    elif not missing or (
        summary.images and on_partial == "accept" and not (tally.stopped or isinstance(stopped_by, TaskStopped))
    ):
        return None
    elif stopped_by is not None:
        error = copy(stopped_by)
        error.message = f"{stopped_by.message}; {message}"
    elif tally.retryable:
        advice = "A retry does only what is missing; pass on_partial='accept' to go on with fewer."
        error = PartialDelivery(message, gateway=summary.gateway, advice=advice)
    else:
        # No row would end otherwise in a retry, so Airflow is to make none.
        error = IncompleteBatch(message, gateway=summary.gateway)
    error.billed, error.result = _billed(summary), summary
    return error


def _message(summary: BatchSummary) -> str:
    codes = sorted(summary.failed_by_code.items(), key=lambda item: -item[1])
    reasons = ", ".join(f"{count} {code}" for code, count in codes[:_CODES_IN_MESSAGE])
    more = ", …" if len(codes) > _CODES_IN_MESSAGE else ""
    landed = f"{summary.landed} of {summary.rows} rows landed ({reasons}{more})"
    return f"{landed}; {summary.images} images in S3, {summary.billed} billed; row by row: {summary.manifest_uri}"


def _billed(summary: BatchSummary) -> Billed:
    if summary.unknown:
        return "unknown"
    return "yes" if summary.billed else "no"
