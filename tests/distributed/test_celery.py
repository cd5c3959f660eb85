"""
The CeleryExecutor: workers that are told to stop, and workers that are killed.

A killed worker's tasks stay ``running`` until the scheduler misses their heartbeats (``[scheduler]
task_instance_heartbeat_timeout``), for which it looks every ``task_instance_heartbeat_timeout_detection_interval``
seconds. Here that is every second, and the last heartbeats of such tasks are made a day old. Redis's
``visibility_timeout`` changes nothing: what is delivered again is ignored while the task is ``running``.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.stack.celery_worker import CeleryWorker
from tests.stack.rest import DagRun
from tests.stack.stack import Stack
from tests.stack.waiting import wait_until

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not importlib.util.find_spec("celery"), reason="`make distributed` installs Celery and Redis"),
]

TASK = "generate"
BATCH = "distributed_batch"
CREW, CREW_PROMPT = "distributed_on_workers", "A ferry with a crew"


def billed(stack: Stack, prompt: str) -> list[int]:
    return [row["billed"] for row in stack.rows(prompt)]


def start_run(stack: Stack, dag_id: str, run_id: str) -> None:
    stack.client.wait_for_dag(dag_id)
    stack.client.trigger(dag_id, run_id=run_id)


def landed(stack: Stack, images: list[Mapping[str, Any]]) -> set[str]:
    """Return the keys of images, each of which is in the bucket as its manifest says."""
    s3 = stack.objectstore.client()
    for image in images:
        head = s3.head_object(Bucket=image["bucket"], Key=image["key"])
        assert head["ContentLength"] == image["bytes"]
    return {image["key"] for image in images}


def images_of_mapped(stack: Stack, run: DagRun, count: int) -> list[Mapping[str, Any]]:
    manifests = [stack.client.xcom(run.dag_id, run.run_id, TASK, map_index=index) for index in range(count)]
    return [image for manifest in manifests for image in manifest["images"]]


def images_of_batch(stack: Stack, run: DagRun) -> list[Mapping[str, Any]]:
    s3, bucket = stack.objectstore.client(), stack.objectstore.bucket
    key = stack.client.xcom(run.dag_id, run.run_id, TASK)["manifest_uri"].removeprefix(f"s3://{bucket}/")
    lines = s3.get_object(Bucket=bucket, Key=key)["Body"].read().splitlines()
    return [image for line in lines for image in json.loads(line)["images"]]


def have_said(tries: list[Path], words: str) -> int:
    """Return how many logs of tries contain some words."""
    return sum(words in log.read_text(errors="replace") for log in tries)


class TestDeferredTasks:
    def test_are_landed_by_the_workers(self, stack: Stack) -> None:
        dag_id, run_id, prompt = "distributed_deferred", "deferred", "A ferry that is deferred"
        stack.hold(prompt)
        start_run(stack, dag_id, run_id)
        for index in range(4):
            stack.client.wait_for_task(dag_id, run_id, TASK, states=["deferred"], map_index=index)
        stack.release(prompt)
        run = stack.client.wait_for_run(dag_id, run_id)
        assert run.state == "success"
        assert billed(stack, prompt) == [1] * 4
        images = images_of_mapped(stack, run, 4)
        assert {image["task_id"] for image in images} == {row["task_id"] for row in stack.rows(prompt)}
        assert len(landed(stack, images)) == 4


class TestKilledWorker:
    def test_what_it_had_submitted_is_landed_by_the_other_and_paid_for_once(self, stack: Stack) -> None:
        run_id = "killed"
        killed, other = stack.workers(2)
        stack.hold(CREW_PROMPT)
        start_run(stack, CREW, run_id)

        def tries(worker: CeleryWorker) -> list[Path]:
            return worker.tries(CREW, run_id, TASK)

        def all_are_submitted() -> bool:
            return [have_said(tries(worker), "Submitted image") for worker in (killed, other)] == [3, 3]

        wait_until(all_are_submitted, what="both workers to submit as many as they can run")
        lost = {int(log.parent.name.removeprefix("map_index=")) for log in tries(killed)}
        killed.process.kill()
        for index in lost:
            stack.declare_task_dead(self.id_of(stack, run_id, index))
        stack.release(CREW_PROMPT)
        run = stack.client.wait_for_run(CREW, run_id)
        second = {log for log in tries(other) if log.name == "attempt=2.log"}
        assert run.state == "success"
        assert {int(log.parent.name.removeprefix("map_index=")) for log in second} == lost
        assert billed(stack, CREW_PROMPT) == [1] * 6
        images = images_of_mapped(stack, run, 6)
        assert {image["task_id"] for image in images} == {row["task_id"] for row in stack.rows(CREW_PROMPT)}
        assert len(landed(stack, images)) == 6

    def id_of(self, stack: Stack, run_id: str, map_index: int) -> str:
        path = f"dags/{CREW}/dagRuns/{run_id}/taskInstances/{TASK}/{map_index}"
        return str(stack.client.request("GET", path)["id"])


class TestWorkerToldToStop:
    """SIGTERM, with a batch on it whose gateway answers with the image, and four requests in flight."""

    @pytest.fixture
    def batch(self, stack: Stack, request: pytest.FixtureRequest) -> Iterator[tuple[str, CeleryWorker]]:
        """The run of a batch with four requests in flight, and its worker."""
        run_id = str(request.param)
        workers = stack.workers(2)
        stack.hold(f"A row of ferries, {run_id}")
        start_run(stack, BATCH, run_id)
        wait_until(lambda: len(stack.rows(f"A row of ferries, {run_id}")) == 4, what="what may be in flight")
        (worker,) = [worker for worker in workers if worker.tries(BATCH, run_id, TASK)]
        yield run_id, worker
        worker.process.stop()

    def assert_landed(self, stack: Stack, run_id: str) -> None:
        run = stack.client.wait_for_run(BATCH, run_id)
        assert run.state == "success"
        assert billed(stack, f"A row of ferries, {run_id}") == [1] * 6
        summary = stack.client.xcom(BATCH, run_id, TASK)
        assert [summary[name] for name in ("rows", "landed", "images", "billed")] == [6] * 4
        assert len(landed(stack, images_of_batch(stack, run))) == 6

    @pytest.mark.parametrize("batch", ["warm"], indirect=True)
    def test_sends_the_rest_and_lands_all_before_it_ends(self, stack: Stack, batch: tuple[str, CeleryWorker]) -> None:
        run_id, worker = batch
        worker.process.terminate()
        wait_until(lambda: worker.has_logged("Warm shutdown"), what="the warm shutdown")
        stack.release(run_id)
        worker.process.wait_success()
        self.assert_landed(stack, run_id)
        assert [log.name for log in worker.tries(BATCH, run_id, TASK)] == ["attempt=1.log"]

    @pytest.mark.parametrize("batch", ["all-told"], indirect=True)
    def test_with_its_tasks_lands_what_is_in_flight_and_another_sends_the_rest(
        self, stack: Stack, batch: tuple[str, CeleryWorker]
    ) -> None:
        run_id, worker = batch
        worker.process.terminate(group=True)
        first = worker.tries(BATCH, run_id, TASK)
        wait_until(lambda: have_said(first, "told to stop"), what="the task to stop")
        stack.release(run_id)
        self.assert_landed(stack, run_id)
        assert have_said(first, "TaskStopped") == 1
        (other,) = [other for other in stack.airflow.workers if other is not worker]
        assert [log.name for log in other.tries(BATCH, run_id, TASK)] == ["attempt=2.log"]
