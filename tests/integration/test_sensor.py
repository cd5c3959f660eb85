"""``ImageTaskSensor`` waits for tasks of other systems, in every mode of sensors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from airflow_provider_imagegen.sensors.imagegen import ImageTaskSensor
from tests.integration.conftest import Run, released_when, set_connection

RunSensor = Callable[..., Run]
MODES: dict[str, dict[str, Any]] = {
    "deferred": {},
    "in the worker": {"deferrable": False},
    "poked": {"mode": "poke"},
    "rescheduled": {"mode": "reschedule"},
}


@pytest.fixture
def run_sensor(run_dag: Callable[[DAG], Run], emulator: RunningEmulator) -> RunSensor:
    """Run a DAG of one sensor."""

    def run(task_ids: Any, **arguments: Any) -> Run:
        with DAG(f"sensor-{uuid.uuid4()}", schedule=None) as dag:
            ImageTaskSensor(task_id="wait", task_ids=task_ids, **({"poke_interval": 0.1} | arguments))
        return run_dag(dag)

    return run


def submit(prompt: str = "a red kite", **parameters: Any) -> str:
    task_id = ImageGenHook().submit(prompt=prompt, **({"model": "gpt-image-1"} | parameters)).task_id
    assert task_id is not None
    return task_id


@pytest.mark.usefixtures("connections", "short_waits")
class TestWaiting:
    @pytest.mark.parametrize("mode", MODES)
    def test_ends_when_every_task_is_done(
        self, run_sensor: RunSensor, emulator: RunningEmulator, held_until_deferred: Callable[..., None], mode: str
    ) -> None:
        if mode == "deferred":
            held_until_deferred()
            held: AbstractContextManager[None] = nullcontext()
        else:
            held = released_when(emulator, lambda totals: totals["lookup_requests"] >= 2, "two lookups")
        with held:
            task_ids = [submit(), submit(model="dall-e-2", n=2, size="256x256")]
            run = run_sensor(task_ids, **MODES[mode])
        assert run.states == {"wait": ["success"]}
        assert ("running trigger" in run.log) == (mode == "deferred")
        assert run.returned("wait") == {
            "gateway": "acedatacloud",
            "task_ids": task_ids,
            "images": 3,
            "tasks": [
                {"task_id": task_ids[0], "trace_id": _trace(emulator, 0), "state": "succeeded", "images": 1},
                {"task_id": task_ids[1], "trace_id": _trace(emulator, 1), "state": "succeeded", "images": 2},
            ],
        }

    def test_tells_no_address(self, run_sensor: RunSensor) -> None:
        run = run_sensor(submit())
        assert "http" not in json.dumps(run.returned("wait"))
        assert "sig=" not in run.log

    @pytest.mark.parametrize("mode", MODES)
    def test_rides_out_a_lookup_that_fails(self, run_sensor: RunSensor, emulator: RunningEmulator, mode: str) -> None:
        task_id = submit()
        emulator.arm("lookup", "refuse", status=500)
        run = run_sensor(task_id, **MODES[mode])
        assert run.states == {"wait": ["success"]}
        assert "Lookup failed" in run.log

    @pytest.mark.parametrize("mode", MODES)
    def test_ends_at_its_timeout(self, run_sensor: RunSensor, emulator: RunningEmulator, mode: str) -> None:
        emulator.hold()
        run = run_sensor(submit(), timeout=1, soft_fail=True, **MODES[mode])
        assert run.states == {"wait": ["skipped"]}


@pytest.mark.usefixtures("connections", "short_waits")
class TestFailure:
    @pytest.mark.parametrize("mode", MODES)
    def test_at_the_gateway_is_an_error_that_is_not_retried(
        self, run_sensor: RunSensor, emulator: RunningEmulator, mode: str
    ) -> None:
        emulator.arm("submit", "fail", code="api_error", prompt="doomed")
        with released_when(emulator, lambda totals: totals["lookup_requests"] >= 2, "two lookups"):
            run = run_sensor([submit("a doomed kite"), submit()], retries=3, **MODES[mode])
        assert run.states == {"wait": ["failed"]}
        assert "FailedElsewhere" in run.log
        assert "Clear the task that submitted it" in run.log

    def test_may_skip_as_with_every_sensor(self, run_sensor: RunSensor, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "fail")
        assert run_sensor(submit(), soft_fail=True).states == {"wait": ["skipped"]}

    def test_of_moderation_has_its_own_error(self, run_sensor: RunSensor) -> None:
        run = run_sensor(submit("[[moderation]]"))
        assert run.states == {"wait": ["failed"]}
        assert "ModerationBlocked" in run.log

    @pytest.mark.parametrize("mode", MODES)
    def test_is_raised_for_a_task_that_was_never_submitted(
        self, run_sensor: RunSensor, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, mode: str
    ) -> None:
        extra = {"gateway": "acedatacloud", "visibility_grace": 1}
        fields = {"host": emulator.base_url, "password": emulator.token, "extra": extra}
        set_connection(monkeypatch, "imagegen_default", conn_type="imagegen", **fields)
        run = run_sensor("nobody", **MODES[mode])
        assert run.states == {"wait": ["failed"]}
        assert "Was it submitted through this connection?" in run.log

    @pytest.mark.parametrize("task_ids", [[], "", ["a", None]])
    def test_comes_at_once_without_usable_ids(self, run_sensor: RunSensor, task_ids: Any) -> None:
        run = run_sensor(task_ids, retries=3)
        assert run.states == {"wait": ["failed"]}
        assert "the gateway's id, or a list of some" in run.log


def _trace(emulator: RunningEmulator, number: int) -> str:
    trace_id: str = emulator.ledger()["rows"][number]["trace_id"]
    return trace_id
