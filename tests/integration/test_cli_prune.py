"""``airflow imagegen ledger prune``: nothing goes that somebody may still need, whenever it stops."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_imagegen.cli import prune
from airflow_provider_imagegen.cli.prune import DAY, Pruner
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import GenerationFailed
from airflow_provider_imagegen.ledger.documents import document_uri, write_document
from airflow_provider_imagegen.ledger.models import Attempt, LedgerKey, LedgerRecord, State
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import OpenTask, Submission
from tests.airflow_versions import needs_provider_commands
from tests.conftest import BUCKET
from tests.failures.conftest import Harness, settings_of
from tests.integration import test_cli
from tests.integration.test_cli import Command, Killed, RunTask
from tests.ledgers import entries_of
from tests.stack.object_store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPT = Attempt(dag_id="shop", task_id="shoot", run_id="monday")
YEAR = 365 * DAY
FAILED: list[State] = ["failed"] * 11

ledger_key = test_cli.ledger_key
command = test_cli.ledger
draw = test_cli.draw


@pytest.fixture
def s3(object_store: ObjectStore) -> S3Client:
    return object_store.client()


@pytest.fixture
def ledger(s3: S3Client, ledger_key: str) -> Ledger:
    return Ledger(s3, BUCKET, ledger_key)


def key_of(number: int = 0) -> LedgerKey:
    return LedgerKey.of(ATTEMPT, "task", number, "f00d")


def put(ledger: Ledger, *states: State, number: int = 0) -> LedgerKey:
    """Write the generations of a key; return the key."""
    key = key_of(number)
    for generation, state in enumerate(states, 1):
        record = LedgerRecord(
            state=state,
            key=str(key),
            generation=generation,
            item=key.item,
            fingerprint=key.fingerprint,
            gateway="acedatacloud",
            trace_id=ledger.trace_id(key, generation),
            attempt=ATTEMPT,
            claimed_at=0,
            updated_at=0,
        )
        ledger.create(record, key)
    return key


def pruner(ledger: Ledger, s3: S3Client, days: int = 400, **arguments: Any) -> Pruner:
    """Prune as if so many days had passed since everything was written."""
    return Pruner(ledger, s3, YEAR, time.time() + days * DAY, **arguments)


def before(s3: S3Client, operation: str, action: Callable[[int], None]) -> None:
    """Do something before each of a client's requests, with its number, from 0."""
    numbers = iter(range(1000))
    s3.meta.events.register(f"before-call.s3.{operation}", lambda **_: action(next(numbers)))


def states_left(ledger: Ledger) -> list[tuple[int, str]]:
    return [(entry.record.generation, entry.record.state) for entry in entries_of(ledger)]


class TestRecords:
    @pytest.mark.parametrize("state", ["claimed", "waiting", "submitted", "cancelling", "answered"])
    def test_of_an_open_request_are_kept_with_all_its_generations(
        self, ledger: Ledger, s3: S3Client, state: State
    ) -> None:
        put(ledger, "failed", state)
        put(ledger, state, "landed", number=1)
        reason = "kept: not settled"
        assert pruner(ledger, s3).prune() == {("failed", reason): 1, (state, reason): 2, ("landed", reason): 1}
        assert len(states_left(ledger)) == 4

    def test_that_are_old_and_settled_are_deleted_and_younger_ones_are_not_even_read(
        self, ledger: Ledger, s3: S3Client
    ) -> None:
        put(ledger, "failed", "landed")
        put(ledger, "failed", number=1)
        read: list[int] = []
        before(s3, "GetObject", read.append)
        assert pruner(ledger, s3, days=300).prune() == {("record", "kept: not old enough"): 3}
        assert read == []
        dry = pruner(ledger, s3, is_dry_run=True).prune()
        assert dry == {("failed", "would be deleted"): 2, ("landed", "would be deleted"): 1}
        assert len(states_left(ledger)) == 3
        assert pruner(ledger, s3).prune() == {("failed", "deleted"): 2, ("landed", "deleted"): 1}
        assert states_left(ledger) == []

    def test_are_taken_in_parts_of_which_none_splits_a_key(
        self, ledger: Ledger, s3: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(prune, "AT_ONCE", 2)
        for number in range(5):
            put(ledger, *FAILED[: 11 if number == 1 else 1], number=number)
        assert pruner(ledger, s3).prune() == {("failed", "deleted"): 15}

    def test_that_cannot_be_understood_are_kept(self, ledger: Ledger, s3: S3Client, ledger_key: str) -> None:
        put(ledger, "landed", number=1)
        name = f"{ledger_key}/{key_of()}.1.json"
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"half a rec")
        assert pruner(ledger, s3).prune() == {("record", "kept: cannot be understood"): 1, ("landed", "deleted"): 1}
        assert s3.head_object(Bucket=BUCKET, Key=name)

    def test_without_an_earlier_generation_are_kept(self, ledger: Ledger, s3: S3Client, ledger_key: str) -> None:
        put(ledger, "failed", "landed")
        s3.delete_object(Bucket=BUCKET, Key=f"{ledger_key}/{key_of()}.1.json")
        assert pruner(ledger, s3).prune() == {("record", prune._CHANGED): 1}


class TestTaskAtTheSameMoment:
    def test_that_has_changed_the_record_keeps_it(
        self, ledger: Ledger, s3: S3Client, object_store: ObjectStore
    ) -> None:
        key = put(ledger, "landed", "landed")
        other = Ledger(object_store.client(), BUCKET, ledger.prefix)

        def change(_: int) -> None:
            entry = other.read(key, 2)
            assert entry is not None
            other.update(key, entry, billed=1)

        before(s3, "DeleteObject", change)
        assert pruner(ledger, s3).prune() == {("landed", prune._CHANGED): 2}
        assert states_left(ledger) == [(1, "landed"), (2, "landed")]

    def test_that_has_begun_another_generation_keeps_them_all(
        self, ledger: Ledger, s3: S3Client, object_store: ObjectStore
    ) -> None:
        put(ledger, "failed")
        other = Ledger(object_store.client(), BUCKET, ledger.prefix)

        def begin(number: int) -> None:
            if number == 1:
                put(other, "failed", "claimed")

        before(s3, "GetObject", begin)
        assert pruner(ledger, s3).prune() == {("record", prune._CHANGED): 1}
        assert states_left(ledger) == [(1, "failed"), (2, "claimed")]


class TestKilledInTheMiddle:
    @pytest.mark.parametrize("deleted", [0, 1, 2, 3])
    def test_leaves_the_generations_from_the_first_on(self, ledger: Ledger, s3: S3Client, deleted: int) -> None:
        def kill(number: int) -> None:
            if number == deleted:
                raise Killed

        put(ledger, "failed", "failed", "landed")
        before(s3, "DeleteObject", kill)
        if deleted < 3:
            with pytest.raises(Killed):
                pruner(ledger, s3).prune()
        else:
            pruner(ledger, s3).prune()
        assert states_left(ledger) == [(1, "failed"), (2, "failed"), (3, "landed")][: 3 - deleted]

    @pytest.mark.parametrize(
        "deleted", [pytest.param(0, marks=pytest.mark.full), 1, pytest.param(2, marks=pytest.mark.full)]
    )
    def test_the_next_try_succeeds_and_pays_only_for_what_is_gone(
        self, s3: S3Client, emulator: RunningEmulator, deleted: int
    ) -> None:
        harness = Harness(emulator, s3, settings_of(emulator))
        ledger = harness.ledger

        def kill(number: int) -> None:
            if number == deleted:
                raise Killed

        emulator.arm("submit", "fail")
        with pytest.raises(GenerationFailed):
            harness.attempt()
        harness.attempt(try_number=2)
        assert [state for _, state in states_left(ledger)] == ["failed", "landed"]
        before(s3, "DeleteObject", kill)
        if deleted < 2:
            with pytest.raises(Killed):
                pruner(ledger, s3).prune()
        else:
            pruner(ledger, s3).prune()
        assert harness.attempt(try_number=3).delivered == 1
        assert emulator.totals()["billed_images"] == (2 if deleted else 1)


class TestDocuments:
    @staticmethod
    def written(ledger: Ledger, s3: S3Client, name: str, *lines: str) -> str:
        uri = document_uri(ledger, ATTEMPT, name)
        write_document(s3, uri, lines)
        return uri.removeprefix(f"s3://{BUCKET}/")

    @staticmethod
    def waiting(key: LedgerKey) -> str:
        task = OpenTask(index=key.item, count=1, task_id="t-1", scope=key.scope, fingerprint="f00d", generation=1)
        submission = Submission(submitted_at=0, deadline=1, open=(task,))
        return f'{{"row": 1, "submission": {submission.model_dump_json()}}}'

    @pytest.mark.parametrize("name", ["batch", "submitted"])
    def test_are_kept_while_a_request_that_they_name_is_open(self, ledger: Ledger, s3: S3Client, name: str) -> None:
        key = put(ledger, "submitted")
        self.written(ledger, s3, name, '{"rows": "0"}', self.waiting(key))
        kept = {("document", "kept: not settled"): 1, ("submitted", "kept: not settled"): 1}
        assert pruner(ledger, s3).prune() == kept
        entry = ledger.read(key, 1)
        assert entry is not None
        ledger.update(key, entry, state="landed")
        assert pruner(ledger, s3).prune() == {("document", "deleted"): 1, ("landed", "deleted"): 1}

    def test_of_decorated_functions_go_by_age_alone(self, ledger: Ledger, s3: S3Client) -> None:
        self.written(ledger, s3, "answer", '{"kind": "rows"}', '"a red kite"')
        assert pruner(ledger, s3, days=300).prune() == {("document", "kept: not old enough"): 1}
        assert pruner(ledger, s3).prune() == {("document", "deleted"): 1}

    def test_that_cannot_be_understood_are_kept(self, ledger: Ledger, s3: S3Client) -> None:
        self.written(ledger, s3, "batch", "half a li")
        assert pruner(ledger, s3).prune() == {("document", "kept: cannot be understood"): 1}

    def test_of_others_and_whatever_else_is_there_stay(self, ledger: Ledger, s3: S3Client, ledger_key: str) -> None:
        put(nested := Ledger(s3, BUCKET, f"{ledger_key}/nested"), "landed")
        self.written(nested, s3, "answer", "{}")
        for name in ("conditional-writes", f"{'a' * 32}/manifest.1.jsonl"):
            s3.put_object(Bucket=BUCKET, Key=f"{ledger_key}/{name}", Body=b"{}")
        there = list(ledger.listed())
        assert pruner(ledger, s3).prune() == {}
        assert list(ledger.listed()) == there


@needs_provider_commands
class TestCommand:
    def test_counts_first_then_deletes(self, draw: RunTask, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        draw()
        young = command("prune", "--older-than", "365d")
        assert young.row == {"what": "record", "result": "kept: not old enough", "count": "1"}
        assert "0 object(s) deleted, 1 kept." in young.err

        now = time.time
        with monkeypatch.context() as later:
            later.setattr(time, "time", lambda: now() + 400 * DAY)
            dry_run = command("prune", "--older-than", "365d", "--dry-run")
            assert dry_run.row == {"what": "landed", "result": "would be deleted", "count": "1"}
            assert "1 object(s) would be deleted, 0 kept." in dry_run.err
            pruned = command("prune", "--older-than", "8760h")
            assert pruned.row == {"what": "landed", "result": "deleted", "count": "1"}

    def test_keeps_what_any_task_may_reuse(
        self, draw: RunTask, command: Command, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        draw(reuse="always")
        now = time.time
        with monkeypatch.context() as later:
            later.setattr(time, "time", lambda: now() + 400 * DAY)
            assert command("prune", "--older-than", "365d").row["result"] == "kept: shared"
        draw(reuse="always")
        assert emulator.totals()["billed_images"] == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--older-than", "12h"), "invalid --older-than '12h' (expected days or hours, such as 365d or 8760h"),
            (("--older-than", "30d", "--bucket", "no-such-bucket"), "bucket 'no-such-bucket' cannot be listed"),
        ],
    )
    def test_fails_in_one_line(self, command: Command, arguments: tuple[str, ...], words: str) -> None:
        answer = command("prune", *arguments)
        assert str(answer.status).startswith(words)
        assert "\n" not in str(answer.status)
        assert answer.out == ""
