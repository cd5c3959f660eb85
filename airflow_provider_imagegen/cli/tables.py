"""Make lines of a table of records; the words in them come from :mod:`airflow_provider_imagegen.cli.advice`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from airflow_provider_imagegen.cli import advice
from airflow_provider_imagegen.cli.advice import AskedGateway, LookupOutcome
from airflow_provider_imagegen.cli.records import StoredRecord
from airflow_provider_imagegen.ledger.models import LedgerRecord
from airflow_provider_imagegen.redaction import plain_text, shortened

Row = dict[str, Any]

MAX_CELL = 1_200
"""Characters that are shown of a value; addresses in S3 have at most 1,100."""


def printable(value: Any) -> Any:
    """Return a value as a terminal may get it: its texts short and without control characters."""
    if isinstance(value, str):
        return shortened(plain_text(value), MAX_CELL)
    if isinstance(value, dict):
        return {name: printable(entry) for name, entry in value.items()}
    return [printable(entry) for entry in value] if isinstance(value, list) else value


def row(stored: StoredRecord, asked: AskedGateway, now: float) -> Row:
    """Return a record as one line of a list."""
    record = stored.record
    return {
        **_whose(record),
        "generation": record.generation,
        "state": advice.shown_state(record, asked, now),
        "gateway": record.gateway,
        "gateway_task": record.task_id or "",
        "trace_id": record.trace_id,
        "billed": record.billed,
        "landed": len(record.images),
        "updated": advice.iso(record.updated_at),
    }


def details(stored: StoredRecord, asked: AskedGateway, now: float) -> Row:
    """Return everything about a record."""
    record = stored.record
    failure = record.failure
    return {
        "next": advice.advice_for(stored, asked, now),
        **row(stored, asked, now),
        "address": stored.location.uri,
        "try": record.attempt.try_number,
        "cleared": record.attempt.epoch,
        "process": record.attempt.process,
        "claimed": advice.iso(record.claimed_at),
        "reuse": advice.reuse_of(record),
        "newest_generation": stored.location.newest,
        "billed_before": record.billed_before,
        "images": [image.uri for image in record.images],
        "failure": f"{failure.code}: {failure.message}" if failure else "",
        "estimate": _amount(record.estimate, record.currency),
        "cost": _amount(record.cost, record.currency),
        "cost_before": _amount(record.cost_before, record.currency),
        "usage": ", ".join(f"{name} {count}" for name, count in record.usage.items()),
        "fingerprint": record.fingerprint,
    }


def reconciled(record: LedgerRecord, outcome: LookupOutcome, noted: str) -> Row:
    """Return what asking brought for one record."""
    return {
        **_whose(record),
        "gateway_task": outcome.changes.get("task_id") or record.task_id or "",
        "trace_id": record.trace_id,
        "found": outcome.found,
        "noted": noted,
        "next": outcome.advice,
    }


def totals(rows: Sequence[Row]) -> str:
    """Return the sums of listed rows, in words."""
    billed, landed = sum(one["billed"] for one in rows), sum(one["landed"] for one in rows)
    states = [one["state"] for one in rows]
    return (
        f"{len(rows)} record{'' if len(rows) == 1 else 's'}: {billed} image(s) known to be billed, {landed} landed; "
        f"{states.count('submitted')} request(s) open at the gateway, {states.count('unknown')} of unknown outcome."
    )


def reconciliation(asked: int, rows: Sequence[Row], connection: str, is_dry_run: bool) -> str:
    """Return what asking brought in all, in words."""
    changed = sum(row["noted"] in ("submitted", "failed") for row in rows)
    wrote = "dry run, nothing noted" if is_dry_run else f"{changed} noted in the ledger"
    return f"{len(rows)} open record(s), {asked} looked up through {connection}; {wrote}. Nothing was paid."


def pruned(results: Mapping[tuple[str, str], int]) -> list[Row]:
    """Return how many records of each state, and how many documents, were deleted or kept, and why."""
    return [{"what": what, "result": result, "count": count} for (what, result), count in sorted(results.items())]


def pruning(results: Mapping[tuple[str, str], int], is_dry_run: bool) -> str:
    """Return what was deleted in all, in words."""
    kept = sum(count for (_, result), count in results.items() if result.startswith("kept"))
    done = "would be deleted" if is_dry_run else "deleted"
    return f"{sum(results.values()) - kept} object(s) {done}, {kept} kept."


def _whose(record: LedgerRecord) -> Row:
    whose = record.attempt.model_dump(include={"dag_id", "task_id", "run_id", "map_index"})
    return {**whose, "item": record.item}


def _amount(amount: Decimal | None, currency: str) -> str:
    return "" if amount is None else f"{amount:f} {currency}"
