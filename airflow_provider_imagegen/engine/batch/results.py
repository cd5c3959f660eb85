"""The result of a row, a JSON line of ``manifest.jsonl``; and a row that waits, a line of the checkpoint."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import Field, JsonValue

from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.exceptions import ImageGenError, InvalidRow, ModerationBlocked, PermanentError
from airflow_provider_imagegen.gateways.responses import is_moderation
from airflow_provider_imagegen.schemas import LandedImage, Manifest, MissingImage, Submission
from airflow_provider_imagegen.schemas.base import Money, PersistedModel, time_now

RowStatus = Literal["landed", "failed", "unknown", "skipped"]


class RowResult(PersistedModel):
    """One line of ``manifest.jsonl``; every line has all fields, as ``manifest.json`` has.

    :param row: Position of the row in the batch, from 0.
    :param status: ``landed``: all of its images are in S3, or with ``on_partial="accept"`` at least one; ``unknown``:
        nobody can tell whether it was billed; ``skipped``: it is invalid, and ``on_invalid`` is ``skip``.
    :param images: What is in S3, also where something else is missing.
    :param code: Why it has not landed, in one word.
    :param retryable: Whether another try may cure it.
    :param billed: Number of images that this task instance has paid for.
    :param cost: What this task instance has paid for it; ``None`` if part of it is not known.
    :param cost_at_least: The part of it that is known.
    :param fingerprint: Hash of everything that decides what the image is.
    :param request: What was asked for, without secrets.
    :param created_at: When it ended, ISO 8601, UTC; ``None`` if an earlier release wrote it.
    """

    row: int
    key: str
    status: RowStatus
    images: tuple[LandedImage, ...] = ()
    failures: tuple[MissingImage, ...] = ()
    code: str | None = None
    message: str | None = None
    retryable: bool = False
    billed: int = 0
    usage: dict[str, JsonValue] = Field(default_factory=dict)
    cost: Money | None = None
    cost_at_least: Money = Decimal(0)
    fingerprint: str = ""
    request: dict[str, JsonValue] = Field(default_factory=dict)
    created_at: str | None = None

    @classmethod
    def of(cls, row: Row, manifest: Manifest, error: ImageGenError | None) -> RowResult:
        """Return the result of a row of which something may be in S3.

        :param error: Why that is not enough; ``None`` if it is.
        """
        # Images, failures, bill and fingerprint: a field that both models get is carried over without a word here.
        facts = {name: getattr(manifest, name) for name in cls.model_fields.keys() & Manifest.model_fields.keys()}
        status = {"status": "landed"} if error is None else _why(error, manifest.failures)
        return cls(row=row.number, key=row.key, request=row.request.described(), **facts, **status)

    @classmethod
    def refused(cls, row: Row, error: ImageGenError) -> RowResult:
        """Return the result of a row of which nothing came."""
        # A cost of None is an unknown one. Zero would tell the user that an unanswered request was free.
        cost = Decimal(0) if error.billed == "no" else None
        facts = {"request": row.request.described(), "created_at": time_now(), **_why(error, ())}
        return cls(row=row.number, key=row.key, cost=cost, **facts)

    @classmethod
    def skipped(cls, row: InvalidRow) -> RowResult:
        """Return the result of a row that makes no request."""
        why = {"status": "skipped", "code": "invalid", "message": str(row)}
        return cls(row=row.number or 0, key="", cost=Decimal(0), created_at=time_now(), **why)

    @property
    def is_moderated(self) -> bool:
        """Whether the gateway's content policy refused it."""
        return self.status == "failed" and (is_moderation(self.code) or self.code == ModerationBlocked.kind)


class OpenRow(PersistedModel):
    """A row that waits at the gateway while the Airflow task is deferred, by its position in the batch."""

    row: int
    submission: Submission


def _why(error: ImageGenError, missing: tuple[MissingImage, ...]) -> dict[str, Any]:
    codes = [entry.code for entry in missing]
    is_unknown = error.billed == "unknown" or any(entry.billed == "unknown" for entry in missing)
    return {
        "status": "unknown" if is_unknown else "failed",
        "code": error.code or (codes[0] if codes else error.kind),
        "message": error.message,
        "retryable": not isinstance(error, PermanentError),
    }
