"""All examples in ``dags_examples`` run concurrently in one Airflow: each one succeeds and does what it describes."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.stack.records import DagRun
from tests.stack.stack import EXAMPLES, Stack
from tests.stack.waiting import wait_until

FILES = sorted(EXAMPLES.glob("example_*.py"))
MARCH = ("2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z")

SCHEDULED = "example_generate_image"
BACKFILLED = "example_reuse_across_backfills"
PRODUCER, CONSUMER = "example_asset_images", "example_asset_images_consumer"
MAPPED = "example_mapped_prompts"

TRIGGERED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "example_approve_images": {"approve": {}, "re-roll": {}, "reject": {}},
    PRODUCER: {"once": {}},
    "example_batch_from_csv": {"once": {}},
    "example_edit_image": {"once": {}},
    "example_land_images": {"once": {}},
    MAPPED: {"once": {}},
    "example_moderation_fallback": {
        "harmless": {"prompt": "Two knights at chess"},
        "refused": {"prompt": "Two knights [[moderation]]"},
    },
    "example_openai": {"once": {}},
    "example_task_decorator": {"once": {}},
    "example_taskflow_hook": {"once": {}},
}
"""DAGs that are triggered, the longest first: their runs' ids and configurations."""
SHORTLY = "in soft morning light"


@dataclass(frozen=True)
class Finished:
    """All examples after their runs.

    :param stack: where they ran
    :param runs: by DAG and run; those that were not triggered are called by what started them and a number
    """

    stack: Stack
    runs: Mapping[str, Mapping[str, DagRun]]

    def xcom(self, dag_id: str, task_id: str, run: str = "once") -> Any:
        """Return what a task handed on."""
        return self.stack.client.xcom(dag_id, self.runs[dag_id][run].run_id, task_id)

    def states(self, dag_id: str, run: str = "once") -> dict[str, str | None]:
        """Return the states of the tasks of one run."""
        tasks = self.stack.client.task_instances(dag_id, self.runs[dag_id][run].run_id)
        return {task.task_id: task.state for task in tasks}

    def rows(self, prompt: str) -> list[Mapping[str, Any]]:
        """Return the gateway's rows of one prompt."""
        return [row for row in self.stack.rows(prompt) if row["prompt"] == prompt]

    def content(self, image: Mapping[str, Any]) -> bytes:
        """Return what is in S3 where a manifest says."""
        bucket, _, key = image["uri"].removeprefix("s3://").partition("/")
        return self.stack.objectstore.client().get_object(Bucket=bucket, Key=key)["Body"].read()

    def published(self, beginning: str) -> dict[str, bytes]:
        """Return what the DAGs have copied to names that begin like this."""
        store, folder = self.stack.objectstore, "published/"
        found = store.client().list_objects_v2(Bucket=store.bucket, Prefix=f"{folder}{beginning}")["Contents"]
        uris = {entry["Key"].removeprefix(folder): f"s3://{store.bucket}/{entry['Key']}" for entry in found}
        return {name: self.content({"uri": uri}) for name, uri in uris.items()}


@pytest.fixture(scope="module")
def examples(stack: Stack) -> Finished:
    # Some of the mapped tasks wait deferred.
    stack.hold(SHORTLY)
    start(stack)
    wait_until(lambda: has_deferred(stack, MAPPED), what="a task to wait deferred", interval=0.5)
    stack.release(SHORTLY)
    answer(stack)
    return Finished(stack, {dag["dag_id"]: finish(stack, dag["dag_id"]) for dag in dags(stack)})


def has_deferred(stack: Stack, dag_id: str) -> bool:
    return any(task.state == "deferred" for task in stack.client.task_instances(dag_id, "once"))


def start(stack: Stack) -> None:
    """Start the runs of all examples side by side, each as soon as its file is parsed."""
    for dag_id, runs in TRIGGERED.items():
        stack.client.wait_for_dag(dag_id)
        if dag_id == PRODUCER:
            stack.client.unpause(CONSUMER)
        for run_id, conf in runs.items():
            stack.client.trigger(dag_id, conf, run_id=run_id)
    for dag_id in (SCHEDULED, BACKFILLED):
        stack.client.wait_for_dag(dag_id)
        stack.client.unpause(dag_id)
    backfill = {"dag_id": BACKFILLED, "from_date": MARCH[0], "to_date": MARCH[1]}
    stack.client.request("POST", "backfills", json=backfill)
    for path in FILES:
        stack.client.wait_for_dag(path.stem)


def answer(stack: Stack) -> None:
    """Answer the requests for approval, each as its run is called."""
    for run_id, choice in {"reject": "Reject", "approve": "Approve", "re-roll": "Re-roll"}.items():
        respond(stack, run_id, "decide", choice)
    respond(stack, "re-roll", "approve_again", "Approve")


def respond(stack: Stack, run_id: str, task_id: str, choice: str) -> None:
    """Answer as slowly as people do: when the scheduler knows that the worker has left the task.

    It fails a task that is resumed sooner: https://github.com/apache/airflow/issues/71580.
    """
    dag_id = "example_approve_images"
    stack.client.wait_for_task(dag_id, run_id, task_id, states=["awaiting_input", "deferred"])
    key = f"TaskInstanceKey(dag_id='{dag_id}', task_id='{task_id}', run_id='{run_id}'"
    left = f"Received executor event with state success for task instance {key}"
    log = stack.logs / "scheduler.log"
    wait_until(lambda: left in log.read_text(errors="replace"), what="the scheduler to notice")
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
    stack.client.request("PATCH", path, json={"chosen_options": [choice]})


def dags(stack: Stack) -> list[Mapping[str, Any]]:
    """Return the DAGs of the examples' folder."""
    found = stack.client.request("GET", "dags", limit=100)["dags"]
    return [dag for dag in found if Path(dag["fileloc"]).parent == EXAMPLES]


def finish(stack: Stack, dag_id: str) -> dict[str, DagRun]:
    """Wait until all runs of a DAG have ended, of which there is at least one."""
    found = wait_until(lambda: runs_of(stack, dag_id), what=f"a run of {dag_id}")
    numbered = {f"{run['run_type']} {number}": run["dag_run_id"] for number, run in enumerate(found)}
    triggered = TRIGGERED.get(dag_id)
    names = {run_id: run_id for run_id in triggered} if triggered else numbered
    return {name: stack.client.wait_for_run(dag_id, run_id) for name, run_id in names.items()}


def runs_of(stack: Stack, dag_id: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = stack.client.request("GET", f"dags/{dag_id}/dagRuns", order_by="run_after")[
        "dag_runs"
    ]
    return found


def uris(manifest: Mapping[str, Any]) -> list[str]:
    return [image["uri"] for image in manifest["images"]]


class TestEveryExample:
    def test_is_parsed_without_errors(self, examples: Finished) -> None:
        assert examples.stack.client.import_errors() == []

    def test_is_called_like_its_file_and_runs_here(self, examples: Finished) -> None:
        files = {path.stem for path in FILES}
        assert files <= set(examples.runs)
        for dag in dags(examples.stack):
            assert Path(dag["fileloc"]).stem in files
            assert dag["dag_id"].startswith(Path(dag["fileloc"]).stem)

    def test_succeeds(self, examples: Finished) -> None:
        states = {(dag_id, name): run.state for dag_id, runs in examples.runs.items() for name, run in runs.items()}
        assert set(states.values()) == {"success"}, states

    def test_tells_the_docs_where_to_cut(self) -> None:
        names = []
        for path in FILES:
            marks = re.findall(r"# \[(START|END) (\w+)\]", path.read_text())
            starts, ends = ([name for mark, name in marks if mark == which] for which in ("START", "END"))
            assert starts == ends != []
            assert [mark for mark, _ in marks] == ["START", "END"] * len(starts)
            names += starts
        assert len(names) == len(set(names))
        assert all(name.startswith("howto_") for name in names)


class TestGenerate:
    def test_is_run_by_its_schedule(self, examples: Finished) -> None:
        (run,) = examples.runs[SCHEDULED].values()
        client = examples.stack.client
        manifest = client.xcom(SCHEDULED, run.run_id, "generate")
        assert manifest["delivered"] == 2
        ((_, published),) = examples.published("20").items()
        assert published == examples.content(manifest["images"][0])


class TestMapped:
    def test_names_its_tasks_by_their_prompts(self, examples: Finished) -> None:
        path = f"dags/{MAPPED}/dagRuns/once/taskInstances/generate/listMapped"
        labels = {task["rendered_map_index"] for task in examples.stack.client.request("GET", path)["task_instances"]}
        assert labels == set(examples.xcom(MAPPED, "prompts"))
        assert examples.xcom(MAPPED, "count") == len(labels) == 12

    def test_succeeds_at_the_first_try_however_short_the_deferrals(self, examples: Finished) -> None:
        """The scheduler fails tasks that return too early: https://github.com/apache/airflow/issues/71580."""
        tasks = [task for task in examples.stack.client.task_instances(MAPPED, "once") if task.task_id == "generate"]
        assert [(task.state, task.try_number) for task in tasks] == [("success", 1)] * 12
        assert [row["billed"] for row in examples.stack.rows(SHORTLY)] == [1] * 12


class TestBatch:
    DAG = "example_batch_from_csv"

    def test_lands_every_row_under_its_key(self, examples: Finished) -> None:
        summary = examples.xcom(self.DAG, "catalogue")
        assert (summary["rows"], summary["landed"]) == (4, 4)
        store, prefix = examples.stack.objectstore, f"imagegen/{self.DAG}/once/catalogue/"
        found = store.client().list_objects_v2(Bucket=store.bucket, Prefix=prefix)["Contents"]
        keys = {entry["Key"].removeprefix(prefix) for entry in found}
        assert keys == {"shoes/red.png", "shoes/blue.png", "hats/straw.png", "hats/felt.png", "manifest.jsonl"}


class TestEdit:
    def test_sends_the_generated_image_and_the_mask(self, examples: Finished) -> None:
        dag_id = "example_edit_image"
        drawn = examples.xcom(dag_id, "generate")["images"][0]
        for task_id in ("at_night", "with_gulls"):
            (image,) = examples.xcom(dag_id, task_id)["images"]
            assert image["sha256"] != drawn["sha256"]
            row = next(row for row in examples.stack.ledger()["rows"] if row["task_id"] == image["task_id"])
            assert (row["route"], row["billed"]) == ("edit", 1)


class TestApproval:
    DAG = "example_approve_images"

    def test_shows_the_images(self, examples: Finished) -> None:
        path = f"dags/{self.DAG}/dagRuns/approve/taskInstances/decide/-1/hitlDetails"
        body = examples.stack.client.request("GET", path)["body"]
        shown = re.findall(r"!\[\w+\]\((\S+)\)", body)
        login = examples.stack.airflow.home.login
        with httpx.Client(trust_env=False, follow_redirects=True) as browser:
            home = examples.stack.airflow.home.base_url
            answer = browser.post(f"{home}/auth/token", json={"username": login.username, "password": login.password})
            browser.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            images = [browser.get(address).raise_for_status().content for address in shown]
        landed = examples.xcom(self.DAG, "generate", "approve")["images"]
        assert [hashlib.sha256(each).hexdigest() for each in images] == [image["sha256"] for image in landed]

    def test_approved_ones_are_published(self, examples: Finished) -> None:
        states = examples.states(self.DAG, "approve")
        assert (states["publish"], states["generate_again"]) == ("success", "skipped")
        landed = examples.xcom(self.DAG, "generate", "approve")
        assert examples.xcom(self.DAG, "publish", "approve") == uris(landed)

    def test_regenerated_ones_are_new_and_paid(self, examples: Finished) -> None:
        first, second = (examples.xcom(self.DAG, task, "re-roll") for task in ("generate", "generate_again"))
        assert examples.xcom(self.DAG, "publish", "re-roll") == uris(second)
        assert second["billed"] == 2
        assert {image["sha256"] for image in first["images"]}.isdisjoint(image["sha256"] for image in second["images"])

    def test_rejected_ones_are_not_published(self, examples: Finished) -> None:
        states = examples.states(self.DAG, "reject")
        assert (states["generate"], states["decide"]) == ("success", "success")
        assert {states[task] for task in ("generate_again", "approve_again", "publish")} == {"skipped"}


class TestAsset:
    def test_tells_its_consumer_what_landed(self, examples: Finished) -> None:
        assert len(examples.runs[CONSUMER]) == 1
        (image,) = examples.xcom(PRODUCER, "generate")["images"]
        assert examples.published("header.png") == {"header.png": examples.content(image)}


class TestModeration:
    DAG = "example_moderation_fallback"

    def test_generates_an_accepted_prompt(self, examples: Finished) -> None:
        assert examples.states(self.DAG, "harmless")["fallback"] == "skipped"
        (drawn,) = examples.xcom(self.DAG, "as_asked", "harmless")["images"]
        assert examples.published("harmless") == {"harmless.png": examples.content(drawn)}

    def test_generates_a_fallback_for_a_refused_prompt(self, examples: Finished) -> None:
        assert examples.states(self.DAG, "refused")["as_asked"] == "skipped"
        (instead,) = examples.xcom(self.DAG, "fallback", "refused")["images"]
        assert examples.published("refused") == {"refused.png": examples.content(instead)}
        (row,) = examples.rows("Two knights [[moderation]]")
        assert (row["code"], row["billed"]) == ("moderation_blocked", 0)


class TestHook:
    def test_keeps_a_small_copy(self, examples: Finished) -> None:
        uri = examples.xcom("example_taskflow_hook", "create_thumbnail")
        with Image.open(io.BytesIO(examples.content({"uri": uri}))) as image:
            assert (image.format, image.size) == ("WEBP", (256, 256))
        assert sum(row["billed"] for row in examples.rows("A lighthouse in fog")) == 1


class TestLanding:
    def test_lands_what_was_submitted(self, examples: Finished) -> None:
        assert examples.xcom("example_land_images", "land")["images"] == 3
        rows = [row for prompt in ("A kettle on a stove", "A loaf of bread") for row in examples.rows(prompt)]
        assert [(row["billed"], row["downloads"]) for row in rows] == [(1, 1), (1, 1)]


class TestTaskDecorator:
    def test_generates_what_the_function_returns(self, examples: Finished) -> None:
        manifest = examples.xcom("example_task_decorator", "illustrate")
        assert examples.xcom("example_task_decorator", "publish") == uris(manifest)
        rows = examples.rows("Newspaper illustration, ink on paper: Ferries sail again after the storm")
        assert [row["task_id"] for row in rows] == [image["task_id"] for image in manifest["images"]]


class TestOpenAI:
    def test_lands_what_came_with_the_response(self, examples: Finished) -> None:
        manifest = examples.xcom("example_openai", "generate")
        assert (manifest["gateway"], manifest["billed"]) == ("openai", 1)
        (image,) = manifest["images"]
        assert hashlib.sha256(examples.content(image)).hexdigest() == image["sha256"]
        assert image["content_type"] == "image/webp"


class TestReuse:
    def test_backfill_of_three_days_pays_once(self, examples: Finished) -> None:
        runs = [run for name, run in examples.runs[BACKFILLED].items() if name.startswith("backfill")]
        manifests = [examples.stack.client.xcom(BACKFILLED, run.run_id, "generate") for run in runs]
        assert sorted(manifest["billed"] for manifest in manifests) == [0, 0, 1]
        assert len({image["sha256"] for manifest in manifests for image in manifest["images"]}) == 1
        rows = examples.rows("A village street in March, as a wide header")
        assert [row["billed"] for row in rows] == [1]
