"""``airflow imagegen ledger …``, on what real runs and crashes left in the ledger."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.failpoints import Failpoint, Moment, observe
from tests.airflow_versions import needs_provider_commands
from tests.conftest import BUCKET
from tests.integration.conftest import Outcome, set_connection
from tests.stack.object_store import ObjectStore
from tests.stack.waiting import HANG

pytestmark = needs_provider_commands

RunTask = Callable[..., Outcome]


@dataclass(frozen=True)
class Answer:
    """The output and exit status of a command."""

    status: int | str | None
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(self.out)
        return found

    @property
    def row(self) -> dict[str, str]:
        (row,) = self.rows
        return row


Command = Callable[..., Answer]


@pytest.fixture
def ledger_key(request: pytest.FixtureRequest) -> str:
    """A ledger of the test's own."""
    return f"ledgers/{request.node.name.replace('[', '-').rstrip(']')}-{uuid.uuid4()}"


@pytest.fixture
def ledger(
    ledger_key: str, connections: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run ``airflow imagegen ledger …`` on the test's ledger, through Airflow's own parser."""
    from airflow.cli import cli_parser

    # The command sets it; restore it for the next test.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")

    def run(*arguments: str, output: str = "json") -> Answer:
        where = ("--bucket", BUCKET, "--ledger-key", ledger_key, "--output", output)
        parsed = cli_parser.get_parser().parse_args(["imagegen", "ledger", arguments[0], *where, *arguments[1:]])
        capfd.readouterr()
        status: int | str | None = 0
        try:
            parsed.func(parsed)
        except SystemExit as end:
            status = end.code
        captured = capfd.readouterr()
        return Answer(status, captured.out, captured.err)

    return run


@pytest.fixture
def draw(run_task: RunTask, ledger_key: str) -> RunTask:
    """Run one operator whose records go to the test's ledger."""

    def run(**arguments: Any) -> Outcome:
        return run_task(ledger_key=ledger_key, **arguments)

    return run


class Killed(BaseException):
    """A simulated kill, which ``except Exception`` does not catch."""


@pytest.fixture
def killed_at() -> Iterator[Callable[[Failpoint, Moment], None]]:
    """Make the run end at a point, as if killed there."""
    ends = []

    def kill(effect: Failpoint, moment: Moment) -> None:
        def observer(which: Failpoint, when: Moment) -> None:
            if (which, when) == (effect, moment):
                raise Killed

        ends.append(observe(observer))

    yield kill
    for end in ends:
        end()


@pytest.fixture
def connect(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Point the default connection at one of the emulator's dialects."""

    def point(gateway: str, **extra: Any) -> None:
        path = "/openai-api" if gateway == "openai" else ""
        set_connection(
            monkeypatch,
            "imagegen_default",
            conn_type="imagegen",
            host=f"{emulator.base_url}{path}",
            password=emulator.token,
            extra={"gateway": gateway, **extra},
        )

    return point


@pytest.fixture
def let_time_pass(object_store: ObjectStore, ledger_key: str) -> Callable[[], None]:
    """Make every claim in the ledger an hour older."""

    def age() -> None:
        s3 = object_store.client()
        for name in [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix=ledger_key)["Contents"]]:
            if name.endswith(".json"):
                record = json.loads(s3.get_object(Bucket=BUCKET, Key=name)["Body"].read())
                record["claimed_at"] -= 3600
                s3.put_object(Bucket=BUCKET, Key=name, Body=json.dumps(record).encode())

    return age


class TestList:
    def test_tells_what_was_billed_and_landed(self, draw: RunTask, ledger: Command) -> None:
        outcome = draw(n=2)
        listed = ledger("list")
        assert [row["item"] for row in listed.rows] == ["0", "1"]
        assert {(row["state"], row["billed"], row["landed"]) for row in listed.rows} == {("landed", "1", "1")}
        images = outcome.manifest["images"]
        assert [row["gateway_task"] for row in listed.rows] == [image["task_id"] for image in images]
        assert "2 records: 2 image(s) known to be billed, 2 landed; 0 request(s) open" in listed.err

    def test_shows_only_what_was_requested(self, draw: RunTask, ledger: Command) -> None:
        draw(prompt="one kite")
        draw(prompt="two kites")
        first, second = ledger("list").rows
        assert ledger("list", "--dag-id", first["dag_id"]).rows == [first]
        assert ledger("list", "--run-id", second["run_id"], "--state", "landed").rows == [second]
        assert ledger("list", "--task-id", "generate").rows == [first, second]
        assert ledger("list", "--task-id", "other").rows == []
        assert ledger("list", "--state", "unknown").rows == []

    @pytest.mark.parametrize("output", ["table", "plain", "yaml"])
    def test_prints_as_airflow_does(self, draw: RunTask, ledger: Command, output: str) -> None:
        draw()
        listed = ledger("list", output=output)
        assert "landed" in listed.out
        assert "1 record:" in listed.err
        assert "1 record:" not in listed.out

    def test_is_empty_where_nothing_was_generated(self, ledger: Command) -> None:
        listed = ledger("list", output="table")
        assert (listed.status, listed.out.strip()) == (0, "No data found")

    def test_names_records_that_cannot_be_understood_and_shows_the_others(
        self, draw: RunTask, ledger: Command, object_store: ObjectStore, ledger_key: str
    ) -> None:
        draw()
        name = f"{ledger_key}/scope/0000-abc.1.json"
        object_store.client().put_object(Bucket=BUCKET, Key=name, Body=b"half a rec")
        listed = ledger("list")
        assert len(listed.rows) == 1
        assert listed.status == f"1 record(s) cannot be understood, so nothing is known of them: s3://{BUCKET}/{name}"

    @pytest.mark.parametrize("output", ["table", "plain", "json", "yaml"])
    def test_shows_foreign_words_neither_as_markup_nor_as_escapes_of_a_terminal(
        self, draw: RunTask, ledger: Command, object_store: ObjectStore, ledger_key: str, output: str
    ) -> None:
        draw()
        s3 = object_store.client()
        stored = s3.list_objects_v2(Bucket=BUCKET, Prefix=ledger_key)["Contents"]
        (name,) = [entry["Key"] for entry in stored if entry["Key"].endswith(".json")]
        record = json.loads(s3.get_object(Bucket=BUCKET, Key=name)["Body"].read())
        record["attempt"] |= {"dag_id": "[/nope]", "task_id": "[red]\x1b]0;title\x07", "run_id": "r" * 60_000}
        s3.put_object(Bucket=BUCKET, Key=name, Body=json.dumps(record).encode())
        for listed in (ledger("list", output=output), ledger("show", record["trace_id"], output=output)):
            assert listed.status == 0
            assert "\x1b" not in listed.out
            assert listed.out.count("r") < 3000
        shown = "".join(ledger("list", output="json").out.split())
        assert "[/nope]" in shown
        assert "[red]]0;title" in shown


class TestShow:
    def test_finds_a_record_by_any_id(self, draw: RunTask, ledger: Command) -> None:
        image = draw().manifest["images"][0]
        shown = ledger("show", image["trace_id"]).row
        assert (shown["gateway_task"], shown["images"]) == (image["task_id"], [image["uri"]])
        assert shown["next"].startswith("Nothing: paid and in S3.")
        for handle in (image["task_id"], shown["address"], shown["address"].partition(f"{BUCKET}/")[2]):
            assert ledger("show", handle).row == shown

    def test_tells_what_it_cost(self, draw: RunTask, ledger: Command, connect: Callable[..., None]) -> None:
        connect("acedatacloud", prices={"gpt-image-1": {"per_image": "0.04"}}, currency="EUR")
        shown = ledger("show", draw().manifest["images"][0]["trace_id"]).row
        assert (shown["estimate"], shown["cost"], shown["cost_before"]) == ("0.04 EUR", "0.04 EUR", "0 EUR")

    def test_is_a_list_of_properties_on_a_screen(self, draw: RunTask, ledger: Command) -> None:
        trace_id = draw().manifest["images"][0]["trace_id"]
        lines = ledger("show", trace_id, output="plain").out.splitlines()
        assert lines[0].split() == ["property", "value"]
        assert ["state", "landed"] in [line.split() for line in lines]

    def test_says_so_where_there_is_none(self, draw: RunTask, ledger: Command) -> None:
        draw()
        shown = ledger("show", "no-such-trace")
        assert str(shown.status).startswith(
            "No record with address, trace id or task id 'no-such-trace' among 1 in s3:"
        )
        assert shown.out == ""


class TestReconcileWithLookups:
    def test_what_was_accepted_is_noted_and_then_landed_for_free(
        self,
        draw: RunTask,
        ledger: Command,
        emulator: RunningEmulator,
        killed_at: Callable[[Failpoint, Moment], None],
        let_time_pass: Callable[[], None],
    ) -> None:
        killed_at(Failpoint.SUBMIT, "after")
        # Shared records let the next run stand for the cleared task.
        assert draw(reuse="always").state != "success"
        let_time_pass()
        (unknown,) = ledger("list", "--state", "unknown").rows
        assert "reconcile" in ledger("show", unknown["trace_id"]).row["next"]

        dry_run = ledger("reconcile", "--dry-run")
        assert dry_run.row["noted"] == "would be submitted"
        assert "dry run, nothing noted" in dry_run.err
        assert ledger("list", "--state", "unknown").rows == [unknown]

        reconciled = ledger("reconcile")
        assert (reconciled.row["found"], reconciled.row["noted"]) == ("finished: paid, not landed", "submitted")
        assert "clear it: it lands the image without paying" in reconciled.row["next"]
        assert "1 open record(s), 1 looked up through connection 'imagegen_default'; 1 noted" in reconciled.err
        (listed,) = ledger("list").rows
        assert (listed["state"], listed["gateway_task"]) == ("submitted", reconciled.row["gateway_task"])
        assert emulator.totals()["submits"] == 1

        again = ledger("reconcile")
        assert (again.row["found"], again.row["noted"]) == ("finished: paid, not landed", "")

        assert draw(reuse="always").state == "success"
        assert ledger("list").row["state"] == "landed"
        assert ledger("reconcile").rows == []
        assert (emulator.totals()["submits"], emulator.totals()["billed_images"]) == (1, 1)

    def test_never_overwrites_what_another_try_wrote_meanwhile(
        self,
        draw: RunTask,
        ledger: Command,
        killed_at: Callable[[Failpoint, Moment], None],
        let_time_pass: Callable[[], None],
    ) -> None:
        killed_at(Failpoint.SUBMIT, "after")
        draw()
        let_time_pass()

        def write_first(effect: Failpoint, moment: Moment) -> None:
            if (effect, moment) == (Failpoint.RECORD, "before"):
                let_time_pass()

        stop = observe(write_first)
        reconciled = ledger("reconcile")
        stop()
        assert reconciled.row["noted"] == "no, another try was faster"
        assert ledger("list").row["state"] == "unknown"

    def test_what_never_left_is_safe_to_clear(
        self,
        draw: RunTask,
        ledger: Command,
        emulator: RunningEmulator,
        killed_at: Callable[[Failpoint, Moment], None],
        let_time_pass: Callable[[], None],
    ) -> None:
        killed_at(Failpoint.SUBMIT, "before")
        draw()
        let_time_pass()
        reconciled = ledger("reconcile")
        assert (reconciled.row["found"], reconciled.row["noted"]) == ("never accepted", "")
        assert reconciled.row["next"].startswith("Nothing was billed. If ")
        assert emulator.totals()["submits"] == 0

    def test_a_young_claim_is_left_alone(
        self,
        draw: RunTask,
        ledger: Command,
        connect: Callable[..., None],
        killed_at: Callable[[Failpoint, Moment], None],
    ) -> None:
        connect("acedatacloud", visibility_grace=HANG)
        killed_at(Failpoint.SUBMIT, "after")
        draw()
        reconciled = ledger("reconcile")
        assert (reconciled.row["found"], reconciled.row["noted"]) == ("too new to tell", "")
        assert "0 looked up" in reconciled.err

    def test_what_the_gateway_failed_is_noted_as_unbilled(
        self,
        draw: RunTask,
        ledger: Command,
        emulator: RunningEmulator,
        killed_at: Callable[[Failpoint, Moment], None],
        let_time_pass: Callable[[], None],
    ) -> None:
        emulator.arm("submit", "fail")
        killed_at(Failpoint.SUBMIT, "after")
        draw()
        let_time_pass()
        reconciled = ledger("reconcile")
        assert (reconciled.row["found"], reconciled.row["noted"]) == ("failed, not billed", "failed")
        assert ledger("list").row["state"] == "failed"
        assert emulator.totals()["billed_images"] == 0

    def test_another_gateways_records_are_skipped(
        self,
        draw: RunTask,
        ledger: Command,
        connect: Callable[..., None],
        killed_at: Callable[[Failpoint, Moment], None],
        let_time_pass: Callable[[], None],
    ) -> None:
        killed_at(Failpoint.SUBMIT, "after")
        draw()
        let_time_pass()
        connect("openai")
        reconciled = ledger("reconcile")
        assert (reconciled.row["found"], reconciled.row["noted"]) == ("skipped: sent to acedatacloud", "")

    def test_a_lookup_that_fails_is_one_line(
        self,
        draw: RunTask,
        ledger: Command,
        emulator: RunningEmulator,
        killed_at: Callable[[Failpoint, Moment], None],
        let_time_pass: Callable[[], None],
    ) -> None:
        killed_at(Failpoint.SUBMIT, "after")
        draw()
        let_time_pass()
        emulator.change(token="rotated-token")
        reconciled = ledger("reconcile")
        assert "Correct the connection's password" in str(reconciled.status)
        assert reconciled.out == ""


class TestReconcileWithoutLookups:
    def test_says_what_to_do_by_hand(
        self,
        draw: RunTask,
        ledger: Command,
        connect: Callable[..., None],
        emulator: RunningEmulator,
        let_time_pass: Callable[[], None],
    ) -> None:
        connect("openai")
        emulator.arm("submit", "drop")
        assert draw().state == "failed"
        let_time_pass()
        assert ledger("list").row["state"] == "unknown"
        reconciled = ledger("reconcile")
        assert (reconciled.row["found"], reconciled.row["noted"]) == ("openai cannot look it up", "")
        assert "usage page" in reconciled.row["next"]
        assert "on_unknown='resubmit'" in reconciled.row["next"]
        assert emulator.totals()["submits"] == 1


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("list", "--bucket", "no-such-bucket"), "bucket 'no-such-bucket' cannot be listed: there is no such"),
            (("list", "--aws-conn-id", "nowhere"), "there is no AWS connection 'nowhere'; billed: no. Create it"),
            (("reconcile", "--imagegen-conn-id", "nowhere"), "there is no connection 'nowhere'; billed: no. Create it"),
        ],
    )
    def test_are_one_line(self, ledger: Command, arguments: tuple[str, ...], words: str) -> None:
        answer = ledger(*arguments)
        assert str(answer.status).startswith(words)
        assert "\n" not in str(answer.status)
        assert answer.out == ""


@pytest.mark.usefixtures("connections", "airflow_database")
class TestEntryPoint:
    def test_lists_with_connections_out_of_airflows_database(
        self, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.models import Connection
        from airflow.utils.session import create_session

        extra = json.dumps(object_store.connection_extra)
        with create_session() as session:
            stored = Connection(
                conn_id="stored",
                conn_type="aws",
                login=object_store.access_key,
                password=object_store.secret_key,
                extra=extra,
            )
            session.add(stored)
        where = ["--bucket", BUCKET, "--ledger-key", "nothing/here", "--aws-conn-id", "stored"]
        done = airflow("ledger", "list", *where)
        assert (done.returncode, done.stdout.strip()) == (0, "No data found")
        assert "0 records: 0 image(s)" in done.stderr

    def test_ends_with_a_status_and_one_line(self) -> None:
        done = airflow("ledger", "list", "--bucket", "no-such-bucket")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("bucket 'no-such-bucket' cannot be listed")
        assert "Traceback" not in done.stderr

    def test_help_names_the_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        from airflow.cli import cli_parser

        with pytest.raises(SystemExit, match="0"):
            cli_parser.get_parser().parse_args(["imagegen", "ledger", "--help"])
        assert " ".join(re.findall(r"^    (\w+)", capsys.readouterr().out, re.M)) == "list prune reconcile show"


def airflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "airflow", "imagegen", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)
