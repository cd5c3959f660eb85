"""The result of a batch in a few numbers: what the operator pushes to XCom, however many rows there are."""

from __future__ import annotations

from collections import Counter

from pydantic import JsonValue

from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.money import NOTHING, Cost
from airflow_provider_imagegen.redaction import short_in_json
from airflow_provider_imagegen.schemas.batch import BatchSummary

MAX_FAILURES_SHOWN = 20
MAX_CODES = 50
MAX_USAGE_FIELDS = 30
OTHER_CODES = "(other)"

# Bytes of a text as JSON writes it: every limit above times these stays far below what an XCom should hold.
_MESSAGE_BYTES, _NAME_BYTES, _CODE_BYTES = 300, 420, 100


class Tally:
    """Counts results one by one."""

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._usage: Counter[str] = Counter()
        self._failures: list[dict[str, JsonValue]] = []
        self.images = self.billed = self.reused = 0
        self.moderated = self.retryable = 0
        self.cost = NOTHING

    def __getitem__(self, status: str) -> int:
        return self._states[status]

    def add(self, result: RowResult) -> None:
        """Count one more."""
        self._states[result.status] += 1
        self.images += len(result.images)
        self.billed += result.billed
        self.cost += Cost(result.cost_at_least if result.cost is None else result.cost, result.cost is not None)
        self.reused += sum(image.reused for image in result.images)
        self._usage.update({name: number for name, number in result.usage.items() if type(number) is int})
        if result.status in {"failed", "unknown"}:
            self._add_failure(result)

    def summary(
        self, *, gateway: str, created_at: str, elapsed: float, manifest_uri: str, currency: str = "USD"
    ) -> BatchSummary:
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
            usage={
                short_in_json(name, _CODE_BYTES): count for name, count in self._usage.most_common(MAX_USAGE_FIELDS)
            },
            created_at=created_at,
            elapsed=elapsed,
            manifest_uri=manifest_uri,
            cost=self.cost.total,
            cost_at_least=self.cost.known,
            currency=currency,
        )

    def _add_failure(self, result: RowResult) -> None:
        self.moderated += result.is_moderated
        self.retryable += result.retryable
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
