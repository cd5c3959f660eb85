"""The result of a batch, as the operator pushes it to XCom."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import JsonValue

from airflow_provider_imagegen.schemas.base import Money, PersistedModel


class BatchSummary(PersistedModel):
    """The result of a batch.

    :param dry_run: Whether nothing was sent, because the task only validates.
    :param rows: Number of rows, wrong ones included.
    :param landed: Rows of which every image is in S3, or with ``on_partial="accept"`` at least one.
    :param failed: Rows that ended without.
    :param unknown: Rows of which nobody can tell whether they were billed.
    :param skipped: Wrong rows that were left out (``on_invalid="skip"``).
    :param images: Number of images in S3.
    :param billed: Number of images this task instance has paid for, as far as the gateway tells.
    :param reused: Number of images that were there already.
    :param failed_by_code: Number of rows that have not landed, by code; the rarest together as ``(other)``.
    :param failures: Some of them: row, key, code, message.
    :param usage: Sum of the token counts.
    :param cost: What this task instance has paid for what ``billed`` counts; ``None`` if part of it is not known.
    :param cost_at_least: The part of it that is known.
    :param currency: What costs are in.
    :param created_at: When it was made, ISO 8601, UTC.
    :param elapsed: Seconds from the beginning to the last image landed.
    :param manifest_uri: Address of ``manifest.jsonl``, a line for every row.
    :param manifest_sha256: Hex digest of that file.
    """

    version: Literal[1] = 1
    dry_run: bool = False
    gateway: str
    rows: int
    landed: int
    failed: int
    unknown: int
    skipped: int
    images: int
    billed: int
    reused: int
    failed_by_code: dict[str, int]
    failures: tuple[dict[str, JsonValue], ...]
    usage: dict[str, int]
    created_at: str
    elapsed: float
    manifest_uri: str
    manifest_sha256: str = ""
    cost: Money | None = None
    cost_at_least: Money = Decimal(0)
    currency: str = "USD"
