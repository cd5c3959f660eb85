"""Decorator, wait=False and landing, sensor, links, assets and lineage in a whole Airflow, in one run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.airflow_versions import needs_declared_forms
from tests.stack.rest import Connection, DagRun, TaskInstance
from tests.stack.stack import Stack

DAG = "conventions"
WAITING = ("ferry", "fleet", "land", "watch")
"""Tasks that defer, for no image is ready before all of them wait."""
IMAGES = 8
PROMPTS = ("A ferry", "at its mooring", "A tug", "A raft")


@dataclass(frozen=True)
class Finished:
    """
    The run, after two of its tasks were cleared and were over for the second time.

    :param stack: where it ran
    :param run: the run
    :param tasks: the states of its tasks after the first run
    :param landed: what the cleared task had returned the first time
    :param lineage: file that OpenLineage's events went to
    """

    stack: Stack
    run: DagRun
    tasks: Sequence[TaskInstance]
    landed: Mapping[str, Any]
    lineage: Path

    def xcom(self, task_id: str, map_index: int = -1) -> Any:
        return self.stack.client.xcom(DAG, self.run.run_id, task_id, map_index=map_index)

    def links(self, task_id: str, map_index: int = -1) -> Mapping[str, str | None]:
        path = f"dags/{DAG}/dagRuns/{quote(self.run.run_id)}/taskInstances/{task_id}/links"
        found: Mapping[str, str | None] = self.stack.client.request("GET", path, map_index=map_index)["extra_links"]
        return found

    def log(self, task_id: str) -> str:
        return "\n".join(map(str, self.stack.client.log(DAG, self.run.run_id, task_id)))

    def billed(self) -> int:
        """Return how many images of this DAG's prompts were billed."""
        return sum(row["billed"] for words in PROMPTS for row in self.stack.rows(words))


@pytest.fixture(scope="module")
def finished(stack: Stack, lineage: Path) -> Finished:
    gateway = stack.gateway
    stack.client.create_connection(
        Connection("imagegen_paged", "imagegen", host=gateway.host, password=gateway.token, extra={"gateway": "paged"})
    )
    for words in PROMPTS:
        stack.hold(words)
    stack.client.wait_for_dag(DAG)
    run_id = stack.client.trigger(DAG)
    for task_id in WAITING:
        stack.client.wait_for_task(DAG, run_id, task_id, states=["deferred"])
    stack.release()
    run = stack.client.wait_for_run(DAG, run_id)
    tasks = stack.client.task_instances(DAG, run.run_id)
    landed = stack.client.xcom(DAG, run.run_id, "land")
    stack.client.clear(DAG, run.run_id, ["submit", "land"])
    stack.client.wait_for_run(DAG, run.run_id)
    return Finished(stack, run, tasks, landed, lineage)


class TestRun:
    def test_ends_well_and_pays_for_every_image_once(self, finished: Finished) -> None:
        assert {(task.task_id, task.state, task.try_number) for task in finished.tasks} == {
            (name, "success", 1) for name in ("boat", "ferry", "fleet", "ids", "land", "submit", "watch")
        }
        assert finished.billed() == IMAGES

    def test_holds_no_worker_while_the_gateway_generates(self, finished: Finished) -> None:
        for task_id in WAITING:
            assert "DEFERRED" in finished.log(task_id)
        assert "DEFERRED" not in finished.log("submit")


class TestDecorator:
    def test_lands_what_the_function_returned(self, finished: Finished) -> None:
        (row,) = finished.stack.rows("A ferry in fog, ")
        assert row["prompt"] == f"A ferry in fog, {finished.run.run_id}"
        assert finished.xcom("ferry")["delivered"] == 1
        assert [finished.xcom("boat", number)["delivered"] for number in (0, 1)] == [1, 1]

    def test_makes_a_batch_of_a_list(self, finished: Finished) -> None:
        assert (finished.xcom("fleet")["rows"], finished.xcom("fleet")["landed"]) == (3, 3)

    def test_shows_the_prompt(self, finished: Finished) -> None:
        path = f"dags/{DAG}/dagRuns/{quote(finished.run.run_id)}/taskInstances/ferry"
        rendered = finished.stack.client.request("GET", path)["rendered_fields"]
        assert (rendered["prompt"], rendered["quality"]) == (f"A ferry in fog, {finished.run.run_id}", "low")


class TestLandedLater:
    def test_is_the_same_when_both_are_cleared(self, finished: Finished) -> None:
        before, after = finished.landed, finished.xcom("land")
        assert (before["delivered"], before["billed"], before["reused"]) == (2, 2, 0)
        assert finished.stack.client.task_instance(DAG, finished.run.run_id, "land").try_number == 2
        assert [image["sha256"] for image in after["images"]] == [image["sha256"] for image in before["images"]]
        assert (after["reused"], after["billed"], finished.billed()) == (2, 2, IMAGES)


class TestSensor:
    def test_returns_what_the_gateway_says(self, finished: Finished) -> None:
        result = finished.xcom("watch")
        assert (result["images"], {task["state"] for task in result["tasks"]}) == (2, {"succeeded"})
        assert "http" not in json.dumps(result)


class TestLinks:
    def test_lead_to_the_images_and_the_gateways_page(self, finished: Finished) -> None:
        page = f"/dags/{DAG}/runs/{quote(finished.run.run_id, safe='')}/plugin/imagegen-run"
        (image,) = finished.xcom("ferry")["images"]
        assert finished.links("ferry") == {
            "Images": f"{finished.stack.airflow.home.base_url}{page}",
            "Gateway task": f"https://gpu.example/tasks/{image['task_id']}",
            "S3": None,
        }

    def test_are_each_mapped_tasks_own(self, finished: Finished) -> None:
        pages = {finished.links("boat", number)["Gateway task"] for number in (0, 1)}
        assert len(pages - {None}) == 2


class TestAssets:
    def test_get_events_for_landed_images(self, finished: Finished) -> None:
        events = finished.stack.client.request("GET", "assets/events", source_dag_id=DAG, limit=50)["asset_events"]
        by_task = {(event["source_task_id"], event["uri"]): event["extra"] for event in events}
        manifest = finished.xcom("ferry")
        prefix = manifest["manifest_uri"].removesuffix("/manifest.json")
        for uri in ("ferries", prefix):
            extra = by_task["ferry", uri]
            assert extra["uris"] == [manifest["images"][0]["uri"]]
            assert (extra["manifest_uri"], extra["fingerprint"]) == (manifest["manifest_uri"], manifest["fingerprint"])
        assert by_task["land", "rafts"]["delivered"] == 2


class TestLineage:
    def test_names_what_landed(self, finished: Finished) -> None:
        events = [json.loads(line) for line in finished.lineage.read_text().splitlines()]
        outputs: dict[str, set[str]] = {}
        for event in events:
            job, names = event["job"]["name"], {f"{out['namespace']}/{out['name']}" for out in event["outputs"]}
            if event["eventType"] == "COMPLETE" and names:
                outputs.setdefault(job, set()).update(names)
        for task_id in ("ferry", "land"):
            assert outputs[f"{DAG}.{task_id}"] >= {image["uri"] for image in finished.xcom(task_id)["images"]}
        assert finished.xcom("fleet")["manifest_uri"] in outputs[f"{DAG}.fleet"]


class TestConnectionForm:
    @needs_declared_forms
    def test_offers_every_installed_gateway(self, finished: Finished) -> None:
        forms = finished.stack.client.request("GET", "/ui/connections/hook_meta")
        (form,) = [form for form in forms if form["connection_type"] == "imagegen"]
        offered = form["extra_fields"]["gateway"]["schema"]["enum"]
        assert {None, "acedatacloud", "apigo", "nano_banana", "openai", "paged"} <= set(offered)
