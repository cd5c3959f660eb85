"""What a batch at its end means for its Airflow task: success, or which error; a decision, without any I/O."""

from __future__ import annotations

from copy import copy
from typing import Literal

from airflow_provider_imagegen.engine.batch.summary import Tally
from airflow_provider_imagegen.engine.outcome import OnPartial
from airflow_provider_imagegen.exceptions import (
    Billed,
    ImageGenError,
    IncompleteBatch,
    ModerationBlocked,
    PartialDelivery,
)
from airflow_provider_imagegen.schemas.batch import BatchSummary

OnModeration = Literal["fail", "skip"]

_CODES_SHOWN = 5


def error_for(
    summary: BatchSummary,
    tally: Tally,
    *,
    on_partial: OnPartial,
    on_moderation: OnModeration,
    stopped_by: ImageGenError | None,
) -> ImageGenError | None:
    """Return the error by which missing rows are reported, with the summary; ``None`` if what landed is enough.

    :param summary: What became of the batch.
    :param tally: The counts behind it.
    :param on_partial: Whether fewer rows than asked for are an error, if any landed.
    :param on_moderation: Whether rows that the content policy refused are.
    :param stopped_by: Why the batch stopped sending, if it did.
    """
    excused = tally.moderated if on_moderation == "skip" else 0
    missing = summary.failed + summary.unknown - excused
    error: ImageGenError
    if excused and not missing and not summary.images:
        error = ModerationBlocked(_words(summary))
    elif not missing or (summary.images and on_partial == "accept"):
        return None
    elif stopped_by is not None:
        error = copy(stopped_by)
        error.message = f"{stopped_by.message}; {_words(summary)}"
    else:
        kind = PartialDelivery if tally.retryable else IncompleteBatch
        error = kind(_words(summary), gateway=summary.gateway, advice=_advice(kind))
    error.billed, error.result = _billed(summary), summary
    return error


def _advice(kind: type[PartialDelivery]) -> str:
    if kind is IncompleteBatch:
        return kind.advice
    return "A retry does only what is missing; pass on_partial='accept' to go on with fewer."


def _words(summary: BatchSummary) -> str:
    codes = sorted(summary.failed_by_code.items(), key=lambda item: -item[1])
    reasons = ", ".join(f"{count} {code}" for code, count in codes[:_CODES_SHOWN])
    more = ", …" if len(codes) > _CODES_SHOWN else ""
    landed = f"{summary.landed} of {summary.rows} rows landed ({reasons}{more})"
    return f"{landed}; {summary.images} images in S3, {summary.billed} billed; row by row: {summary.manifest_uri}"


def _billed(summary: BatchSummary) -> Billed:
    if summary.unknown:
        return "unknown"
    return "yes" if summary.billed else "no"
