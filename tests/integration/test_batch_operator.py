"""The batch operator in a DAG, against the emulator and a real S3 server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import redact
from airflow.sdk import DAG, task

from airflow_provider_imagegen import metrics
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.schemas.batch import BatchSummary
from tests.conftest import BUCKET
from tests.integration.conftest import Outcome, make_known, returned, run_through, set_connection
from tests.stack.object_store import ObjectStore

RunTask = Callable[..., Outcome]


@pytest.fixture
def run_batch(run_task: RunTask) -> RunTask:
    """Run one batch operator in a DAG of its own."""

    def run(**arguments: Any) -> Outcome:
        usual = {"prompt": "", "size": "1024x1024"}
        return run_task(operator=GenerateImageBatchOperator, **(usual | arguments))

    return run


class TestListOfPrompts:
    def test_lands_under_their_keys_and_returns_a_summary(
        self, run_batch: RunTask, object_store: ObjectStore, emulator: RunningEmulator
    ) -> None:
        outcome = run_batch(requests=["a kite", {"prompt": "an owl", "key": "owl"}], s3_key="batch/list")
        assert outcome.state == "success"
        assert outcome.manifest["landed"] == outcome.manifest["billed"] == emulator.totals()["billed_images"] == 2
        assert outcome.manifest["manifest_uri"] == f"s3://{BUCKET}/batch/list/manifest.jsonl"
        listed = object_store.client().list_objects_v2(Bucket=BUCKET, Prefix="batch/list/")["Contents"]
        names = [entry["Key"].rpartition("/")[2] for entry in listed]
        assert sorted(names) == ["00000.png", "manifest.jsonl", "owl.png"]

    def test_operator_s_arguments_are_the_defaults(self, run_batch: RunTask, emulator: RunningEmulator) -> None:
        run_batch(requests=[{"key": "a"}, {"key": "b", "size": "1536x1024"}], prompt="a kite", s3_key="batch/defaults")
        assert [row["prompt"] for row in emulator.ledger()["rows"]] == ["a kite"] * 2

    def test_templates_in_prompts_are_rendered(self, run_batch: RunTask, emulator: RunningEmulator) -> None:
        run_batch(requests=["a kite over {{ dag.dag_id | length }} hills"], s3_key="batch/templates")
        (row,) = emulator.ledger()["rows"]
        assert row["prompt"].endswith("hills")
        assert "{{" not in row["prompt"]

    def test_defers_on_what_is_open(
        self, run_batch: RunTask, emulator: RunningEmulator, held_until_deferred: Callable[..., None]
    ) -> None:
        held_until_deferred(after=3)
        outcome = run_batch(requests=[f"kite {number}" for number in range(6)], poll_interval=0.2, max_in_flight=3)
        assert outcome.state == "success"
        assert "Deferred: 3 task(s)" in outcome.log
        assert (outcome.manifest["landed"], emulator.totals()["submits"]) == (6, 6)

    def test_shows_no_signature_of_a_single_row(self) -> None:
        signature = f"sig={uuid.uuid4().hex}"
        row = {"prompt": "a kite", "extra": {"reference": f"https://cdn.example/a.png?{signature}"}}
        GenerateImageBatchOperator(task_id="generate", requests=[row], s3_bucket=BUCKET)
        assert signature not in str(redact([row]))


class TestMoney:
    @pytest.fixture(autouse=True)
    def prices(self, emulator: RunningEmulator, connections: None, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = {"conn_type": "imagegen", "host": emulator.base_url, "password": emulator.token}
        extra = {"gateway": "acedatacloud", "prices": {"*": {"per_image": "0.04"}}, "currency": "EUR"}
        set_connection(monkeypatch, "imagegen_default", **usual, extra=extra)

    def test_summary_says_what_the_batch_cost(self, run_batch: RunTask) -> None:
        summary = run_batch(requests=["a kite", "an owl"], budget="0.08", s3_key="batch/cost").manifest
        assert (summary["cost"], summary["cost_at_least"], summary["currency"]) == (0.08, 0.08, "EUR")

    def test_budget_refuses_before_the_first_row(self, run_batch: RunTask, emulator: RunningEmulator) -> None:
        outcome = run_batch(requests=["a kite", "an owl"], budget=0.07, retries=2, s3_key="batch/budget")
        assert "it would cost up to 0.08 EUR, 0 EUR are billed already, and the budget is 0.07 EUR" in outcome.log
        assert (outcome.state, emulator.totals()["submits"]) == ("failed", 0)

    def test_validate_only_sends_nothing(self, run_batch: RunTask, emulator: RunningEmulator) -> None:
        result = run_batch(requests=["a kite", "an owl"], validate_only=True, s3_key="batch/dry-run").manifest
        assert (result["rows"], result["estimate"]["to_pay"], result["destination"]) == (
            2,
            0.08,
            f"s3://{BUCKET}/batch/dry-run",
        )
        assert emulator.totals()["submits"] == 0


class TestFileInS3:
    def test_csv(self, run_batch: RunTask, object_store: ObjectStore) -> None:
        body = "key,prompt,size\nkite,a kite,\nowl,an owl,1536x1024\n"
        object_store.client().put_object(Bucket=BUCKET, Key="rows/batch.csv", Body=body.encode())
        outcome = run_batch(requests=f"s3://{BUCKET}/rows/batch.csv", s3_key="batch/csv")
        assert (outcome.state, outcome.manifest["landed"]) == ("success", 2)

    def test_jsonl(self, run_batch: RunTask, object_store: ObjectStore) -> None:
        body = "\n".join(json.dumps(row) for row in ("a kite", {"prompt": "an owl", "key": "owl"}))
        object_store.client().put_object(Bucket=BUCKET, Key="rows/batch.jsonl", Body=body.encode())
        outcome = run_batch(requests=f"s3://{BUCKET}/rows/batch.jsonl", s3_key="batch/jsonl")
        assert (outcome.state, outcome.manifest["landed"]) == ("success", 2)

    def test_with_wrong_rows_tells_all_of_them_and_sends_none(
        self, run_batch: RunTask, object_store: ObjectStore, emulator: RunningEmulator
    ) -> None:
        body = "key,prompt\nsame,a kite\nsame,an owl\n,\n"
        object_store.client().put_object(Bucket=BUCKET, Key="rows/wrong.csv", Body=body.encode())
        outcome = run_batch(requests=f"s3://{BUCKET}/rows/wrong.csv", retries=2)
        assert outcome.state == "failed"
        assert "2 rows are wrong" in outcome.log
        assert "line 3" in outcome.log
        assert "line 4" in outcome.log
        assert emulator.totals()["submits"] == 0


class TestOutputOfAnotherTask:
    def test_is_used_unchanged(self, airflow_database: None, connections: None, emulator: RunningEmulator) -> None:
        with DAG(f"batch-xcom-{uuid.uuid4()}", schedule=None) as dag:

            @task
            def rows() -> list[dict[str, str]]:
                return [{"prompt": f"kite {{{{ {number} }}}}", "key": f"k{number}"} for number in range(3)]

            GenerateImageBatchOperator(task_id="generate", requests=rows(), model="gpt-image-1", s3_bucket=BUCKET)
        make_known(dag)
        run = run_through(dag)
        assert {instance.state for instance in run.get_task_instances()} == {"success"}
        assert returned(dag.dag_id, "generate")["landed"] == 3
        assert sorted(row["prompt"] for row in emulator.ledger()["rows"])[0] == "kite {{ 0 }}"


class TestShownWhileItRuns:
    def test_progress_is_an_xcom(self, run_batch: RunTask) -> None:
        outcome = run_batch(requests=["a kite", "an owl"])
        progress = returned(outcome.dag_id, "generate", key="progress")
        assert (progress["rows"], progress["landed"], progress["failed"]) == (2, 2, 0)
        assert progress["text"].startswith("2/2 landed")

    def test_log_is_short_however_many_rows(self, run_batch: RunTask) -> None:
        outcome = run_batch(requests=[f"kite {number}" for number in range(60)])
        ours = [record.getMessage() for record in outcome.records if "imagegen" in record.name]
        # Progress comes by the clock, so a slow machine has more of it, but not a line for every row.
        progress = [line for line in ours if re.match(r"\d+/60 landed", line)]
        assert len(ours) - len(progress) <= 3, ours
        assert len(progress) < 30
        assert "60/60 landed" in progress[-1]


class TestFailure:
    def test_leaves_the_summary_of_what_landed(self, run_batch: RunTask) -> None:
        outcome = run_batch(requests=["a kite", "[[moderation]]"])
        assert outcome.state == "failed"
        result = BatchSummary.model_validate(returned(outcome.dag_id, "generate", key="failure"))
        assert (result.landed, result.failed, result.failed_by_code) == (1, 1, {"moderation_blocked": 1})

    def test_names_the_rows_that_are_wrong(self, run_batch: RunTask) -> None:
        outcome = run_batch(requests=["a kite", {"prompt": ""}, {"colour": "red"}])
        result = returned(outcome.dag_id, "generate", key="failure")["failures"]
        assert [missing["message"].partition(":")[0] for missing in result] == ["requests[1]", "requests[2]"]
        assert {missing["billed"] for missing in result} == {"no"}


class TestMetrics:
    def test_count_what_was_done(self, run_batch: RunTask, monkeypatch: pytest.MonkeyPatch) -> None:
        meter = _Counter()
        monkeypatch.setattr(metrics, "_meters", [meter])
        rows = [{"prompt": "a kite", "key": "a"}, {"prompt": "a kite", "key": "b"}, {"prompt": "[[moderation]]"}]
        run_batch(requests=rows, on_moderation="skip")
        assert meter.counts["imagegen.submitted"] == 2
        assert meter.counts["imagegen.landed"] == meter.counts["imagegen.reused"] == 1
        assert meter.counts["imagegen.failed"] == 1
        assert meter.counts["imagegen.lookups"] >= 1
        assert {"imagegen.generation", "imagegen.landing"} <= set(meter.times)


class TestChoices:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("on_invalid", "ignore"),
            ("max_in_flight", 0),
            ("max_in_flight", 2.5),
            ("max_in_flight", True),
            ("requests_per_minute", 0),
            ("requests_per_minute", float("nan")),
        ],
    )
    def test_are_refused_when_the_dag_is_parsed(self, name: str, value: object) -> None:
        arguments: dict[str, Any] = {"task_id": "t", "requests": [], "s3_bucket": BUCKET, name: value}
        with pytest.raises(InvalidRequest, match=name):
            GenerateImageBatchOperator(**arguments)


def test_parsing_a_dag_imports_nothing_heavy() -> None:
    code = "import sys, airflow_provider_imagegen.operators.batch; print(*sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", f"import airflow.sdk, sys; before = set(sys.modules); {code}"]
    modules = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert modules.isdisjoint({"boto3", "botocore", "aiolimiter", "PIL", "airflow_provider_imagegen.engine.job"})


class _Counter:
    """Takes counts and durations, as Airflow's statistics do."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.times: dict[str, float] = {}

    def incr(self, stat: str, count: int = 1) -> None:
        self.counts[stat] = self.counts.get(stat, 0) + count

    def timing(self, stat: str, dt: float) -> None:
        self.times[stat] = dt
