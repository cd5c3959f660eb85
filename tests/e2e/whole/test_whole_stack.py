"""The provider in a whole Airflow: scheduler, workers, triggerer, PostgreSQL; nothing runs in this process."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from tests.airflow_versions import AIRFLOW, needs_declared_forms, needs_forwarded_stop, needs_trigger_on_kill
from tests.stack.rest import Connection, DagRun
from tests.stack.stack import Stack
from tests.stack.waiting import wait_until
from tests.stack.workers import running_tasks

WAITING = {
    "seen-through": ("waiting", "waits, seen-through"),
    "sixty": ("batch", "a row of "),
    "marked": ("cancelling", "buoy marked"),
    "cancelled-first": ("cancelling", "buoy cancelled-first"),
    "attached-first": ("cancelling", "buoy attached-first"),
}
"""Runs that wait deferred at the same time: their DAGs, and by what the gateway knows their prompts."""
HELD_UP = ("held_up", "held-up")
TASK = "generate"


def run_to_the_end(stack: Stack, dag_id: str, run_id: str) -> DagRun:
    stack.client.wait_for_dag(dag_id)
    return stack.client.wait_for_run(dag_id, stack.client.trigger(dag_id, run_id=run_id))


def manifest_of(stack: Stack, run: DagRun, task_id: str = TASK) -> Mapping[str, Any]:
    manifest: Mapping[str, Any] = stack.client.xcom(run.dag_id, run.run_id, task_id)
    return manifest


def billed(stack: Stack, prompt: str) -> list[int]:
    return [row["billed"] for row in stack.rows(prompt)]


def connect(stack: Stack, gateway: str, prefix: str, connection_id: str) -> None:
    host, extra = f"{stack.gateway.host}{prefix}", {"gateway": gateway}
    stack.client.create_connection(
        Connection(connection_id, "imagegen", host=host, password=stack.gateway.token, extra=extra)
    )


def log_of(stack: Stack, dag_id: str, run_id: str) -> list[str]:
    return [str(event) for event in stack.client.log(dag_id, run_id, TASK)]


def has_said(stack: Stack, words: str, dag_id: str, run_id: str, try_number: int) -> bool:
    """Return whether a try has logged some words on its worker, without asking Airflow."""
    folder = stack.logs / "tasks" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={TASK}"
    log = folder / f"attempt={try_number}.log"
    return log.exists() and words in log.read_text(errors="replace")


def trigger_logs(stack: Stack, dag_id: str, run_id: str) -> list[Path]:
    """Return the logs of a task's triggers, one for each triggerer in which one has started."""
    return list((stack.logs / "tasks" / f"dag_id={dag_id}" / f"run_id={run_id}").rglob("*.trigger.*"))


@pytest.fixture(scope="module")
def waiting(stack: Stack) -> Iterator[None]:
    """Runs that wait deferred for what the gateway holds, in their second triggerer: the first one was killed."""
    # The run without a slot has a connection of its own: the rows that are held through the default one fill its limit,
    # and a task is not woken before one of them ends, which is for other tests to decide.
    extras = {
        "imagegen_cancelling": {"gateway": "cancelling"},
        "imagegen_held_up": {"gateway": "acedatacloud", "max_in_flight": 5},
    }
    for conn_id, extra in extras.items():
        stack.client.create_connection(
            Connection(conn_id, "imagegen", host=stack.gateway.host, password=stack.gateway.token, extra=extra)
        )
    runs = [(dag_id, run_id) for run_id, (dag_id, _) in WAITING.items()]
    for _, prompt in WAITING.values():
        stack.hold(prompt)
    # One that is not even submitted: it waits for a slot, and its trigger too is killed and taken over.
    stack.arm("submit", "refuse", code="rate_limited", status=429, retry_after=5, prompt="waits, held-up", times=2)
    stack.client.wait_for_dag(HELD_UP[0])
    stack.client.trigger(HELD_UP[0], run_id=HELD_UP[1])
    # Noise, which is drawn once.
    stack.change(image_bytes=20_000)
    for dag_id, run_id in runs:
        stack.client.wait_for_dag(dag_id)
        stack.client.trigger(dag_id, run_id=run_id)
    for dag_id, run_id in runs:
        stack.client.wait_for_task(dag_id, run_id, TASK, states=["deferred"])
    stack.change(image_bytes=None)
    # Airflow tells only a trigger that has started that its task was killed.
    wait_until(lambda: all(len(trigger_logs(stack, *run)) == 1 for run in runs), what="the triggers to start")
    stack.kill_triggerer()
    stack.start_triggerer()
    wait_until(lambda: all(len(trigger_logs(stack, *run)) == 2 for run in runs), what="the triggers to start again")
    # Before any test kills the scheduler, with what runs then.
    stack.client.wait_for_run(*HELD_UP)
    yield
    stack.release()
    for run in runs:
        stack.client.wait_for_run(*run)


@pytest.fixture(scope="module")
def run(stack: Stack, waiting: None) -> DagRun:
    """A finished run whose task was deferred."""
    stack.release("waits, seen-through")
    return stack.client.wait_for_run("waiting", "seen-through")


class TestOneTask:
    def test_lands_what_was_billed_though_its_triggerer_was_killed(self, stack: Stack, run: DagRun) -> None:
        assert run.state == "success"
        assert stack.client.task_instance("waiting", run.run_id, TASK).try_number == 1
        images = manifest_of(stack, run)["images"]
        s3 = stack.objectstore.client()
        for image in images:
            head = s3.head_object(Bucket=image["bucket"], Key=image["key"])
            assert head["ContentLength"] == image["bytes"]
        rows = {row["task_id"]: row["billed"] for row in stack.rows("waits, seen-through")}
        assert {image["task_id"] for image in images} == rows.keys()
        assert sum(rows.values()) == len(images) == 2

    def test_hands_the_manifest_to_the_next_task(self, stack: Stack, run: DagRun) -> None:
        image = manifest_of(stack, run)["images"][0]
        s3, bucket = stack.objectstore.client(), stack.objectstore.bucket
        copied = s3.get_object(Bucket=bucket, Key=f"copied/{run.run_id}.png")["Body"].read()
        assert hashlib.sha256(copied).hexdigest() == image["sha256"]

    def test_logs_fewer_than_15_lines(self, stack: Stack, run: DagRun) -> None:
        log = log_of(stack, "waiting", run.run_id)
        story = [line for line in log if "imagegen" in line and "::group" not in line]
        text = "\n".join(log)
        for word in ("Validated", "Submitted", "Deferred", "Finished after", "Landed"):
            assert word in text, text
        assert len(story) < 15, "\n".join(story)

    def test_leaves_no_secret_anywhere(self, stack: Stack, run: DagRun) -> None:
        token = stack.gateway.token
        shown = json.dumps([stack.client.xcom(run.dag_id, run.run_id, TASK)])
        rendered = stack.client.request("GET", f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{TASK}")
        # The emulator prints its token when it starts.
        paths = [path for path in stack.logs.rglob("*.log") if path.name != "emulator.log"]
        logs = "".join(path.read_text(errors="replace") for path in paths)
        for place in (shown, json.dumps(rendered), logs):
            assert token not in place
            assert not re.search(r"[?&]sig=[0-9a-f]", place)


class TestGatewayWithoutFreeSlot:
    def test_defers_the_task_unsubmitted_until_it_is_its_turn(self, stack: Stack, waiting: None) -> None:
        run = stack.client.wait_for_run(*HELD_UP)
        assert run.state == "success"
        assert has_said(stack, "Deferred, unsubmitted: acedatacloud has no free slot", *HELD_UP, 1)
        assert stack.client.task_instance(*HELD_UP, TASK).try_number == 1
        assert billed(stack, "waits, held-up") == [1, 1]


class TestSchedulerKilledWithRunningTasks:
    def test_what_they_submitted_is_landed_and_paid_for_once(self, stack: Stack) -> None:
        dag_id, run_id, prompt = "on_worker", "interrupted", "with a keeper"
        stack.hold(prompt)
        stack.client.wait_for_dag(dag_id)
        stack.client.trigger(dag_id, run_id=run_id)
        wait_until(lambda: has_said(stack, "Submitted image", dag_id, run_id, 1), what="the submit")
        # Its workers die with it, before or after the ledger knows the task ids.
        stack.kill_scheduler()
        stack.start_scheduler()
        attached = ("already submitted by", "Found what was sent")
        wait_until(lambda: any(has_said(stack, words, dag_id, run_id, 2) for words in attached), what="the next try")
        stack.release(prompt)
        run = stack.client.wait_for_run(dag_id, run_id)
        assert run.state == "success"
        assert manifest_of(stack, run)["delivered"] == 2
        assert sum(billed(stack, prompt)) == 2


@needs_forwarded_stop
class TestWorkerToldToStop:
    def test_what_the_gateway_has_lands_and_the_retry_sends_the_rest(self, stack: Stack) -> None:
        dag_id, run_id, prompt = "stopped", "told-to-stop", "six willows"
        connect(stack, "openai", "/openai-api", "imagegen_stopped")
        stack.hold(prompt)
        stack.client.wait_for_dag(dag_id)
        stack.client.trigger(dag_id, run_id=run_id)
        wait_until(lambda: len(stack.rows(prompt)) == 4, what="as many submits as may be in flight")
        (task,) = [task for task in running_tasks(stack.airflow.scheduler.pid) if task.has_said("Validated: 6 row(s)")]
        assert task.stop()
        wait_until(lambda: has_said(stack, "told to stop", dag_id, run_id, 1), what="the worker to stop")
        stack.release(prompt)
        run = stack.client.wait_for_run(dag_id, run_id)
        assert run.state == "success"
        assert has_said(stack, "TaskStopped", dag_id, run_id, 1)
        assert billed(stack, prompt) == [1] * 6
        assert manifest_of(stack, run)["landed"] == 6


class TestEveryGateway:
    PREFIXES = {"openai": "/openai-api", "apigo": "/apigo", "nano_banana": ""}  # noqa: RUF012
    COUNTS = {"openai": 4, "apigo": 4, "openai_edit": 1, "apigo_edit": 1, "nano_banana": 1}  # noqa: RUF012

    def test_lands_its_images(self, stack: Stack) -> None:
        for gateway, prefix in self.PREFIXES.items():
            connect(stack, gateway, prefix, f"imagegen_{gateway}")
        stack.hold("Four lighthouses")
        stack.client.wait_for_dag("gateways")
        run_id = stack.client.trigger("gateways")
        # Four calls at each gateway that answers with the image, all at the same time.
        wait_until(lambda: len(stack.rows("Four lighthouses")) == 8, what="all submits")
        stack.release("Four lighthouses")
        run = stack.client.wait_for_run("gateways", run_id)
        assert run.state == "success"
        for task_id, count in self.COUNTS.items():
            manifest = manifest_of(stack, run, task_id)
            assert [image["index"] for image in manifest["images"]] == list(range(count))
            assert manifest["gateway"] == task_id.removesuffix("_edit")
        rows = stack.rows("Four lighthouses")
        assert max(row["created_at"] for row in rows) < min(row["ready_at"] for row in rows)
        assert sorted(row["dialect"] for row in rows) == ["apigo"] * 4 + ["openai"] * 4
        assert billed(stack, "Four lighthouses") == [1] * 8
        assert billed(stack, "One of them at night") == [1] * 2
        assert billed(stack, "made of bananas") == [1]


class TestBatchOfSixty:
    def test_shows_how_far_it_is_defers_and_lands_every_row(self, stack: Stack, waiting: None) -> None:
        progress = stack.client.xcom("batch", "sixty", TASK, key="progress")
        assert progress["rows"] == 60
        stack.release("a row of ")
        run = stack.client.wait_for_run("batch", "sixty")
        assert run.state == "success"
        summary = manifest_of(stack, run)
        assert [summary[name] for name in ("rows", "landed", "images", "billed")] == [60] * 4
        assert billed(stack, "a row of ") == [1] * 60
        key = summary["manifest_uri"].removeprefix(f"s3://{stack.objectstore.bucket}/")
        lines = stack.objectstore.client().get_object(Bucket=stack.objectstore.bucket, Key=key)["Body"].read()
        assert len(lines.splitlines()) == 60
        log = log_of(stack, "batch", "sixty")
        assert any("60/60 landed" in line for line in log)
        assert len([line for line in log if "imagegen" in line]) < 40


class TestClearedAfterSuccess:
    def test_returns_the_same_images_and_bills_nothing(self, stack: Stack) -> None:
        run = run_to_the_end(stack, "waiting", "cleared")
        first = manifest_of(stack, run)
        stack.client.clear("waiting", run.run_id, [TASK])
        again = stack.client.wait_for_run("waiting", run.run_id)
        assert again.state == "success"
        cleared = manifest_of(stack, run)
        assert [image["sha256"] for image in cleared["images"]] == [image["sha256"] for image in first["images"]]
        assert [image["reused"] for image in cleared["images"]] == [True, True]
        assert sum(billed(stack, "waits, cleared")) == 2


class TestGatewayThatCanCancel:
    def rows(self, stack: Stack, run_id: str) -> list[tuple[str, str | None, int]]:
        return [(row["state"], row["code"], row["billed"]) for row in stack.rows(f"a lonely buoy {run_id}")]

    @needs_trigger_on_kill
    def test_is_asked_to_cancel_when_the_deferred_task_is_marked_failed(self, stack: Stack, waiting: None) -> None:
        stack.client.mark("cancelling", "marked", TASK, "failed")
        wait_until(lambda: self.rows(stack, "marked") == [("failed", "cancelled", 0)], what="the cancel")

    @needs_trigger_on_kill
    def test_is_asked_again_by_a_cleared_task_that_comes_after_the_cancel(self, stack: Stack, waiting: None) -> None:
        # The scheduler goes on, and the triggerer hears of it, but no worker takes the next try.
        stack.airflow.scheduler.pause("airflow worker")
        try:
            stack.client.clear("cancelling", "cancelled-first", [TASK])
            cancelled = ("failed", "cancelled", 0)
            wait_until(lambda: self.rows(stack, "cancelled-first") == [cancelled], what="the cancel")
            stack.release("buoy cancelled-first")
        finally:
            stack.airflow.scheduler.resume()
        run = stack.client.wait_for_run("cancelling", "cancelled-first")
        assert run.state == "success"
        assert manifest_of(stack, run)["delivered"] == 1
        assert self.rows(stack, run.run_id) == [cancelled, ("succeeded", None, 1)]

    def test_is_not_asked_to_cancel_what_the_cleared_task_attached_to(self, stack: Stack, waiting: None) -> None:
        (triggerer,) = stack.airflow.triggerers
        triggerer.pause()
        try:
            stack.client.clear("cancelling", "attached-first", [TASK])
            said = "already submitted by"
            wait_until(lambda: has_said(stack, said, "cancelling", "attached-first", 2), what="the new try")
        finally:
            triggerer.resume()
        if Version("3.3") <= AIRFLOW:
            wait_until(lambda: self.is_left_alone(stack, "attached-first"), what="the old trigger to learn of it")
        stack.release("buoy attached-first")
        run = stack.client.wait_for_run("cancelling", "attached-first")
        assert run.state == "success"
        assert manifest_of(stack, run)["delivered"] == 1
        assert self.rows(stack, run.run_id) == [("succeeded", None, 1)]

    def is_left_alone(self, stack: Stack, run_id: str) -> bool:
        """Return whether the old trigger has said that it cancels nothing."""
        logs = [*trigger_logs(stack, "cancelling", run_id), *stack.logs.glob("triggerer-*.log")]
        (row,) = stack.rows(f"a lonely buoy {run_id}")
        return any(f"Task {row['task_id']} is not cancelled" in log.read_text(errors="replace") for log in logs)


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
