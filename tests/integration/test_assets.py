"""Asset events and OpenLineage datasets of landed images."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetAlias, task

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.operators.asset_events import MAX_URIS
from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import EditImageOperator, GenerateImageOperator
from airflow_provider_imagegen.operators.landing import LandImagesOperator
from tests.conftest import BUCKET
from tests.integration.conftest import Run
from tests.stack.object_store import ObjectStore

RunDag = Callable[[DAG], Run]
DRAW: dict[str, Any] = {"task_id": "draw", "model": "gpt-image-1", "s3_bucket": BUCKET}


def events(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """Return address and extra of the asset events that a DAG caused."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalars(select(AssetEvent).where(AssetEvent.source_dag_id == run.dag_id))
        return [(event.uri, event.extra) for event in found]


def run_one(run_dag: RunDag, operator: type = GenerateImageOperator, **arguments: Any) -> Run:
    with DAG(f"assets-{uuid.uuid4()}", schedule=None) as dag:
        operator(**(DRAW | arguments))
    return run_dag(dag)


def asset() -> Asset:
    name = f"headers-{uuid.uuid4()}"
    return Asset(name=name, uri=f"s3://{BUCKET}/{name}")


class TestEvents:
    def test_carry_the_manifests_essentials(self, run_dag: RunDag) -> None:
        outlet = asset()
        run = run_one(run_dag, prompt="a kite", n=2, outlets=[outlet])
        manifest = run.returned("draw")
        ((uri, extra),) = events(run)
        assert uri == outlet.uri
        assert extra["uris"] == [image["uri"] for image in manifest["images"]]
        names = ("gateway", "model", "requested", "delivered", "billed", "reused", "fingerprint", "manifest_uri")
        assert {name: extra[name] for name in names} == {name: manifest[name] for name in names}

    def test_come_after_a_deferral_too(self, run_dag: RunDag, held_until_deferred: Callable[..., None]) -> None:
        held_until_deferred()
        run = run_one(run_dag, prompt="a kite", poll_interval=0.2, outlets=[asset()])
        assert "Deferred" in run.log
        ((_, extra),) = events(run)
        assert extra["delivered"] == 1

    def test_of_an_alias_name_the_prefix(self, run_dag: RunDag) -> None:
        prefix = f"alias/{uuid.uuid4()}/ü?#%2F"
        run = run_one(run_dag, prompt="a kite", s3_key=prefix, outlets=[AssetAlias(f"alias-{uuid.uuid4()}")])
        ((uri, extra),) = events(run)
        assert uri == f"s3://{BUCKET}/{prefix.removesuffix('ü?#%2F')}%C3%BC%3F%23%252F"
        assert extra["uris"] == [f"s3://{BUCKET}/{prefix}/0.png"]

    def test_of_a_batch_carry_its_counts_and_no_list(self, run_dag: RunDag) -> None:
        requests = [f"kite {number}" for number in range(MAX_URIS + 5)]
        run = run_one(run_dag, GenerateImageBatchOperator, requests=requests, outlets=[asset()])
        ((_, extra),) = events(run)
        assert (extra["rows"], extra["landed"], extra["images"]) == (25, 25, 25)
        assert extra["manifest_uri"].endswith("/manifest.jsonl")
        assert len(json.dumps(extra)) < 1000

    def test_come_from_the_one_who_lands(self, run_dag: RunDag) -> None:
        with DAG(f"assets-{uuid.uuid4()}", schedule=None) as dag:
            submitted = GenerateImageOperator(prompt="a kite", wait=False, **DRAW)
            LandImagesOperator(task_id="land", submitted=submitted.output, s3_bucket=BUCKET, outlets=[asset()])
        ((_, extra),) = events(run_dag(dag))
        assert extra["delivered"] == 1

    def test_come_from_the_decorator(self, run_dag: RunDag) -> None:
        with DAG(f"assets-{uuid.uuid4()}", schedule=None) as dag:
            task.generate_image(outlets=[asset()], **DRAW)(lambda: "a kite")()
        ((_, extra),) = events(run_dag(dag))
        assert extra["delivered"] == 1

    def test_do_not_come_where_there_is_no_outlet(self, run_dag: RunDag) -> None:
        assert events(run_one(run_dag, prompt="a kite")) == []

    def test_do_not_come_of_what_failed(self, run_dag: RunDag) -> None:
        run = run_one(run_dag, prompt="[[moderation]]", outlets=[asset()])
        assert (run.states, events(run)) == ({"draw": ["failed"]}, [])

    def test_of_an_address_too_long_for_airflow_are_left_out(self, run_dag: RunDag) -> None:
        run = run_one(run_dag, prompt="a kite", s3_key="ü" * 400, outlets=[AssetAlias(f"alias-{uuid.uuid4()}")])
        assert run.states == {"draw": ["success"]}
        assert "cannot be announced" in run.log


class TestLineage:
    @pytest.fixture
    def lineages(self) -> list[Any]:
        return []

    def run(self, run_dag: RunDag, lineages: list[Any], kind: type, **arguments: Any) -> Run:
        class Listened(kind):  # type: ignore[misc]
            """Asked for its lineage as the OpenLineage listener asks."""

            def execute(self, context: Any) -> Any:
                try:
                    return super().execute(context)
                finally:
                    lineages.append(self.get_openlineage_facets_on_complete(context["ti"]))

        return run_one(run_dag, Listened, **arguments)

    def test_has_every_image_as_output(self, run_dag: RunDag, lineages: list[Any]) -> None:
        run = self.run(run_dag, lineages, GenerateImageOperator, prompt="a kite", n=2, s3_key="lineage/two")
        (lineage,) = lineages
        assert datasets(lineage.outputs) == [(f"s3://{BUCKET}", f"lineage/two/{n}.png") for n in range(2)]
        sizes = [output.outputFacets["outputStatistics"].size for output in lineage.outputs]
        assert sizes == [image["bytes"] for image in run.returned("draw")["images"]]
        assert lineage.inputs == []

    def test_has_what_landed_of_a_task_that_failed(
        self, run_dag: RunDag, lineages: list[Any], emulator: RunningEmulator
    ) -> None:
        emulator.arm("submit", "fail", code="api_error", times=1)
        run = self.run(run_dag, lineages, GenerateImageOperator, prompt="a kite", n=2)
        assert run.states == {"draw": ["failed"]}
        (lineage,) = lineages
        assert len(lineage.outputs) == 1

    def test_has_the_images_to_edit_as_inputs(
        self, run_dag: RunDag, lineages: list[Any], object_store: ObjectStore
    ) -> None:
        (image,) = run_one(run_dag, prompt="a kite", s3_key="lineage/source").returned("draw")["images"]
        images = [image["uri"], "lineage/source/0.png"]
        self.run(run_dag, lineages, EditImageOperator, prompt="at night", images=images)
        (lineage,) = lineages
        assert datasets(lineage.inputs) == [(f"s3://{BUCKET}", "lineage/source/0.png")]
        assert len(lineage.outputs) == 1

    def test_of_a_batch_has_prefix_and_manifest(
        self, run_dag: RunDag, lineages: list[Any], object_store: ObjectStore
    ) -> None:
        object_store.client().put_object(Bucket=BUCKET, Key="rows/lineage.csv", Body=b"prompt\na kite\nan owl\n")
        requests = f"s3://{BUCKET}/rows/lineage.csv"
        self.run(run_dag, lineages, GenerateImageBatchOperator, requests=requests, s3_key="lineage/batch")
        (lineage,) = lineages
        assert datasets(lineage.inputs) == [(f"s3://{BUCKET}", "rows/lineage.csv")]
        names = ["lineage/batch", "lineage/batch/manifest.jsonl"]
        assert datasets(lineage.outputs) == [(f"s3://{BUCKET}", name) for name in names]
        statistics = lineage.outputs[0].outputFacets["outputStatistics"]
        assert (statistics.rowCount, statistics.fileCount) == (2, 2)

    def test_is_empty_where_nothing_landed_yet(self, run_dag: RunDag, lineages: list[Any]) -> None:
        self.run(run_dag, lineages, GenerateImageOperator, prompt="a kite", wait=False)
        (lineage,) = lineages
        assert (lineage.inputs, lineage.outputs) == ([], [])


def datasets(found: Sequence[Any]) -> list[tuple[str, str]]:
    return [(dataset.namespace, dataset.name) for dataset in found]
