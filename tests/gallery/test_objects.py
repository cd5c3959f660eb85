"""The gallery only serves images that this provider has uploaded."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import boto3
import botocore.session
import httpx
import pytest
from botocore.config import Config
from botocore.credentials import CredentialResolver
from fastapi import HTTPException
from PIL import Image

from airflow_provider_imagegen.gallery.models import ShownSummary
from airflow_provider_imagegen.gallery.objects import MAX_SIDECAR_BYTES, Objects
from airflow_provider_imagegen.gallery.store import Store
from airflow_provider_imagegen.gallery.thumbnails import MAX_BYTES
from airflow_provider_imagegen.schemas import LandedImage
from tests.conftest import BUCKET
from tests.integration.conftest import set_connection
from tests.stack.fault_proxy import FaultProxy
from tests.stack.object_store import ObjectStore

OWN = {"airflow-dag": "shop"}


def drawn() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def s3(object_store: ObjectStore) -> Any:
    return object_store.client(config=Config(signature_version="s3v4"))


@pytest.fixture
def objects(s3: Any) -> Objects:
    return Objects(s3)


@pytest.fixture
def put(s3: Any) -> Callable[..., LandedImage]:
    """Put an object, and return what a manifest would say of it."""

    def put_object(
        body: bytes = drawn(), metadata: dict[str, str] | None = None, content_type: str = "image/png", **changes: Any
    ) -> LandedImage:
        digest = hashlib.sha256(body).hexdigest()
        key = f"gallery/{uuid.uuid4()}/an image + more.png"
        noted = {**OWN, "sha256": digest} if metadata is None else metadata
        s3.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType=content_type, Metadata=noted)
        said = {
            "index": 0, "uri": f"s3://{BUCKET}/{key}", "bucket": BUCKET, "key": key, "etag": "", "version_id": None,
            "bytes": len(body), "sha256": digest, "content_type": content_type, "width": 8, "height": 8,
            "task_id": None, "trace_id": None, "revised_prompt": None,
        }  # fmt: skip
        return LandedImage(**(said | changes))

    return put_object


def status_of(error: pytest.ExceptionInfo[HTTPException]) -> int:
    return error.value.status_code


class TestImage:
    def test_is_found_by_what_landing_noted(self, objects: Objects, put: Callable[..., LandedImage]) -> None:
        shown = objects.look_at(put())
        assert (shown.content_type, shown.bytes) == ("image/png", len(drawn()))
        assert objects.content(shown) == b"".join(objects.pieces(shown)) == drawn()

    def test_is_reached_by_a_short_lived_address(self, objects: Objects, put: Callable[..., LandedImage]) -> None:
        address = objects.address(objects.look_at(put()), as_download=False)
        assert "X-Amz-Expires=300" in address
        response = httpx.get(address, trust_env=False)
        assert response.content == drawn()
        assert response.headers["content-type"] == "image/png"
        assert response.headers["content-disposition"] == 'inline; filename="an image _ more.png"'

    def test_can_be_kept_as_a_file(self, objects: Objects, put: Callable[..., LandedImage]) -> None:
        response = httpx.get(objects.address(objects.look_at(put()), as_download=True), trust_env=False)
        assert response.headers["content-disposition"].startswith("attachment;")

    def test_is_never_opened_where_it_may_hold_scripts(self, objects: Objects, put: Callable[..., LandedImage]) -> None:
        shown = objects.look_at(put(b"<svg/>", content_type="image/svg+xml"))
        response = httpx.get(objects.address(shown, as_download=False), trust_env=False)
        assert response.headers["content-disposition"].startswith("attachment;")

    @pytest.mark.parametrize(
        ("metadata", "content_type"),
        [({}, "image/png"), ({"sha256": hashlib.sha256(drawn()).hexdigest()}, "image/png"), (None, "text/html")],
    )
    def test_is_nothing_that_others_put_there(
        self,
        objects: Objects,
        put: Callable[..., LandedImage],
        metadata: dict[str, str] | None,
        content_type: str,
    ) -> None:
        with pytest.raises(HTTPException) as error:
            objects.look_at(put(metadata=metadata, content_type=content_type))
        assert status_of(error) == 404

    def test_is_not_another_one_in_its_place(self, objects: Objects, put: Callable[..., LandedImage]) -> None:
        """Without the right digest the image may belong to another DAG."""
        with pytest.raises(HTTPException) as error:
            objects.look_at(put(sha256="0" * 64))
        assert status_of(error) == 410

    def test_may_be_gone(self, objects: Objects, put: Callable[..., LandedImage]) -> None:
        with pytest.raises(HTTPException) as error:
            objects.look_at(put(key="gallery/gone.png"))
        assert status_of(error) == 404

    @pytest.mark.parametrize("bucket", ["no-such-bucket", "not/a bucket", "", ".."])
    def test_may_be_said_to_be_anywhere(self, objects: Objects, put: Callable[..., LandedImage], bucket: str) -> None:
        with pytest.raises(HTTPException) as error:
            objects.look_at(put(bucket=bucket))
        assert status_of(error) in {404, 502}


class TestMetadataNamesInAnotherCase:
    """HTTP header names have no case, and proxies written in Go answer ``X-Amz-Meta-Sha256``."""

    @pytest.fixture
    async def behind_proxy(self, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Objects]:
        with FaultProxy(int(object_store.endpoint.rpartition(":")[2])) as proxy:
            proxy.capitalize_metadata()
            set_connection(
                monkeypatch,
                "aws_default",
                conn_type="aws",
                login=object_store.access_key,
                password=object_store.secret_key,
                extra=object_store.connection_extra | {"endpoint_url": proxy.endpoint},
            )
            yield await Store("aws_default").objects()
            assert proxy.capitalized

    async def test_do_not_hide_an_image(self, behind_proxy: Objects, put: Callable[..., LandedImage]) -> None:
        assert behind_proxy.content(behind_proxy.look_at(put())) == drawn()

    async def test_do_not_hide_the_rows_of_a_batch(self, behind_proxy: Objects, s3: Any) -> None:
        key = f"gallery/{uuid.uuid4()}/manifest.jsonl"
        noted = OWN | {"sha256": hashlib.sha256(b"{}").hexdigest()}
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}", Metadata=noted)
        found = behind_proxy.lines_of(summary(f"s3://{BUCKET}/{key}", b"{}"), "shop")
        assert found == ({"Bucket": BUCKET, "Key": key}, 2)


class TestSidecar:
    def test_tells_what_was_requested(self, objects: Objects, s3: Any) -> None:
        uri = self._put(s3, _sidecar())
        sidecar = objects.sidecar(uri, "shop", "f")
        assert sidecar is not None
        assert sidecar.request["prompt"] == "A hat"

    @pytest.mark.parametrize(("dag_id", "fingerprint"), [("other", "f"), ("shop", "other")])
    def test_of_another_request_tells_nothing(self, objects: Objects, s3: Any, dag_id: str, fingerprint: str) -> None:
        assert objects.sidecar(self._put(s3, _sidecar()), dag_id, fingerprint) is None

    @pytest.mark.parametrize("body", ["", "[]", "{}", "secret: 1", " " * (MAX_SIDECAR_BYTES + 1)])
    def test_is_no_other_document(self, objects: Objects, s3: Any, body: str) -> None:
        assert objects.sidecar(self._put(s3, body), "shop", "f") is None

    @pytest.mark.parametrize("uri", ["", "https://x/manifest.json", "s3://", f"s3://{BUCKET}/secrets.json"])
    def test_is_where_manifests_are(self, objects: Objects, uri: str) -> None:
        assert objects.sidecar(uri, "shop", "f") is None

    def test_may_be_gone(self, objects: Objects) -> None:
        assert objects.sidecar(f"s3://{BUCKET}/gone/manifest.json", "shop", "f") is None

    def _put(self, s3: Any, body: str) -> str:
        key = f"gallery/{uuid.uuid4()}/manifest.json"
        s3.put_object(Bucket=BUCKET, Key=key, Body=body.encode())
        return f"s3://{BUCKET}/{key}"


def _sidecar() -> str:
    return (
        '{"version": 1, "fingerprint": "f", "request": {"prompt": "A hat"}, "later": "unknown", "origin": '
        '{"dag_id": "shop", "task_id": "draw", "run_id": "nightly", "map_index": -1, "try_number": 1}}'
    )


def summary(uri: str, body: bytes) -> ShownSummary:
    digest = hashlib.sha256(body).hexdigest()
    return ShownSummary(version=1, rows=1, manifest_uri=uri, manifest_sha256=digest)


class TestRows:
    BODY = b"0123456789"
    NOTED = OWN | {"sha256": hashlib.sha256(BODY).hexdigest()}

    def test_are_the_tasks_own_by_what_is_noted(self, objects: Objects, s3: Any) -> None:
        place, size = objects.lines_of(summary(self._put(s3, self.NOTED), self.BODY), "shop")
        assert size == 10
        assert objects.part(place, 3, 4) == b"3456"
        assert objects.part(place, 8, 100) == b"89"

    @pytest.mark.parametrize("claim", [{}, {"airflow-dag": "other"}, {"airflow-dag": "sho"}])
    def test_are_not_another_dags(self, objects: Objects, s3: Any, claim: dict[str, str]) -> None:
        uri = self._put(s3, {"sha256": self.NOTED["sha256"], **claim})
        with pytest.raises(HTTPException) as error:
            objects.lines_of(summary(uri, self.BODY), "shop")
        assert status_of(error) == 404

    @pytest.mark.parametrize("digest", ["", "0" * 64])
    def test_are_not_those_of_a_dag_of_the_same_name_elsewhere(self, objects: Objects, s3: Any, digest: str) -> None:
        """Other installations may use the same S3; who knows the digest has seen the rows."""
        known = summary(self._put(s3, self.NOTED), self.BODY).model_copy(update={"manifest_sha256": digest})
        with pytest.raises(HTTPException) as error:
            objects.lines_of(known, "shop")
        assert status_of(error) == 410

    def test_may_have_no_digest_noted(self, objects: Objects, s3: Any) -> None:
        with pytest.raises(HTTPException) as error:
            objects.lines_of(summary(self._put(s3, OWN), self.BODY), "shop")
        assert status_of(error) == 410

    @pytest.mark.parametrize("uri", ["", "s3://bucket", f"s3://{BUCKET}/secrets.jsonl"])
    def test_are_where_rows_are(self, objects: Objects, uri: str) -> None:
        with pytest.raises(HTTPException) as error:
            objects.lines_of(summary(uri, self.BODY), "shop")
        assert status_of(error) == 404

    def _put(self, s3: Any, metadata: dict[str, str]) -> str:
        key = f"gallery/{uuid.uuid4()}/manifest.jsonl"
        s3.put_object(Bucket=BUCKET, Key=key, Body=self.BODY, Metadata=metadata)
        return f"s3://{BUCKET}/{key}"


class TestOrigins:
    def test_are_those_of_the_store(self, objects: Objects, object_store: ObjectStore) -> None:
        assert objects.origins() == [object_store.endpoint]

    def test_hold_every_bucket_of_aws(self, object_store: ObjectStore) -> None:
        s3 = object_store.client(endpoint_url=None, region_name="eu-central-1")
        host = "s3.eu-central-1.amazonaws.com"
        assert Objects(s3).origins() in (
            [f"https://{host}", f"https://*.{host}"],
            ["https://s3.amazonaws.com", "https://*.s3.amazonaws.com"],
        )


class TestWithoutCredentials:
    def test_signs_nothing(self, put: Callable[..., LandedImage], objects: Objects) -> None:
        session = botocore.session.get_session()
        session.register_component("credential_provider", CredentialResolver([]))
        strangers = Objects(boto3.session.Session(botocore_session=session).client("s3", region_name="eu-central-1"))
        shown = objects.look_at(put())
        for attempt in (strangers.origins, lambda: strangers.address(shown, as_download=False)):
            with pytest.raises(HTTPException) as error:
                attempt()
            assert "Unable to locate credentials" in error.value.detail


class TestUnreachable:
    def test_is_reported(self, objects: Objects, object_store: ObjectStore, put: Callable[..., LandedImage]) -> None:
        away = Objects(object_store.client(endpoint_url="http://127.0.0.1:9"))
        image = put()
        shown = objects.look_at(image)
        for attempt in (
            lambda: away.look_at(image),
            lambda: away.content(shown),
            lambda: away.pieces(shown),
            lambda: away.sidecar(f"s3://{BUCKET}/manifest.json", "shop", "f"),
            lambda: away.part(shown.place, 0, 1),
        ):
            with pytest.raises(HTTPException) as error:
                attempt()
            assert status_of(error) == 502

    def test_is_kept_within_bounds(self, objects: Objects, put: Callable[..., LandedImage]) -> None:
        shown = dataclasses.replace(objects.look_at(put()), bytes=MAX_BYTES + 1)
        with pytest.raises(HTTPException) as error:
            objects.content(shown)
        assert status_of(error) == 413

    def test_may_be_of_an_older_version(self, objects: Objects, s3: Any, put: Callable[..., LandedImage]) -> None:
        bucket = "gallery-versions"
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        image = put(bucket=bucket)
        noted = {"airflow-dag": "shop", "sha256": image.sha256}
        first = s3.put_object(Bucket=bucket, Key=image.key, Body=drawn(), ContentType="image/png", Metadata=noted)
        s3.put_object(Bucket=bucket, Key=image.key, Body=b"another")
        shown = objects.look_at(image.model_copy(update={"version_id": first["VersionId"]}))
        assert objects.content(shown) == drawn()
        with pytest.raises(HTTPException):
            objects.look_at(image)
