"""Tasks that defer for lack of a slot at the gateway, through ``dag.test()``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.operators.imagegen import EditImageOperator
from tests.conftest import BUCKET
from tests.integration.conftest import Outcome, Run
from tests.stack.object_store import ObjectStore
from tests.stack.waiting import HANG, wait_until

pytestmark = pytest.mark.usefixtures("quick_turns")

RunTask = Callable[..., Outcome]


@pytest.fixture
def quick_turns(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defer at the first refusal, and have the next turn at once."""
    monkeypatch.setattr("airflow_provider_imagegen.engine.options.SLOT_GRACE", 0.0)
    monkeypatch.setattr("airflow_provider_imagegen.polling.slots.FIRST_PAUSE", 0.05)


def refuse(emulator: RunningEmulator, times: int = 1, **how: Any) -> None:
    emulator.arm("submit", "refuse", code="rate_limited", status=429, times=times, **how)


class TestRefusedTask:
    def test_defers_until_its_turn_and_is_billed_once(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        refuse(emulator, times=2)
        outcome = run_task(poll_interval=0.1)
        assert (outcome.state, outcome.manifest["billed"]) == ("success", 1)
        assert emulator.totals()["billed_images"] == 1
        assert outcome.log.count("Deferred, unsubmitted: acedatacloud has no free slot") == 2
        assert "refused 2 time(s)" in outcome.log

    def test_waits_in_the_worker_where_deferring_is_off(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        refuse(emulator)
        outcome = run_task(poll_interval=0.1, deferrable=False)
        assert (outcome.state, "Deferred" in outcome.log) == ("success", False)

    def test_sends_the_sources_of_an_edit_when_it_is_its_turn(
        self, run_task: RunTask, emulator: RunningEmulator, object_store: Any
    ) -> None:
        source = run_task().manifest["images"][0]
        refuse(emulator)
        outcome = run_task(operator=EditImageOperator, images=[source["uri"]], poll_interval=0.1)
        assert (outcome.state, outcome.manifest["billed"]) == ("success", 1)

    def test_lands_what_was_accepted_of_an_edit_whose_source_is_gone(
        self, run_task: RunTask, emulator: RunningEmulator, object_store: ObjectStore
    ) -> None:
        source = run_task().manifest["images"][0]
        emulator.arm("edit", "refuse", code="rate_limited", status=429, times=None, after=1)
        s3 = object_store.client()

        def delete() -> None:
            wait_until(lambda: emulator.totals()["refused"] > 0, what="the refusal of the second image")
            s3.delete_object(Bucket=source["bucket"], Key=source["key"])

        thread = threading.Thread(target=delete)
        thread.start()
        edit = {"model": "nano-banana", "n": 2, "images": [source["uri"]], "on_partial": "accept"}
        outcome = run_task(operator=EditImageOperator, poll_interval=0.1, timeout=HANG, **edit)
        thread.join()
        s3.close()
        assert (outcome.state, outcome.manifest["delivered"], outcome.manifest["billed"]) == ("success", 1, 1)

    def test_that_does_not_wait_for_its_images_hands_out_a_receipt(
        self, run_task: RunTask, emulator: RunningEmulator
    ) -> None:
        refuse(emulator)
        outcome = run_task(wait=False)
        assert (outcome.state, len(outcome.manifest["task_ids"])) == ("success", 1)


class TestDecoratedFunction:
    @pytest.mark.parametrize("returned", ["a red kite", {"prompt": "a red kite", "size": "1024x1024"}])
    def test_is_called_once_however_often_its_request_is_refused(
        self, run_dag: Callable[[DAG], Run], emulator: RunningEmulator, returned: Any
    ) -> None:
        refuse(emulator, times=2)
        calls: list[str] = []
        with DAG("decorated-without-slot", schedule=None) as dag:

            @task.generate_image(task_id="generate", model="gpt-image-1", s3_bucket=BUCKET, poll_interval=0.1)
            def prompt() -> Any:
                calls.append("called")
                return returned

            prompt()
        run = run_dag(dag)
        assert run.states == {"generate": ["success"]}
        assert (len(calls), emulator.totals()["billed_images"]) == (1, 1)
        assert run.returned("generate")["images"][0]["width"]

    def test_that_returns_a_signed_address_waits_in_the_worker(
        self, run_dag: Callable[[DAG], Run], emulator: RunningEmulator
    ) -> None:
        refuse(emulator)
        with DAG("decorated-with-signature", schedule=None) as dag:

            @task.generate_image(task_id="generate", model="gpt-image-1", s3_bucket=BUCKET, poll_interval=0.1)
            def prompt() -> Any:
                return {"prompt": "a red kite", "extra": {"style_reference": "https://host/image.png?signature=secret"}}

            prompt()
        run = run_dag(dag)
        assert (run.states, "Deferred, unsubmitted" in run.log) == ({"generate": ["success"]}, False)
        assert emulator.totals()["billed_images"] == 1
