"""Compare billed with delivered images: decisions only, the experiment collects the evidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Delivery:
    """
    What one task instance was asked for, and what it says it delivered.

    :param name: run and map index
    :param prompt: what it asked the gateway for; no other task instance asks for the same
    :param asked: number of images
    :param manifest: its return value; None if it has none
    """

    name: str
    prompt: str
    asked: int
    manifest: Mapping[str, Any] | None

    @property
    def images(self) -> Sequence[Mapping[str, Any]]:
        """The images it says are in S3."""
        images: Sequence[Mapping[str, Any]] = self.manifest["images"] if self.manifest else ()
        return images


@dataclass(frozen=True)
class Audit:
    """
    What came out. The money's side counts images.

    :param accepted: requests that the gateway took
    :param billed: images that it has billed, or will bill
    :param landed: images that are in a manifest and, byte for byte, in S3
    :param duplicates: images billed beyond what their task instance asked for
    :param lost: images billed that no manifest has
    :param recorded: records in the provider's ledger
    :param findings: what is wrong, in words
    """

    accepted: int
    billed: int
    landed: int
    duplicates: int
    lost: int
    recorded: int
    findings: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """True if nothing is wrong."""
        return not self.findings


def audit(
    rows: Sequence[Mapping[str, Any]],
    deliveries: Sequence[Delivery],
    records: Mapping[str, Mapping[str, Any]],
    is_stored: Callable[[Mapping[str, Any]], bool],
) -> Audit:
    """
    Compare the bill with the deliveries.

    :param rows: the gateway's ledger
    :param deliveries: one for every task instance that was ever to draw
    :param records: the provider's ledger, by key
    :param is_stored: tells whether S3 has an image of a manifest, byte for byte
    """
    accepted = [row for row in rows if row["task_id"] is not None]
    images = [image for delivery in deliveries for image in delivery.images]
    stored = [image for image in images if is_stored(image)]
    duplicates, double_bills = _double_bills(accepted, deliveries)
    lost, losses = _losses(accepted, images)
    findings = [
        *double_bills,
        *losses,
        *(f"{image['uri']} is not in S3 as the manifest says" for image in images if image not in stored),
        *_open_records(records, accepted),
        *(fault for delivery in deliveries for fault in _faults(delivery, accepted)),
    ]
    billed = sum(row["due"] for row in accepted)
    return Audit(len(accepted), billed, len(stored), duplicates, lost, len(records), tuple(findings))


def _double_bills(rows: Sequence[Mapping[str, Any]], deliveries: Sequence[Delivery]) -> tuple[int, list[str]]:
    asked = {delivery.prompt: delivery.asked for delivery in deliveries}
    by_prompt: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_prompt[row["prompt"]].append(row)
    excess, findings = 0, []
    for prompt, billed in by_prompt.items():
        surplus = sum(row["due"] for row in billed) - asked.get(prompt, 0)
        if surplus > 0:
            excess += surplus
            requests = ", ".join(f"task {row['task_id']} (trace {row['trace_id']})" for row in billed)
            findings.append(f"{prompt!r} was billed {surplus} images too many: {requests}")
    traces = Counter(row["trace_id"] for row in rows)
    findings += [f"trace {trace} was accepted {count} times" for trace, count in traces.items() if count > 1]
    return excess, findings


def _losses(rows: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    delivered = Counter(image["task_id"] for image in images)
    missing = {row["task_id"]: row["due"] - delivered[row["task_id"]] for row in rows}
    losses = {task_id: count for task_id, count in missing.items() if count > 0}
    findings = [f"task {task_id}: {count} images billed are in no manifest" for task_id, count in losses.items()]
    return sum(losses.values()), findings


def _open_records(records: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = {record["task_id"] for record in records.values()}
    return [
        *(f"record {key} says {record['state']}" for key, record in records.items() if record["state"] != "landed"),
        *(f"task {row['task_id']} is in no record" for row in rows if row["task_id"] not in known),
    ]


def _faults(delivery: Delivery, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if delivery.manifest is None:
        return [f"{delivery.name} has no manifest"]
    own = {row["task_id"] for row in rows if row["prompt"] == delivery.prompt}
    strangers = [image for image in delivery.images if image["task_id"] not in own]
    wrong = [word for word in ("requested", "delivered", "billed") if delivery.manifest[word] != delivery.asked]
    return [
        *(f"{delivery.name} has {image['uri']} of another task, {image['task_id']}" for image in strangers),
        *(f"{delivery.name} asked for {delivery.asked}; {word}: {delivery.manifest[word]}" for word in wrong),
    ]
