"""Receipts and documents that were changed: ``LandImagesOperator`` keeps to its own bucket and connections."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import LookUpFailed
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator
from airflow_provider_imagegen.operators.landing import LandImagesOperator
from tests.conftest import BUCKET
from tests.integration.conftest import Run, set_connection
from tests.integration.test_landing_operator import LAND, SUBMIT, RunDag, content
from tests.stack.object_store import ObjectStore


class TestDryRun:
    def test_has_nothing_to_land(self, run_dag: RunDag, emulator: RunningEmulator) -> None:
        with DAG(f"dry-{uuid.uuid4()}", schedule=None) as dag:
            submitted = GenerateImageOperator(prompt="a red kite", validate_only=True, **SUBMIT)
            LandImagesOperator(submitted=submitted.output, **LAND)
        run = run_dag(dag)
        assert run.states["land"] == ["skipped"]
        assert "was a dry run" in run.log
        assert emulator.totals()["submits"] == 0


class TestSomethingElseThanBefore:
    def spoilt(self, run_dag: RunDag, spoil: Callable[[dict[str, Any]], Any]) -> Run:
        """Run a DAG in which something happens to a receipt between the two tasks."""
        with DAG(f"spoilt-{uuid.uuid4()}", schedule=None) as dag:
            submitted = GenerateImageOperator(prompt="a red kite", **SUBMIT)
            LandImagesOperator(submitted=task(task_id="spoil")(spoil)(submitted.output), **LAND)
        return run_dag(dag)

    def test_note_that_is_no_note_is_an_error_and_nothing_else(
        self, run_dag: RunDag, object_store: ObjectStore
    ) -> None:
        def spoil(receipt: dict[str, Any]) -> dict[str, Any]:
            key = receipt["document_uri"].removeprefix(f"s3://{BUCKET}/")
            object_store.client().put_object(Bucket=BUCKET, Key=key, Body=b'{"version": 9}')
            return receipt

        run = self.spoilt(run_dag, spoil)
        assert run.states["land"] == ["failed"]
        assert "LedgerCorrupt" in run.log
        assert "submitted.1.jsonl cannot be understood" in run.log

    def test_note_that_is_gone_is_named(self, run_dag: RunDag, object_store: ObjectStore) -> None:
        def spoil(receipt: dict[str, Any]) -> dict[str, Any]:
            object_store.client().delete_object(
                Bucket=BUCKET, Key=receipt["document_uri"].removeprefix(f"s3://{BUCKET}/")
            )
            return receipt

        run = self.spoilt(run_dag, spoil)
        assert f"{run.returned('submit')['document_uri']} cannot be read" in run.log

    def test_gateway_is_noticed_before_it_is_asked(
        self, run_dag: RunDag, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fields = {"host": emulator.base_url, "password": emulator.token, "extra": {"gateway": "nano_banana"}}

        def spoil(receipt: dict[str, Any]) -> dict[str, Any]:
            set_connection(monkeypatch, "imagegen_default", conn_type="imagegen", **fields)
            return receipt

        run = self.spoilt(run_dag, spoil)
        assert run.states["land"] == ["failed"]
        assert "leads to nano_banana, and it was submitted to acedatacloud" in run.log

    @pytest.mark.parametrize("name", ["imagegen_conn_id", "aws_conn_id"])
    def test_another_connection_is_refused(self, run_dag: RunDag, name: str) -> None:
        run = self.spoilt(run_dag, lambda receipt: [receipt, receipt | {name: "another"}])
        assert run.states["land"] == ["failed"]
        assert f"InvalidRequest: {name}=" in run.log
        assert "the connection that the receipt names, 'another'" in run.log

    @pytest.mark.parametrize("place", [f"s3://{BUCKET}/elsewhere/", "s3://another-bucket/_imagegen/ledger/"])
    def test_another_bucket_or_ledger_is_refused(
        self, run_dag: RunDag, emulator: RunningEmulator, object_store: ObjectStore, place: str
    ) -> None:
        def spoil(receipt: dict[str, Any]) -> dict[str, Any]:
            name = receipt["document_uri"].rpartition("/")[2]
            return receipt | {"document_uri": f"{place}{name}"}

        run = self.spoilt(run_dag, spoil)
        assert run.states["land"] == ["failed"]
        assert f"what was submitted to the s3_bucket and ledger_key of this task: s3://{BUCKET}/_imagegen/" in run.log
        assert emulator.ledger()["rows"][0]["downloads"] == 0

    @pytest.mark.parametrize("changes", [{"bucket": "another-bucket"}, {"ledger_key": "elsewhere"}])
    def test_document_that_names_another_is_refused(
        self, run_dag: RunDag, emulator: RunningEmulator, object_store: ObjectStore, changes: dict[str, str]
    ) -> None:
        def spoil(receipt: dict[str, Any]) -> dict[str, Any]:
            document = json.loads(content(object_store, receipt["document_uri"])) | changes
            key = receipt["document_uri"].removeprefix(f"s3://{BUCKET}/")
            object_store.client().put_object(Bucket=BUCKET, Key=key, Body=json.dumps(document).encode())
            return receipt

        run = self.spoilt(run_dag, spoil)
        assert run.states["land"] == ["failed"]
        assert "what was submitted to the s3_bucket and ledger_key of this task" in run.log
        assert emulator.ledger()["rows"][0]["downloads"] == 0

    def test_ids_and_images_of_the_receipt_are_not_relied_on(self, run_dag: RunDag, emulator: RunningEmulator) -> None:
        foreign = ImageGenHook().submit(prompt="another team's", model="gpt-image-1")

        def spoil(receipt: dict[str, Any]) -> dict[str, Any]:
            (open_task,) = receipt["submission"]["open"]
            submission = receipt["submission"] | {"open": [open_task | {"task_id": foreign.task_id}]}
            return receipt | {"submission": submission, "task_ids": [foreign.task_id]}

        run = self.spoilt(run_dag, spoil)
        (image,) = run.returned("land")["images"]
        assert [image["task_id"]] == run.returned("submit")["task_ids"]

    def test_later_release_may_have_written_more(self, run_dag: RunDag) -> None:
        run = self.spoilt(run_dag, lambda receipt: receipt | {"added_in_2031": True})
        assert run.states["land"] == ["success"]

    def test_receipt_that_vanished_during_the_deferral_is_worth_a_retry(self) -> None:
        operator = LandImagesOperator(task_id="land", submitted=None)
        event = {"status": "done", "submission": {"submitted_at": 0.0, "deadline": 1.0}}
        with pytest.raises(LookUpFailed, match="A retry attaches") as caught:
            operator.execute_complete({"ti": SimpleNamespace(xcom_push=lambda **_: None)}, event)  # type: ignore[arg-type]
        assert not isinstance(caught.value, AirflowFailException)
