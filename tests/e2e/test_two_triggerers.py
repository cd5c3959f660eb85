"""Two triggerers share many waiting tasks, one of them is killed, and the other brings all of them to their end.

``TWO_TRIGGERERS_TASKS=1000`` runs it at full size.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy

from airflow_provider_imagegen.emulator import EmulatorSettings, Latency, RunningEmulator
from tests.airflow_versions import needs_shared_triggers
from tests.e2e.conftest import DAGS
from tests.stack.environment import CACHE
from tests.stack.gateway import Gateway
from tests.stack.rest import DagRun
from tests.stack.stack import Stack, StackOptions
from tests.stack.waiting import wait_until

TASKS = int(os.environ.get("TWO_TRIGGERERS_TASKS", "12"))
ALL = set(range(TASKS))
DAG, TASK = "two_triggerers", "generate"
DRAWING = 36_000.0
"""Seconds an image takes, on the emulator's clock: it is ready when that clock is turned, and not before."""
SETTINGS = {
    "triggerer.capacity": str(TASKS),
    # Each takes a few at a time, so that neither gets them all; the default is 50.
    "triggerer.max_trigger_to_select_per_loop": str(max(2, TASKS // 20)),
    # The one that lives is taken for dead with the other, until its next heartbeat.
    "triggerer.job_heartbeat_sec": "2",
}
WAITING = sqlalchemy.text(
    "SELECT trigger.triggerer_id, task_instance.map_index FROM task_instance JOIN trigger"
    " ON trigger.id = task_instance.trigger_id AND trigger.triggerer_id IS NOT NULL"
    " WHERE dag_id = :dag_id AND run_id = :run_id AND state = 'deferred'"
)

# That a triggerer which is killed is replaced by another one, the tests of one whole Airflow show too.
pytestmark = pytest.mark.full

Shares = dict[int, set[int]]
"""By triggerer, which is its job's id: the map indexes of the tasks that wait in it."""


class TurnableClock:
    """Unix seconds, which can be turned forward."""

    def __init__(self) -> None:
        self._turned = 0.0

    def __call__(self) -> float:
        return time.time() + self._turned

    def turn(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        self._turned += seconds


@dataclass(frozen=True)
class Aftermath:
    """
    What is left of a run during which a triggerer was killed.

    :param stack: where it ran
    :param run: the finished run
    :param before: the shares before the kill
    :param after: the shares after it, while no image was ready
    :param ledger: what the emulator has billed
    """

    stack: Stack
    run: DagRun
    before: Shares
    after: Shares
    ledger: Mapping[str, Any]

    def manifests(self) -> list[Mapping[str, Any]]:
        """Return what the tasks say they have delivered."""
        xcom, run_id = self.stack.client.xcom, self.run.run_id
        return [xcom(DAG, run_id, TASK, map_index=index) for index in range(TASKS)]

    def landed_images(self) -> dict[str, int]:
        """Return the sizes of all images in the bucket, by key."""
        s3, bucket = self.stack.objectstore.client(), self.stack.objectstore.bucket
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        objects = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"]: entry["Size"] for entry in objects if entry["Key"].endswith(".png")}


def assigned(stack: Stack, run_id: str) -> Shares:
    """Return the shares as Airflow's database has them."""
    engine = sqlalchemy.create_engine(stack.database.url, poolclass=sqlalchemy.NullPool)
    shares: Shares = {}
    with engine.connect() as connection:
        for triggerer, index in connection.execute(WAITING, {"dag_id": DAG, "run_id": run_id}):
            shares.setdefault(triggerer, set()).add(index)
    return shares


def started(stack: Stack, run_id: str, triggerer: int) -> set[int]:
    """Return the map indexes of the tasks whose triggers were started in a triggerer, as their logs tell."""
    folder = stack.logs / "tasks" / f"dag_id={DAG}" / f"run_id={run_id}" / f"task_id={TASK}"
    logs = folder.glob(f"map_index=*/attempt=*.log.trigger.{triggerer}.log")
    return {int(log.parent.name.removeprefix("map_index=")) for log in logs}


def shares_of_all(stack: Stack, run_id: str) -> Shares | None:
    """Return the shares, if all tasks wait and all their triggers are at work."""
    shares = assigned(stack, run_id)
    is_at_work = all(indexes <= started(stack, run_id, triggerer) for triggerer, indexes in shares.items())
    return shares if sum(map(len, shares.values())) == TASKS and is_at_work else None


def shares_of_one(stack: Stack, run_id: str) -> Shares | None:
    """Return the shares, if all tasks wait in the same triggerer."""
    shares = shares_of_all(stack, run_id)
    return shares if shares and len(shares) == 1 else None


@pytest.fixture(scope="module")
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture(scope="module")
def gateway(clock: TurnableClock) -> Iterator[RunningEmulator]:
    settings = EmulatorSettings(latency=Latency(DRAWING, DRAWING), image_bytes=40_000)
    with RunningEmulator(settings, clock=clock) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def stack(gateway: RunningEmulator) -> Iterator[Stack]:
    options = StackOptions(
        dag_folders=(DAGS,),
        gateway=Gateway(gateway.base_url, gateway.token),
        parallelism=min(TASKS, 48),
        triggerers=2,
        settings=SETTINGS,
        frugal=True,
    )
    logs = CACHE / "two-triggerers-test"
    shutil.rmtree(logs, ignore_errors=True)
    with Stack(logs, options) as running:
        yield running


@pytest.fixture(scope="module")
def aftermath(stack: Stack, gateway: RunningEmulator, clock: TurnableClock) -> Aftermath:
    """One triggerer is killed while every task waits; the images are ready when the other one has them all."""
    stack.client.wait_for_dag(DAG)
    run_id = stack.client.trigger(DAG, {"tasks": TASKS})
    what = f"{TASKS} tasks to wait"
    before = wait_until(lambda: shares_of_all(stack, run_id), what=what, interval=0.5)
    stack.kill_triggerer(0)
    what = f"one triggerer to take over all {TASKS}"
    after = wait_until(lambda: shares_of_one(stack, run_id), what=what, interval=0.5)
    clock.turn(DRAWING)
    run = stack.client.wait_for_run(DAG, run_id)
    return Aftermath(stack, run, before, after, gateway.ledger())


class TestOneOfTwoTriggerersKilled:
    @needs_shared_triggers
    def test_each_held_a_share(self, aftermath: Aftermath) -> None:
        assert len(aftermath.before) == 2
        assert set.union(*aftermath.before.values()) == ALL

    def test_the_other_takes_over_what_it_held(self, aftermath: Aftermath) -> None:
        (survivor,) = aftermath.after
        assert survivor in aftermath.before
        assert aftermath.after[survivor] == ALL

    def test_every_task_succeeds_at_its_first_try(self, aftermath: Aftermath) -> None:
        assert aftermath.run.state == "success"
        tasks = aftermath.stack.client.task_instances(DAG, aftermath.run.run_id)
        drawn = [task for task in tasks if task.task_id == TASK]
        assert {task.map_index for task in drawn} == ALL
        assert {(task.state, task.try_number) for task in drawn} == {("success", 1)}

    def test_nothing_is_paid_twice(self, aftermath: Aftermath) -> None:
        rows, totals = aftermath.ledger["rows"], aftermath.ledger["totals"]
        assert (totals["accepted"], totals["billed_images"]) == (TASKS, TASKS)
        assert [row["billed"] for row in rows] == [1] * TASKS
        assert len({row["prompt"] for row in rows}) == TASKS

    def test_every_image_lands_as_its_manifest_says(self, aftermath: Aftermath) -> None:
        manifests = aftermath.manifests()
        assert [manifest["delivered"] for manifest in manifests] == [1] * TASKS
        images = [image for manifest in manifests for image in manifest["images"]]
        assert {image["task_id"] for image in images} == {row["task_id"] for row in aftermath.ledger["rows"]}
        landed_images = aftermath.landed_images()
        assert len(landed_images) == TASKS
        assert landed_images == {image["key"]: image["bytes"] for image in images}
