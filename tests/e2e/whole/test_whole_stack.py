"""The provider in a whole Airflow: scheduler, workers, triggerer, PostgreSQL; nothing runs in this process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.airflow_versions import needs_declared_forms, needs_trigger_on_kill
from tests.stack.rest import Connection, DagRun
from tests.stack.stack import Stack
from tests.stack.waiting import wait_until


def billed(stack: Stack) -> int:
    count: int = stack.ledger()["totals"]["billed_images"]
    return count


def run_to_the_end(stack: Stack, dag_id: str) -> DagRun:
    stack.client.wait_for_dag(dag_id)
    return stack.client.wait_for_run(dag_id, stack.client.trigger(dag_id))


def run_until_deferred(stack: Stack, dag_id: str) -> str:
    """Start a run whose image is held at the gateway until it is released; return its id when its task waits."""
    stack.hold()
    stack.client.wait_for_dag(dag_id)
    run_id = stack.client.trigger(dag_id)
    stack.client.wait_for_task(dag_id, run_id, "generate", states=["deferred"])
    return run_id


def manifest_of(stack: Stack, run: DagRun, task_id: str = "generate") -> Mapping[str, Any]:
    manifest: Mapping[str, Any] = stack.client.xcom(run.dag_id, run.run_id, task_id)
    return manifest


@pytest.fixture(scope="module")
def run(stack: Stack) -> DagRun:
    """A finished run of the example whose images took long enough to defer."""
    run_id = run_until_deferred(stack, "example_generate_image")
    stack.release()
    return stack.client.wait_for_run("example_generate_image", run_id)


class TestOneTask:
    def test_lands_what_was_billed(self, stack: Stack, run: DagRun) -> None:
        assert run.state == "success"
        images = manifest_of(stack, run)["images"]
        s3 = stack.objectstore.client()
        for image in images:
            head = s3.head_object(Bucket=image["bucket"], Key=image["key"])
            assert head["ContentLength"] == image["bytes"]
        rows = {row["task_id"]: row for row in stack.ledger()["rows"]}
        assert sum(rows[image["task_id"]]["billed"] for image in images) == len(images) == 2

    def test_hands_the_manifest_to_the_next_task(self, stack: Stack, run: DagRun) -> None:
        image = manifest_of(stack, run)["images"][0]
        s3, bucket = stack.objectstore.client(), stack.objectstore.bucket
        (published,) = s3.list_objects_v2(Bucket=bucket, Prefix="published/")["Contents"]
        copied = s3.get_object(Bucket=bucket, Key=published["Key"])["Body"].read()
        assert hashlib.sha256(copied).hexdigest() == image["sha256"]

    def test_log_tells_its_story_in_under_15_lines(self, stack: Stack, run: DagRun) -> None:
        log = [str(event) for event in stack.client.log(run.dag_id, run.run_id, "generate")]
        story = [line for line in log if "imagegen" in line and "::group" not in line]
        text = "\n".join(log)
        for word in ("Validated", "Submitted", "Deferred", "Finished after", "Landed"):
            assert word in text, text
        assert len(story) < 15, "\n".join(story)

    def test_leaves_no_secret_anywhere(self, stack: Stack, run: DagRun) -> None:
        token = stack.gateway.token
        shown = json.dumps([stack.client.xcom(run.dag_id, run.run_id, "generate")])
        rendered = stack.client.request("GET", f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/generate")
        # The emulator tells its token when it starts, to whoever started it.
        paths = [path for path in stack.logs.rglob("*.log") if path.name != "emulator.log"]
        logs = "".join(path.read_text(errors="replace") for path in paths)
        for place in (shown, json.dumps(rendered), logs):
            assert token not in place
            assert "sig=" not in place


class TestTwelveMappedTasksOfOneToEightSeconds:
    """Short deferrals used to be failed by the scheduler: https://github.com/apache/airflow/issues/71580."""

    def test_all_succeed_and_are_billed_once(self, stack: Stack) -> None:
        stack.set_latency("1-8")
        before = billed(stack)
        run = run_to_the_end(stack, "example_mapped_prompts")
        tasks = [task for task in stack.client.task_instances(run.dag_id, run.run_id) if task.task_id == "generate"]
        assert [task.state for task in tasks] == ["success"] * 12
        assert [task.try_number for task in tasks] == [1] * 12
        assert stack.client.xcom(run.dag_id, run.run_id, "count") == 12
        assert billed(stack) - before == 12


class TestEveryGateway:
    PREFIXES = {"openai": "/openai-api", "apigo": "/apigo", "nano_banana": ""}  # noqa: RUF012

    def test_lands_its_pictures(self, stack: Stack) -> None:
        for gateway, prefix in self.PREFIXES.items():
            host = f"{stack.gateway.host}{prefix}"
            stack.client.create_connection(
                Connection(
                    f"imagegen_{gateway}",
                    "imagegen",
                    host=host,
                    password=stack.gateway.token,
                    extra={"gateway": gateway},
                )
            )
        before = billed(stack)
        stack.hold()
        stack.client.wait_for_dag("gateways")
        run_id = stack.client.trigger("gateways")
        # Four calls of each gateway that answers with the image, and a task: all at the same time.
        wait_until(lambda: stack.ledger()["totals"]["in_flight"] == 9, what="all submits")
        stack.release()
        run = stack.client.wait_for_run("gateways", run_id)
        assert run.state == "success"
        for task_id, count in {"openai": 4, "apigo": 4, "openai_edit": 1, "apigo_edit": 1, "nano_banana": 1}.items():
            manifest = manifest_of(stack, run, task_id)
            assert [image["index"] for image in manifest["images"]] == list(range(count))
            assert manifest["gateway"] == task_id.removesuffix("_edit")
        for gateway in ("openai", "apigo"):
            rows = [row for row in stack.ledger()["rows"] if row["dialect"] == gateway and row["model"] == "dall-e-3"]
            assert max(row["created_at"] for row in rows) < min(row["ready_at"] for row in rows)
        assert billed(stack) - before == 11


class TestBatchOfSixty:
    def test_shows_how_far_it_is_defers_and_lands_every_row(self, stack: Stack) -> None:
        before = billed(stack)
        run_id = run_until_deferred(stack, "batch")
        progress = stack.client.xcom("batch", run_id, "generate", key="progress")
        assert progress["rows"] == 60
        stack.release()
        run = stack.client.wait_for_run("batch", run_id)
        assert run.state == "success"
        summary = manifest_of(stack, run)
        assert [summary[name] for name in ("rows", "landed", "images", "billed")] == [60] * 4
        assert billed(stack) - before == 60
        key = summary["manifest_uri"].removeprefix(f"s3://{stack.objectstore.bucket}/")
        lines = stack.objectstore.client().get_object(Bucket=stack.objectstore.bucket, Key=key)["Body"].read()
        assert len(lines.splitlines()) == 60
        log = [str(event) for event in stack.client.log("batch", run_id, "generate")]
        assert any("60/60 landed" in line for line in log)
        assert len([line for line in log if "imagegen" in line]) < 40


class TestBatchFromCsv:
    def test_lands_every_row_under_its_key(self, stack: Stack) -> None:
        stack.set_latency(1)
        run = run_to_the_end(stack, "example_batch_from_csv")
        assert run.state == "success"
        prefix = f"imagegen/example_batch_from_csv/{run.run_id}/catalogue/"
        found = stack.objectstore.client().list_objects_v2(Bucket=stack.objectstore.bucket, Prefix=prefix)
        keys = {entry["Key"].removeprefix(prefix) for entry in found["Contents"]}
        assert keys == {"shoes/red.png", "shoes/blue.png", "hats/straw.png", "hats/felt.png", "manifest.jsonl"}


class TestClearedAfterSuccess:
    def test_hands_out_the_same_images_and_bills_nothing(self, stack: Stack) -> None:
        stack.set_latency(1)
        run = run_to_the_end(stack, "waiting")
        first, before = manifest_of(stack, run), billed(stack)
        stack.client.clear("waiting", run.run_id, ["generate"])
        again = stack.client.wait_for_run("waiting", run.run_id)
        assert again.state == "success"
        cleared = manifest_of(stack, run)
        assert [image["sha256"] for image in cleared["images"]] == [image["sha256"] for image in first["images"]]
        assert cleared["images"][0]["reused"] is True
        assert billed(stack) == before


class TestTriggererKilledWhileWaiting:
    def test_another_one_takes_over(self, stack: Stack) -> None:
        before = billed(stack)
        run_id = run_until_deferred(stack, "waiting")
        stack.kill_triggerer()
        stack.start_triggerer()
        stack.release()
        run = stack.client.wait_for_run("waiting", run_id)
        assert run.state == "success"
        assert manifest_of(stack, run)["delivered"] == 1
        assert billed(stack) - before == 1


class TestGatewayThatCanCancel:
    @pytest.fixture
    def deferred(self, stack: Stack) -> DagRun:
        """A run that waits for an image which is held at the gateway."""
        extra = {"gateway": "cancelling"}
        connection = Connection(
            "imagegen_cancelling", "imagegen", host=stack.gateway.host, password=stack.gateway.token, extra=extra
        )
        stack.client.create_connection(connection)
        run_id = run_until_deferred(stack, "cancelling")
        logs = stack.logs / "tasks" / "dag_id=cancelling" / f"run_id={run_id}"
        # Airflow tells only a trigger that has started.
        wait_until(lambda: list(logs.rglob("*.trigger.*")), what="the trigger to start")
        return stack.client.run("cancelling", run_id)

    def rows(self, stack: Stack, run: DagRun) -> list[tuple[str, str | None]]:
        rows = [row for row in stack.ledger()["rows"] if row["prompt"] == f"a lonely buoy {run.run_id}"]
        return [(row["state"], row["code"]) for row in rows]

    @needs_trigger_on_kill
    def test_is_told_when_the_deferred_task_is_marked_failed(self, stack: Stack, deferred: DagRun) -> None:
        stack.client.mark("cancelling", deferred.run_id, "generate", "failed")
        wait_until(lambda: ("failed", "cancelled") in self.rows(stack, deferred), what="the cancel")
        stack.release()

    def test_bills_one_image_when_the_deferred_task_is_cleared(self, stack: Stack, deferred: DagRun) -> None:
        """The old trigger cancels before the new try attaches, or not at all: which one comes first is not ours."""
        before = billed(stack)
        stack.client.clear("cancelling", deferred.run_id, ["generate"])
        wait_until(lambda: self.waits_again(stack, deferred), what="the new try to wait")
        stack.release()
        run = stack.client.wait_for_run("cancelling", deferred.run_id)
        assert run.state == "success"
        assert self.rows(stack, run) in ([("succeeded", None)], [("failed", "cancelled"), ("succeeded", None)])
        assert manifest_of(stack, run)["delivered"] == 1
        assert billed(stack) - before == 1

    def waits_again(self, stack: Stack, run: DagRun) -> bool:
        task = stack.client.task_instance("cancelling", run.run_id, "generate")
        return (task.state, task.try_number) == ("deferred", 2)


class TestConnectionForm:
    @needs_declared_forms
    def test_fields_come_back_from_the_api(self, stack: Stack) -> None:
        forms = stack.client.request("GET", "/ui/connections/hook_meta")
        (form,) = [form for form in forms if form["connection_type"] == "imagegen"]
        assert form["hook_name"] == "Image generation"
        assert form["standard_fields"]["host"]["title"] == "Base URL"
        assert form["standard_fields"]["password"]["title"] == "API token"
        assert {"gateway", "submit_path", "tasks_path", "timeout", "max_in_flight"} <= set(form["extra_fields"])

    def test_test_button_proves_the_token(self, stack: Stack) -> None:
        body = {
            "connection_id": "try",
            "conn_type": "imagegen",
            "host": stack.gateway.host,
            "password": stack.gateway.token,
            "extra": json.dumps({"gateway": "acedatacloud"}),
        }
        good = stack.client.request("POST", "connections/test", json=body)
        bad = stack.client.request("POST", "connections/test", json=body | {"password": "wrong"})
        assert good["status"] is True, good
        assert bad["status"] is False
        assert "API token" in bad["message"]
