"""The audit and the dice: the audit finds every kind of error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Any

from tests.chaos.audit import Audit, Delivery, audit
from tests.chaos.dice import WORKERS, Target, strikes


def row(task_id: str, prompt: str, *, trace_id: str | None = None, due: int = 1) -> dict[str, Any]:
    return {"task_id": task_id, "trace_id": trace_id or f"trace of {task_id}", "prompt": prompt, "due": due}


def delivery(prompt: str, *task_ids: str, asked: int = 1) -> Delivery:
    images = [{"task_id": task_id, "uri": f"s3://bucket/{task_id}.png"} for task_id in task_ids]
    manifest = {"requested": asked, "delivered": len(images), "billed": len(images), "images": images}
    return Delivery(f"task instance of {prompt}", prompt, asked, manifest)


def audited(
    rows: list[dict[str, Any]],
    deliveries: list[Delivery],
    *,
    missing: Mapping[str, Any] | None = None,
    state: str = "landed",
) -> Audit:
    records = {f"record of {row['task_id']}": {"task_id": row["task_id"], "state": state} for row in rows}
    return audit(rows, deliveries, records, lambda image: image != missing)


class TestAudit:
    def test_finds_nothing_where_all_is_well(self) -> None:
        found = audited(
            [row("1", "a"), row("2", "b"), row("3", "b")], [delivery("a", "1"), delivery("b", "2", "3", asked=2)]
        )
        assert found == Audit(accepted=3, billed=3, landed=3, duplicates=0, lost=0, recorded=3, findings=())

    def test_finds_an_image_that_was_billed_twice(self) -> None:
        found = audited([row("1", "a"), row("2", "a")], [delivery("a", "2")])
        assert (found.duplicates, found.lost) == (1, 1)
        assert "'a' was billed 1 images too many: task 1 (trace trace of 1), task 2" in found.findings[0]

    def test_finds_a_trace_that_was_accepted_twice(self) -> None:
        found = audited(
            [row("1", "a", trace_id="t"), row("2", "b", trace_id="t")], [delivery("a", "1"), delivery("b", "2")]
        )
        assert found.findings == ("trace t was accepted 2 times",)

    def test_finds_a_billed_image_without_a_request(self) -> None:
        found = audited([row("1", "a"), row("2", "x")], [delivery("a", "1")])
        assert (found.duplicates, found.lost) == (1, 1)

    def test_finds_an_image_that_is_in_no_manifest(self) -> None:
        found = audited([row("1", "a", due=2)], [delivery("a", "1", asked=2)])
        assert found.lost == 1
        assert "task 1: 1 images billed are in no manifest" in found.findings

    def test_finds_an_image_that_s3_does_not_have(self) -> None:
        one = delivery("a", "1")
        found = audited([row("1", "a")], [one], missing=one.images[0])
        assert (found.billed, found.landed) == (1, 0)
        assert found.findings == ("s3://bucket/1.png is not in S3 as the manifest says",)

    def test_finds_a_task_without_a_manifest(self) -> None:
        found = audited([], [Delivery("run[0]", "a", 1, None)])
        assert found.findings == ("run[0] has no manifest",)

    def test_finds_an_image_of_another_task(self) -> None:
        found = audited([row("1", "a"), row("2", "b")], [delivery("a", "2"), delivery("b", "1")])
        assert (found.duplicates, found.lost) == (0, 0)
        assert len(found.findings) == 2

    def test_ignores_what_was_refused(self) -> None:
        refused = {"task_id": None, "trace_id": "t", "due": 0}
        records = {"record of 1": {"task_id": "1", "state": "landed"}}
        assert audit([refused, row("1", "a")], [delivery("a", "1")], records, lambda _: True).is_clean

    def test_finds_a_record_that_was_left_open(self) -> None:
        found = audited([row("1", "a")], [delivery("a", "1")], state="submitted")
        assert found.findings == ("record record of 1 says submitted",)

    def test_finds_a_bill_that_the_ledger_does_not_know(self) -> None:
        found = audit([row("1", "a")], [delivery("a", "1")], {}, lambda _: True)
        assert found.findings == ("task 1 is in no record",)


class TestDice:
    def test_are_reproducible_for_the_same_seed(self) -> None:
        assert list(islice(strikes(7, 2.0), 50)) == list(islice(strikes(7, 2.0), 50))
        assert list(islice(strikes(7, 2.0), 50)) != list(islice(strikes(8, 2.0), 50))

    def test_select_workers_most_often_and_every_target_sometimes(self) -> None:
        targets = Counter(strike.target for strike in islice(strikes(0, 2.0), 2000))
        assert set(targets) == set(Target)
        assert 0.55 < sum(targets[target] for target in WORKERS) / 2000 < 0.65
