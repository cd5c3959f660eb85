"""``@task.generate_image`` generates the request that a function returns, with and without a deferral."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import DAG, get_current_context, task
from airflow.sdk.log import mask_secret

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import InvalidRequest
from tests.conftest import BUCKET
from tests.integration.conftest import Run
from tests.stack.object_store import ObjectStore

RunDag = Callable[[DAG], Run]


@pytest.fixture
def run_function(run_dag: RunDag, emulator: RunningEmulator) -> Callable[..., Run]:
    """Run a DAG of one decorated function."""

    def run(function: Callable[..., Any], *inputs: Any, **arguments: Any) -> Run:
        settings = {"task_id": "draw", "model": "gpt-image-1", "size": "1024x1024", "s3_bucket": BUCKET} | arguments
        with DAG(f"decorated-{uuid.uuid4()}", schedule=None) as dag:
            task.generate_image(**settings)(function)(*inputs)
        return run_dag(dag)

    return run


RunFunction = Callable[..., Run]


def prompts(emulator: RunningEmulator) -> list[str]:
    return [row["prompt"] for row in emulator.ledger()["rows"]]


def requests(emulator: RunningEmulator) -> list[dict[str, Any]]:
    """Return what the gateway was sent, as its task records echo it."""
    ids = [row["task_id"] for row in emulator.ledger()["rows"]]
    body = {"action": "retrieve_batch", "ids": ids, "limit": len(ids)}
    headers = {"authorization": f"Bearer {emulator.token}"}
    answer = httpx.post(f"{emulator.base_url}/openai/tasks", json=body, headers=headers)
    return [item["request"] for item in answer.json()["items"]]


class TestWhatTheFunctionReturns:
    def test_may_be_a_prompt(self, run_function: RunFunction, emulator: RunningEmulator) -> None:
        def draw(animal: str, ds: str | None = None) -> str:
            return f"{animal} in the rain"

        run = run_function(draw, "an otter")
        assert run.states == {"draw": ["success"]}
        assert run.returned("draw")["delivered"] == emulator.totals()["billed_images"] == 1
        assert prompts(emulator) == ["an otter in the rain"]

    def test_may_be_fields_that_go_before_the_decorators(
        self, run_function: RunFunction, emulator: RunningEmulator
    ) -> None:
        def draw() -> dict[str, Any]:
            return {"prompt": "a kite", "size": "1536x1024", "n": 2, "extra": {"seed": 7}, "quality": None}

        run = run_function(draw, quality="low", extra={"seed": 1, "mood": "calm"})
        assert run.returned("draw")["requested"] == 2
        body, _ = requests(emulator)
        assert (body["size"], body["quality"], body["seed"], body["mood"]) == ("1536x1024", "low", 7, "calm")

    def test_may_name_a_parameter_in_extra_which_goes_before_the_decorators(
        self, run_function: RunFunction, emulator: RunningEmulator
    ) -> None:
        run = run_function(lambda: {"prompt": "a kite", "extra": {"quality": "high"}}, quality="low")
        assert run.states == {"draw": ["success"]}
        assert requests(emulator)[0]["quality"] == "high"

    def test_may_be_a_list_which_makes_a_batch(
        self, run_function: RunFunction, emulator: RunningEmulator, object_store: ObjectStore
    ) -> None:
        def draw() -> list[Any]:
            return ["a kite", {"prompt": "an owl", "key": "owl", "size": "1536x1024"}]

        run = run_function(draw, s3_key="decorated/list", max_in_flight=2)
        assert (run.returned("draw")["rows"], run.returned("draw")["landed"]) == (2, 2)
        listed = object_store.client().list_objects_v2(Bucket=BUCKET, Prefix="decorated/list/")["Contents"]
        assert sorted(entry["Key"].rpartition("/")[2] for entry in listed) == [
            "00000.png",
            "manifest.jsonl",
            "owl.png",
        ]

    def test_may_come_from_a_coroutine(self, run_function: RunFunction, emulator: RunningEmulator) -> None:
        async def draw() -> str:
            return "a kite that was awaited"

        assert run_function(draw).states == {"draw": ["success"]}
        assert prompts(emulator) == ["a kite that was awaited"]

    def test_is_no_template(self, run_function: RunFunction, emulator: RunningEmulator) -> None:
        run_function(lambda: "a sign that says {{ ds }}")
        assert prompts(emulator) == ["a sign that says {{ ds }}"]

    def test_pushes_one_xcom_whatever_its_annotation(self, run_function: RunFunction) -> None:
        def draw() -> dict[str, str]:
            return {"prompt": "a kite"}

        run = run_function(draw)
        assert run.returned("draw", key="delivered") is None

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (None, "the function's answer='NoneType' is not allowed"),
            (7, "a prompt, a dict of request fields, or a list of these"),
            ({"prompt": "a kite", "when": object()}, "in plain JSON values"),
            ({"prompt": "a kite", "colour": "red"}, "colour='(hidden)' is not allowed: known parameters are prompt"),
            ({"prompt": "a kite", "callback_url": "https://hook.example/secret"}, "only as the decorator's argument"),
            ({"size": "1024x1024"}, "prompt='' is not allowed"),
            ("  ", "is not allowed: a text that is not empty"),
            ([{"colour": "red"}], "requests[0]: not known: 'colour'"),
        ],
    )
    def test_is_refused_before_anything_is_billed(
        self, run_function: RunFunction, emulator: RunningEmulator, answer: Any, words: str
    ) -> None:
        run = run_function(lambda: answer, retries=3)
        assert run.states == {"draw": ["failed"]}
        assert words in run.log
        assert "hook.example" not in run.log
        assert emulator.totals()["submits"] == 0


class TestAfterADeferral:
    def test_lands_what_the_function_returned_without_calling_it_again(
        self,
        run_function: RunFunction,
        emulator: RunningEmulator,
        object_store: ObjectStore,
        held_until_deferred: Callable[..., None],
    ) -> None:
        calls: list[str] = []
        held_until_deferred()

        def draw() -> dict[str, Any]:
            calls.append(f"a kite, number {uuid.uuid4()}")
            return {"prompt": calls[-1], "model": "gpt-image-1-mini", "extra": {"seed": 7}}

        run = run_function(draw, poll_interval=0.2)
        assert "Deferred: 1 task(s)" in run.log
        assert run.states == {"draw": ["success"]}
        assert (len(calls), emulator.totals()["billed_images"]) == (1, 1)
        manifest = run.returned("draw")
        assert manifest["model"] == "gpt-image-1-mini"
        s3 = object_store.client()
        sidecar = json.loads(s3.get_object(Bucket=BUCKET, Key=_key(manifest["manifest_uri"]))["Body"].read())
        assert sidecar["request"]["prompt"] == calls[0]
        assert (sidecar["request"]["size"], sidecar["request"]["seed"]) == ("1024x1024", 7)
        stored = s3.head_object(Bucket=BUCKET, Key=manifest["images"][0]["key"])["Metadata"]
        assert (stored["model"], stored["fingerprint"]) == ("gpt-image-1-mini", manifest["fingerprint"])

    def test_keeps_nothing_that_is_signed(
        self,
        run_function: RunFunction,
        emulator: RunningEmulator,
        object_store: ObjectStore,
        held_until_deferred: Callable[..., None],
    ) -> None:
        held_until_deferred()
        secret = uuid.uuid4().hex

        def draw() -> dict[str, Any]:
            return {"prompt": "a kite", "extra": {"reference": f"https://cdn.example/kite.png?sig={secret}"}}

        run = run_function(draw, poll_interval=0.2, ledger_key=f"ledgers/{secret[:8]}")
        assert "Deferred: 1 task(s)" in run.log
        assert run.states == {"draw": ["success"]}
        assert requests(emulator)[0]["reference"].endswith(secret)
        assert secret not in run.log
        assert secret not in json.dumps([run.returned("draw"), rendered(run)])
        assert not any(secret.encode() in body for body in bodies(object_store))

    def test_continues_with_a_list(
        self, run_function: RunFunction, emulator: RunningEmulator, held_until_deferred: Callable[..., None]
    ) -> None:
        calls: list[int] = []
        held_until_deferred()

        def draw() -> tuple[dict[str, Any], ...]:
            calls.append(1)
            return tuple({"prompt": f"kite {uuid.uuid4()}", "n": number} for number in (1, 2))

        run = run_function(draw, poll_interval=0.2)
        assert "Deferred: 3 task(s)" in run.log
        assert (len(calls), run.returned("draw")["landed"], emulator.totals()["submits"]) == (1, 2, 3)

    @pytest.mark.usefixtures("short_waits")
    def test_is_not_needed_where_rows_are_signed(self, run_function: RunFunction) -> None:
        signed = {"prompt": "a kite", "extra": {"reference": f"https://cdn.example/a.png?sig={uuid.uuid4().hex}"}}
        run = run_function(lambda: [signed], poll_interval=0.2)
        assert "rows with signed addresses are kept nowhere" in run.log
        assert "Deferred" not in run.log
        assert run.returned("draw")["landed"] == 1

    def test_shows_the_prompt_among_the_rendered_fields(
        self, run_function: RunFunction, held_until_deferred: Callable[..., None]
    ) -> None:
        held_until_deferred()
        run = run_function(lambda: "a kite that was computed", poll_interval=0.2)
        assert rendered(run)["prompt"] == "a kite that was computed"


class TestFunctionThatFails:
    def test_leaves_its_reason_and_that_nothing_was_billed(self, run_function: RunFunction) -> None:
        def draw() -> str:
            raise ValueError("no animals today")

        run = run_function(draw)
        assert run.states == {"draw": ["failed"]}
        (missing,) = run.returned("draw", key="failure")["failures"]
        reported = (missing["code"], missing["message"], missing["billed"])
        assert reported == ("ValueError", "ValueError: no animals today", "no")

    def test_does_not_tell_what_airflow_masks(self, run_function: RunFunction) -> None:
        def draw() -> str:
            mask_secret("open-sesame-4711")
            raise ValueError("the shop refuses open-sesame-4711")

        (missing,) = run_function(draw).returned("draw", key="failure")["failures"]
        assert missing["message"] == "ValueError: the shop refuses ***"

    def test_may_skip_its_task(self, run_function: RunFunction) -> None:
        def draw() -> str:
            raise AirflowSkipException("nothing to draw")

        run = run_function(draw)
        assert run.states == {"draw": ["skipped"]}
        assert run.returned("draw", key="failure") is None


class TestRetry:
    def test_asks_the_function_again_and_pays_once_for_the_same_response(
        self, run_function: RunFunction, emulator: RunningEmulator
    ) -> None:
        calls: list[int] = []
        emulator.arm("result", "refuse", status=500, times=None)

        def draw() -> str:
            calls.append(1)
            if len(calls) > 1:
                emulator.disarm()
            return "a stubborn kite"

        run = run_function(draw, retries=1, retry_delay=0)
        assert run.states == {"draw": ["success"]}
        assert (len(calls), emulator.totals()["billed_images"]) == (2, 1)

    def test_pays_for_another_response_and_says_so(self, run_function: RunFunction, emulator: RunningEmulator) -> None:
        emulator.arm("result", "refuse", status=500, times=None)
        answers = iter(["a first kite", "a second kite"])

        def draw() -> str:
            answer = next(answers)
            if answer.startswith("a second"):
                emulator.disarm()
            return answer

        run = run_function(draw, retries=1, retry_delay=0)
        assert run.states == {"draw": ["success"]}
        assert "An earlier try asked for something else" in run.log
        assert emulator.totals()["billed_images"] == 2


class TestMapped:
    def test_calls_the_function_for_every_value(self, run_dag: RunDag, emulator: RunningEmulator) -> None:
        with DAG(f"mapped-{uuid.uuid4()}", schedule=None) as dag:

            @task
            def animals() -> list[str]:
                return ["otter", "owl", "ox"]

            @task.generate_image(model="gpt-image-1", s3_bucket=BUCKET)
            def draw(animal: str, mood: str) -> str:
                number = get_current_context()["ti"].map_index
                return f"{mood} {animal} number {number}"

            draw.partial(mood="a calm").expand(animal=animals())
        run = run_dag(dag)
        assert run.states["draw"] == ["success"] * 3
        assert sorted(prompts(emulator)) == ["a calm otter number 0", "a calm owl number 1", "a calm ox number 2"]
        keys = [run.returned("draw", map_index=number)["images"][0]["key"] for number in range(3)]
        assert len(set(keys)) == 3


class TestDecorator:
    def test_takes_no_prompt_beside_the_functions(self) -> None:
        with DAG("twice", schedule=None), pytest.raises(TypeError, match="prompt"):
            task.generate_image(prompt="a kite", s3_bucket=BUCKET)(lambda: "another")()

    def test_refuses_to_leave_a_batch_alone(self, run_function: RunFunction, emulator: RunningEmulator) -> None:
        run = run_function(lambda: ["a kite"], wait=False)
        assert "a batch sees its rows through" in run.log
        assert emulator.totals()["submits"] == 0

    def test_refuses_a_wait_that_is_no_flag(self) -> None:
        with DAG("flag", schedule=None), pytest.raises(InvalidRequest, match="wait"):
            task.generate_image(task_id="draw", wait="later", s3_bucket=BUCKET)(lambda: "a kite")()


def rendered(run: Run) -> dict[str, Any]:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(RenderedTaskInstanceFields).where(RenderedTaskInstanceFields.dag_id == run.dag_id)
        fields: dict[str, Any] = session.scalars(query).one().rendered_fields
        return fields


def bodies(object_store: ObjectStore) -> list[bytes]:
    """Return everything in the bucket."""
    s3 = object_store.client()
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return [s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]


def _key(uri: str) -> str:
    return uri.removeprefix(f"s3://{BUCKET}/")
