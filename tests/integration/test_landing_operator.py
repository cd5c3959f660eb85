"""``wait=False`` and ``LandImagesOperator``: one task submits, another lands, and neither pays twice."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from airflow_provider_imagegen.ledger.models import LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import EditImageOperator, GenerateImageOperator
from airflow_provider_imagegen.operators.landing import LandImagesOperator
from tests.conftest import BUCKET
from tests.integration.conftest import Run, released_when, set_connection
from tests.ledgers import entries_of
from tests.stack.object_store import ObjectStore

RunDag = Callable[[DAG], Run]
LAND: dict[str, Any] = {"task_id": "land", "s3_bucket": BUCKET}
SUBMIT: dict[str, Any] = {"task_id": "submit", "model": "gpt-image-1", "s3_bucket": BUCKET, "wait": False}
SHARED = ("s3_bucket", "ledger_key", "imagegen_conn_id")


@pytest.fixture
def run_pair(run_dag: RunDag) -> Callable[..., Run]:
    """Run a DAG of two tasks, one that submits and one that lands."""

    def run(land: dict[str, Any] | None = None, operator: type = GenerateImageOperator, **submit: Any) -> Run:
        settings = SUBMIT | {"prompt": "a red kite", "ledger_key": f"ledgers/{uuid.uuid4()}"} | submit
        with DAG(f"pair-{uuid.uuid4()}", schedule=None) as dag:
            submitted = operator(**settings)
            shared = {name: settings[name] for name in SHARED if name in settings}
            LandImagesOperator(**LAND | shared, submitted=submitted.output, **(land or {}))
        return run_dag(dag)

    return run


RunPair = Callable[..., Run]


def content(object_store: ObjectStore, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return object_store.client().get_object(Bucket=bucket, Key=key)["Body"].read()


def records(object_store: ObjectStore, receipt: dict[str, Any]) -> list[LedgerRecord]:
    """Return the ledger records of a submitting task."""
    bucket, _, key = receipt["document_uri"].removeprefix("s3://").partition("/")
    ledger = Ledger(object_store.client(), bucket, key.rpartition("/")[0].rpartition("/")[0])
    return [entry.record for entry in entries_of(ledger)]


class TestReceipt:
    def test_holds_ids_and_neither_prompt_nor_secret(
        self, run_pair: RunPair, emulator: RunningEmulator, object_store: ObjectStore
    ) -> None:
        secret = uuid.uuid4().hex
        run = run_pair(
            prompt="a kite that must not be shown in the UI",
            n=2,
            callback_url=f"https://hook.example/{secret}",
            extra={"reference": f"https://cdn.example/a.png?sig={secret}"},
        )
        receipt = run.returned("submit")
        assert set(receipt["task_ids"]) == {row["task_id"] for row in emulator.ledger()["rows"]}
        assert (receipt["gateway"], receipt["model"], receipt["requested"]) == ("acedatacloud", "gpt-image-1", 2)
        shown = json.dumps([receipt, run.returned("land")])
        kept = content(object_store, receipt["document_uri"]) + content(
            object_store, run.returned("land")["manifest_uri"]
        )
        assert "must not be shown" not in shown
        for place in (shown, run.log, kept.decode()):
            assert secret not in place
            assert emulator.token not in place


class TestLandedLater:
    def test_is_what_the_submitting_task_would_have_landed(
        self, run_pair: RunPair, emulator: RunningEmulator, object_store: ObjectStore
    ) -> None:
        prefix = f"later/{uuid.uuid4()}"
        run = run_pair(n=2, size="1024x1024", s3_key=prefix, metadata={"shelf": "kites"}, provenance=True)
        assert run.states == {"submit": ["success"], "land": ["success"]}
        manifest = run.returned("land")
        assert [image["key"] for image in manifest["images"]] == [f"{prefix}/0.png", f"{prefix}/1.png"]
        counts = [manifest[name] for name in ("requested", "delivered", "billed", "reused")]
        assert counts == [2, 2, 2, 0]
        assert emulator.totals()["billed_images"] == 2
        head = object_store.client().head_object(Bucket=BUCKET, Key=f"{prefix}/0.png")["Metadata"]
        assert (head["airflow-task"], head["shelf"], head["fingerprint"]) == (
            "submit",
            "kites",
            manifest["fingerprint"],
        )
        assert manifest["images"][0]["provenance"] == "added"
        sidecar = json.loads(content(object_store, manifest["manifest_uri"]))
        assert (sidecar["origin"]["task_id"], sidecar["request"]["prompt"]) == ("submit", "a red kite")

    def test_is_noted_in_the_submitting_tasks_records(self, run_pair: RunPair, object_store: ObjectStore) -> None:
        run = run_pair()
        (record,) = records(object_store, run.returned("submit"))
        assert (record.state, record.attempt.task_id, record.billed) == ("landed", "submit", 1)

    def test_is_waited_for_deferred(
        self, run_pair: RunPair, emulator: RunningEmulator, held_until_deferred: Callable[..., None]
    ) -> None:
        held_until_deferred()
        run = run_pair({"poll_interval": 0.2})
        assert "Deferred: 1 task(s)" in run.log
        assert run.returned("land")["delivered"] == 1
        assert emulator.totals()["billed_images"] == 1

    def test_is_waited_for_in_the_worker_where_deferring_is_off(
        self, run_pair: RunPair, emulator: RunningEmulator
    ) -> None:
        with released_when(emulator, lambda totals: totals["lookups"] >= 2, "two lookups"):
            run = run_pair({"poll_interval": 0.1, "deferrable": False})
        assert run.states["land"] == ["success"]
        assert "Deferred" not in run.log

    def test_may_be_an_edit(self, run_pair: RunPair, emulator: RunningEmulator, object_store: ObjectStore) -> None:
        drawn = run_pair(size="1024x1024").returned("land")
        run = run_pair(operator=EditImageOperator, prompt="The same at night", images=[drawn["images"][0]["uri"]])
        manifest = run.returned("land")
        assert (manifest["delivered"], emulator.totals()["billed_images"]) == (1, 2)
        sidecar = json.loads(content(object_store, manifest["manifest_uri"]))
        assert sidecar["request"]["images"] == [drawn["images"][0]["sha256"]]

    def test_has_landed_already_with_a_synchronous_gateway(
        self, run_pair: RunPair, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fields = {"host": f"{emulator.base_url}/openai-api", "password": emulator.token, "extra": {"gateway": "openai"}}
        set_connection(monkeypatch, "imagegen_openai", conn_type="imagegen", **fields)
        run = run_pair(imagegen_conn_id="imagegen_openai", n=2)
        assert run.returned("submit")["task_ids"] == []
        manifest = run.returned("land")
        assert manifest["gateway"] == "openai"
        assert (manifest["delivered"], manifest["billed"], manifest["reused"]) == (2, 2, 0)
        assert emulator.totals()["billed_images"] == 2


class TestLandedAgain:
    def test_returns_the_same_and_fetches_nothing(self, run_dag: RunDag, emulator: RunningEmulator) -> None:
        with DAG(f"again-{uuid.uuid4()}", schedule=None) as dag:
            submitted = GenerateImageOperator(prompt="a red kite", **SUBMIT)
            first = LandImagesOperator(task_id="first", s3_bucket=BUCKET, submitted=submitted.output)
            first >> LandImagesOperator(task_id="second", s3_bucket=BUCKET, submitted=submitted.output)
        run = run_dag(dag)
        first_image, second_image = (run.returned(name)["images"][0] for name in ("first", "second"))
        assert (first_image["sha256"], first_image["reused"]) == (second_image["sha256"], False)
        assert second_image["reused"] is True
        assert run.returned("second")["billed"] == 1
        (row,) = emulator.ledger()["rows"]
        assert row["downloads"] == 1

    def test_fetches_what_is_gone_from_s3(
        self, run_dag: RunDag, emulator: RunningEmulator, object_store: ObjectStore
    ) -> None:
        with DAG(f"gone-{uuid.uuid4()}", schedule=None) as dag:
            submitted = GenerateImageOperator(prompt="a red kite", **SUBMIT)

            @task
            def lose(manifest: dict[str, Any]) -> None:
                object_store.client().delete_object(Bucket=BUCKET, Key=manifest["images"][0]["key"])

            lost = lose(LandImagesOperator(task_id="first", s3_bucket=BUCKET, submitted=submitted.output).output)
            lost >> LandImagesOperator(task_id="second", s3_bucket=BUCKET, submitted=submitted.output)
        run = run_dag(dag)
        (image,) = run.returned("second")["images"]
        assert len(content(object_store, image["uri"])) == image["bytes"]
        assert emulator.totals()["billed_images"] == 1

    def test_lands_in_a_retry_what_the_first_try_could_not(self, run_pair: RunPair, emulator: RunningEmulator) -> None:
        # Once, and once more at a fresh address.
        emulator.arm("result", "expire", status=410, times=2)
        run = run_pair({"retries": 1, "retry_delay": 0})
        assert "ResultExpired" in run.log
        assert run.states == {"submit": ["success"], "land": ["success"]}
        totals = emulator.totals()
        assert (totals["submits"], totals["billed_images"]) == (1, 1)

    def test_says_so_where_the_gateway_kept_no_copy(
        self, run_dag: RunDag, emulator: RunningEmulator, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fields = {"host": f"{emulator.base_url}/openai-api", "password": emulator.token, "extra": {"gateway": "openai"}}
        set_connection(monkeypatch, "imagegen_openai", conn_type="imagegen", **fields)
        with DAG(f"gone-{uuid.uuid4()}", schedule=None) as dag:
            submitted = GenerateImageOperator(prompt="a kite", imagegen_conn_id="imagegen_openai", **SUBMIT)

            @task
            def lose(receipt: dict[str, Any]) -> None:
                key = receipt["submission"]["landed"][0]["key"]
                object_store.client().delete_object(Bucket=BUCKET, Key=key)

            land = LandImagesOperator(submitted=submitted.output, imagegen_conn_id="imagegen_openai", retries=3, **LAND)
            lose(submitted.output) >> land
        run = run_dag(dag)
        assert run.states["land"] == ["failed"]
        assert "had landed and is not there any more; clear the task that submitted it" in run.log


class TestSubmittedAgain:
    def test_attaches_to_what_its_earlier_try_submitted(
        self, run_dag: RunDag, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tries: list[int] = []

        class Interrupted(GenerateImageOperator):
            """Its first try is killed after the submit, before the XCom is stored."""

            def _hand_over(self, run: Any, submission: Any) -> dict[str, Any]:
                tries.append(1)
                if len(tries) == 1:
                    raise RuntimeError("the worker is gone")
                return super()._hand_over(run, submission)

        with DAG(f"interrupted-{uuid.uuid4()}", schedule=None) as dag:
            submitted = Interrupted(prompt="a red kite", retries=1, retry_delay=0, **SUBMIT)  # type: ignore[arg-type]
            LandImagesOperator(submitted=submitted.output, **LAND)
        run = run_dag(dag)
        assert (len(tries), run.states["land"]) == (2, ["success"])
        totals = emulator.totals()
        assert (totals["submits"], totals["billed_images"], run.returned("land")["billed"]) == (1, 1, 1)


class TestListOfReceipts:
    def test_is_landed_row_by_row(self, run_dag: RunDag, emulator: RunningEmulator, object_store: ObjectStore) -> None:
        with DAG(f"list-{uuid.uuid4()}", schedule=None) as dag:
            settings = {name: value for name, value in SUBMIT.items() if name != "task_id"}
            partial = GenerateImageOperator.partial(task_id="submit", **settings)
            submitted = partial.expand(prompt=["a kite", "an owl", "an ox"])
            LandImagesOperator(submitted=submitted.output, **LAND)
        run = run_dag(dag)
        summary = run.returned("land")
        assert [summary[name] for name in ("rows", "landed", "images", "billed")] == [3, 3, 3, 3]
        rows = [json.loads(line) for line in content(object_store, summary["manifest_uri"]).splitlines()]
        assert [row["request"]["prompt"] for row in rows] == ["a kite", "an owl", "an ox"]
        assert [row["key"].rpartition("/")[2] for row in rows] == ["0", "1", "2"]
        assert summary["manifest_uri"].startswith(f"s3://{BUCKET}/imagegen/{run.dag_id}/{run.run_id}/land/")

    def test_loses_none_for_one_that_failed(self, run_dag: RunDag, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "fail", prompt="an owl")
        with DAG(f"list-{uuid.uuid4()}", schedule=None) as dag:
            settings = {name: value for name, value in SUBMIT.items() if name != "task_id"}
            partial = GenerateImageOperator.partial(task_id="submit", **settings)
            submitted = partial.expand(prompt=["a kite", "an owl"])
            LandImagesOperator(task_id="strict", s3_bucket=BUCKET, submitted=submitted.output, retries=3)
            LandImagesOperator(task_id="lenient", s3_bucket=BUCKET, submitted=submitted.output, on_partial="accept")
        run = run_dag(dag)
        assert (run.states["strict"], run.states["lenient"]) == (["failed"], ["success"])
        assert "1 of 2 rows landed" in run.log
        assert run.returned("lenient")["failed"] == 1

    def test_may_be_landed_by_a_mapped_task(self, run_dag: RunDag) -> None:
        with DAG(f"mapped-{uuid.uuid4()}", schedule=None) as dag:
            settings = {name: value for name, value in SUBMIT.items() if name != "task_id"}
            submitted = GenerateImageOperator.partial(task_id="submit", **settings).expand(prompt=["a kite", "an owl"])
            LandImagesOperator.partial(**LAND).expand(submitted=submitted.output)
        run = run_dag(dag)
        assert run.states["land"] == ["success"] * 2
        assert [run.returned("land", map_index=number)["delivered"] for number in (0, 1)] == [1, 1]

    def test_is_waited_for_together(self, run_dag: RunDag, held_until_deferred: Callable[..., None]) -> None:
        held_until_deferred()
        with DAG(f"list-{uuid.uuid4()}", schedule=None) as dag:
            settings = {name: value for name, value in SUBMIT.items() if name != "task_id"}
            submitted = GenerateImageOperator.partial(task_id="submit", **settings).expand(prompt=["a kite", "an owl"])
            LandImagesOperator(submitted=submitted.output, poll_interval=0.2, **LAND)
        run = run_dag(dag)
        assert "Deferred: 2 task(s)" in run.log
        assert run.returned("land")["landed"] == 2


class TestFailedAtTheGateway:
    def test_is_not_retried_by_the_one_who_lands(
        self, run_pair: RunPair, emulator: RunningEmulator, object_store: ObjectStore
    ) -> None:
        emulator.arm("submit", "fail", code="api_error")
        run = run_pair({"retries": 3})
        assert run.states == {"submit": ["success"], "land": ["failed"]}
        assert "Clear the task that submitted it: it starts a new generation." in run.log
        (record,) = records(object_store, run.returned("submit"))
        assert record.state == "failed"

    def test_moderation_may_skip(self, run_pair: RunPair) -> None:
        run = run_pair({"on_moderation": "skip"}, prompt="[[moderation]]")
        assert run.states == {"submit": ["success"], "land": ["skipped"]}

    def test_deadline_leaves_it_to_a_retry(self, run_pair: RunPair, emulator: RunningEmulator) -> None:
        emulator.hold()
        retries = {"retries": 1, "retry_delay": 0, "on_retry_callback": lambda _: emulator.release()}
        run = run_pair({"timeout": 0.3, "deferrable": False, "poll_interval": 0.1, **retries})
        assert run.states["land"] == ["success"]
        assert "the deadline passed and the gateway was still generating" in run.log
        assert emulator.totals()["billed_images"] == 1


class TestBareIds:
    def test_land_under_their_names_and_cost_nothing_here(
        self, run_dag: RunDag, emulator: RunningEmulator, object_store: ObjectStore
    ) -> None:
        prefix = f"bare/{uuid.uuid4()}"
        ids = [ImageGenHook().submit(prompt=f"kite {n}", model="gpt-image-1").task_id for n in range(2)]
        with DAG(f"bare-{uuid.uuid4()}", schedule=None) as dag:
            LandImagesOperator(task_id="land", task_ids=ids, s3_bucket=BUCKET, s3_key=prefix)
        run = run_dag(dag)
        summary = run.returned("land")
        assert [summary[name] for name in ("rows", "landed", "images", "billed")] == [2, 2, 2, 0]
        rows = [json.loads(line) for line in content(object_store, summary["manifest_uri"]).splitlines()]
        assert [row["images"][0]["key"] for row in rows] == [f"{prefix}/{task_id}/0.png" for task_id in ids]

    def test_land_every_image_of_a_task(self, run_dag: RunDag, emulator: RunningEmulator) -> None:
        submitted = ImageGenHook().submit(prompt="kites", model="dall-e-2", n=3, size="256x256")
        with DAG(f"bare-{uuid.uuid4()}", schedule=None) as dag:
            LandImagesOperator(task_id="land", task_ids=[submitted.task_id], s3_key=f"s3://{BUCKET}/bare/several")
        assert run_dag(dag).returned("land")["images"] == 3

    def test_unknown_ones_fail_once_they_should_be_visible(
        self, run_dag: RunDag, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        extra = {"gateway": "acedatacloud", "visibility_grace": 0.5}
        fields = {"host": emulator.base_url, "password": emulator.token, "extra": extra}
        set_connection(monkeypatch, "imagegen_default", conn_type="imagegen", **fields)
        with DAG(f"bare-{uuid.uuid4()}", schedule=None) as dag:
            LandImagesOperator(task_id="land", task_ids=["nobody"], s3_bucket=BUCKET, poll_interval=0.2)
        run = run_dag(dag)
        assert run.states["land"] == ["failed"]
        assert "UnknownTask" in run.log


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({}, "submitted=None is not allowed"),
            ({"submitted": "s3://somewhere"}, "submitted='str' is not allowed"),
            ({"submitted": [{"images": []}]}, "what a task with wait=False returned"),
            ({"task_ids": "a-single-id"}, "a list of the gateway's ids"),
            ({"task_ids": ["a", 7]}, "a list of the gateway's ids"),
            ({"task_ids": ["a"], "validate_only": True}, "this pays for nothing"),
        ],
    )
    def test_are_refused(
        self, run_dag: RunDag, emulator: RunningEmulator, arguments: dict[str, Any], words: str
    ) -> None:
        with DAG(f"refused-{uuid.uuid4()}", schedule=None) as dag:
            LandImagesOperator(task_id="land", s3_bucket=BUCKET, retries=3, **arguments)
        run = run_dag(dag)
        assert run.states["land"] == ["failed"]
        assert words in run.log

    def test_batch_sees_its_rows_through(self) -> None:
        with pytest.raises(InvalidRequest, match="wait"):
            GenerateImageBatchOperator(task_id="t", requests=["a kite"], s3_bucket=BUCKET, wait=False)
