"""The result of a batch in a few numbers: what the operator pushes to XCom, however many rows there are."""

from __future__ import annotations

import json
from collections import Counter
from typing import Literal

from pydantic import JsonValue

from airflow_provider_imagegen.batch.results import RowResult
from airflow_provider_imagegen.schemas.frozen import Kept

MAX_FAILURES_SHOWN = 20
MAX_CODES = 50
MAX_USAGE_FIELDS = 30
OTHER_CODES = "(other)"

# Bytes of a text as JSON writes it: every limit above times these stays far below what an XCom should hold.
_MESSAGE_BYTES, _NAME_BYTES, _CODE_BYTES = 300, 420, 100


class BatchSummary(Kept):
    """The result of a batch.

    :param rows: Number of rows, wrong ones included.
    :param landed: Rows of which every image is in S3.
    :param failed: Rows that ended without.
    :param unknown: Rows of which nobody can tell whether they were billed.
    :param skipped: Wrong rows that were left out (``on_invalid="skip"``).
    :param images: Number of images in S3.
    :param billed: Number of images this task instance has paid for, as far as the gateway tells.
    :param reused: Number of images that were there already.
    :param failed_by_code: Number of rows that have not landed, by code; the rarest together as ``(other)``.
    :param failures: Some of them: row, key, code, message.
    :param usage: Sum of the token counts.
    :param created_at: When it was made, ISO 8601, UTC.
    :param elapsed: Seconds from the beginning to the last image landed.
    :param manifest_uri: Address of ``manifest.jsonl``, a line for every row.
    """

    version: Literal[1] = 1
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


class Tally:
    """Counts results one by one."""

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._usage: Counter[str] = Counter()
        self._failures: list[dict[str, JsonValue]] = []
        self.images = self.billed = self.reused = 0
        self.moderated = self.retryable = 0

    def __getitem__(self, status: str) -> int:
        return self._states[status]

    def add(self, result: RowResult) -> None:
        """Count one more."""
        self._states[result.status] += 1
        self.images += len(result.images)
        self.billed += result.billed
        self.reused += sum(image.reused for image in result.images)
        self._usage.update({name: number for name, number in result.usage.items() if type(number) is int})
        if result.status in {"failed", "unknown"}:
            self._add_failure(result)

    def summary(self, *, gateway: str, created_at: str, elapsed: float, manifest_uri: str) -> BatchSummary:
        """Sum up."""
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
            usage={_short(name, _CODE_BYTES): count for name, count in self._usage.most_common(MAX_USAGE_FIELDS)},
            created_at=created_at,
            elapsed=elapsed,
            manifest_uri=manifest_uri,
        )

    def _add_failure(self, result: RowResult) -> None:
        self.moderated += result.is_moderated
        self.retryable += result.retryable
        code = _short(result.code or "", _CODE_BYTES)
        self._codes[code] += 1
        if len(self._failures) < MAX_FAILURES_SHOWN:
            name, message = _short(result.key, _NAME_BYTES), _short(result.message or "", _MESSAGE_BYTES)
            self._failures.append({"row": result.row, "key": name, "code": code, "message": message})

    def _failed_by_code(self) -> dict[str, int]:
        shown = dict(self._codes.most_common(MAX_CODES))
        if others := self._codes.total() - sum(shown.values()):
            shown[OTHER_CODES] = shown.get(OTHER_CODES, 0) + others
        return shown


def _short(text: str, limit: int) -> str:
    """Return a text that takes at most so many bytes in JSON, whatever its alphabet."""
    if len(json.dumps(text)) <= limit:
        return text
    text = text[:limit]
    while len(json.dumps(f"{text}…")) > limit:
        text = text[: len(text) - max(1, (len(json.dumps(text)) - limit) // 12)]
    return f"{text}…"
