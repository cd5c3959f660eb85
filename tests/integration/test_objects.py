"""Uploads to a real S3 server: complete, checked, with metadata, and without overwriting other objects."""

from __future__ import annotations

import hashlib
import io
import logging
import secrets
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from airflow_provider_imagegen.exceptions import DestinationError, ObjectExists, UploadFailed
from airflow_provider_imagegen.hooks.aws import s3_client
from airflow_provider_imagegen.storage.destination import Destination, default_prefix
from airflow_provider_imagegen.storage.objects import ObjectStore as Objects
from airflow_provider_imagegen.storage.options import ObjectOptions
from airflow_provider_imagegen.storage.tempfiles import VerifiedFile
from tests.conftest import BUCKET
from tests.integration.conftest import Outcome, set_connection
from tests.stack.fault_proxy import Fault, FaultProxy
from tests.stack.object_store import ObjectStore

SMALL = 100_000
MEBIBYTE = 1024 * 1024
LARGE = 20 * MEBIBYTE

MakeObjects = Callable[..., Objects]


def sample(size: int = SMALL, **changes: Any) -> VerifiedFile:
    """Bytes that are taken for a verified image."""
    content = secrets.token_bytes(size)
    facts = {
        "file": io.BytesIO(content),
        "bytes": size,
        "sha256": hashlib.sha256(content).hexdigest(),
        "content_type": "image/png",
        "extension": "png",
        "width": 1,
        "height": 1,
    }
    return VerifiedFile(**(facts | changes))


def altered(image: VerifiedFile) -> VerifiedFile:
    """The same image with one bit turned after it was verified, as a bad disk would."""
    content = bytearray(image.file.read())
    content[-1] ^= 1
    return VerifiedFile(**{**vars(image), "file": io.BytesIO(bytes(content))})


@pytest.fixture
def s3(object_store: ObjectStore) -> Iterator[Any]:
    client = object_store.client()
    yield client
    client.close()


@pytest.fixture
def proxy(object_store: ObjectStore) -> Iterator[FaultProxy]:
    with FaultProxy(int(object_store.endpoint.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def objects(object_store: ObjectStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeObjects]:
    """Make object stores as the operator does, through a proxy that can spoil requests."""
    set_connection(
        monkeypatch,
        "aws_default",
        conn_type="aws",
        login=object_store.access_key,
        password=object_store.secret_key,
        extra=object_store.connection_extra | {"endpoint_url": proxy.endpoint},
    )
    client = s3_client("aws_default")
    prefix = f"objects/{uuid.uuid4()}"

    def make(prefix: str = prefix, **options: Any) -> Objects:
        return Objects(client, Destination(bucket=BUCKET, prefix=prefix, options=ObjectOptions(**options)))

    yield make
    client.close()


def key_of(objects: Objects, name: str = "0.png") -> str:
    return objects._destination.key(name)


def read(s3: Any, key: str) -> bytes:
    with s3.get_object(Bucket=BUCKET, Key=key)["Body"] as body:
        return bytes(body.read())


def sizes(s3: Any, objects: Objects) -> dict[str, int]:
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=key_of(objects, ""))
    return {entry["Key"].rpartition("/")[2]: entry["Size"] for entry in found.get("Contents", [])}


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def image(request: pytest.FixtureRequest) -> VerifiedFile:
    return sample(request.param)


class TestPut:
    def test_brings_every_byte(self, objects: MakeObjects, s3: Any, image: VerifiedFile) -> None:
        store = objects()
        stored = store.put(key_of(store), image, {})
        assert hashlib.sha256(read(s3, key_of(store))).hexdigest() == image.sha256
        head = s3.head_object(Bucket=BUCKET, Key=key_of(store))
        assert (stored.etag, head["ContentType"]) == (head["ETag"].strip('"'), "image/png")
        assert "ContentDisposition" not in head

    def test_of_bytes_that_changed_on_their_way_is_refused_by_s3(
        self, objects: MakeObjects, s3: Any, proxy: FaultProxy
    ) -> None:
        store = objects()
        with pytest.raises(UploadFailed, match=r"BadDigest.*billed: yes"):
            store.put(key_of(store), altered(sample()), {})
        assert sizes(s3, store) == {}
        assert [request.method for request in proxy.requests] == ["PUT"]

    def test_tells_s3_what_the_user_wants(self, objects: MakeObjects, s3: Any, image: VerifiedFile) -> None:
        store = objects(
            encrypt=True,
            acl_policy="bucket-owner-full-control",
            storage_class="STANDARD_IA",
            tag_set={"team": "Bild und Ton", "cost:center": "a+b/c@d"},
            cache_control="max-age=60, immutable",
            metadata={"owner": "Jürgen  🎨 ", "empty": ""},
        )
        store.put(key_of(store), image, {"airflow-run": "manual__2026+00:00", "model": ""})
        head = s3.head_object(Bucket=BUCKET, Key=key_of(store))
        assert (head["StorageClass"], head["CacheControl"]) == ("STANDARD_IA", "max-age=60, immutable")
        assert unquote(head["Metadata"]["owner"]) == "Jürgen  🎨 "
        assert head["Metadata"]["airflow-run"] == "manual__2026+00:00"
        tags = s3.get_object_tagging(Bucket=BUCKET, Key=key_of(store))["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "Bild und Ton", "cost:center": "a+b/c@d"}

    def test_asks_for_acl_and_encryption(self, objects: MakeObjects, proxy: FaultProxy) -> None:
        # The server under test fails where a key of KMS is named, so what counts is what it was asked.
        proxy.arm(Fault("refuse", status=400, code="KMS.DisabledException"))
        store = objects(kms_key_id="alias/images", acl_policy="private")
        with pytest.raises(UploadFailed, match="KMS"):
            store.put(key_of(store), sample(), {})
        (request,) = proxy.requests
        assert request.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert request.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/images"
        assert request.headers["x-amz-acl"] == "private"

    def test_keeps_metadata_within_what_s3_takes(self, objects: MakeObjects, proxy: FaultProxy) -> None:
        store = objects(metadata={"note": "ä" * 160})
        own = dict.fromkeys(["airflow-dag", "airflow-task", "airflow-run", "model", "task-id"], "日" * 250)
        store.put(key_of(store), sample(), own | {"sha256": "0" * 64, "fingerprint": "0" * 64, "trace-id": "0" * 36})
        sent = {name: value for name, value in proxy.requests[0].headers.items() if name.startswith("x-amz-meta-")}
        assert sum(len(name.removeprefix("x-amz-meta-")) + len(value) for name, value in sent.items()) <= 2048
        assert unquote(sent["x-amz-meta-airflow-run"], errors="strict") == "日" * 13

    def test_is_downloaded_rather_than_shown_where_the_image_says_so(self, objects: MakeObjects, s3: Any) -> None:
        store = objects()
        image = sample(content_type="image/svg+xml")
        store.put(key_of(store), image, {})
        head = s3.head_object(Bucket=BUCKET, Key=key_of(store))
        assert head["ContentDisposition"] == "attachment"


class TestLargeImage:
    def test_of_bytes_that_changed_on_their_way_is_refused_by_s3(self, objects: MakeObjects, s3: Any) -> None:
        store = objects()
        spoilt: list[str] = []

        def spoil(params: dict[str, Any], **_: object) -> None:
            if not spoilt:
                spoilt.append(params["headers"]["x-amz-checksum-sha256"])
                params["body"] = io.BytesIO(bytes(LARGE))

        store._s3.meta.events.register("before-call.s3.PutObject", spoil)
        with pytest.raises(UploadFailed, match="BadDigest"):
            store.put(key_of(store), sample(LARGE), {})
        assert spoilt
        assert sizes(s3, store) == {}

    def test_is_never_whole_in_memory(self, objects: MakeObjects) -> None:
        store, image = objects(), sample(32 * MEBIBYTE)
        tracemalloc.start()
        try:
            store.put(key_of(store), image, {})
            assert tracemalloc.get_traced_memory()[1] < 16 * MEBIBYTE
        finally:
            tracemalloc.stop()


class TestNotReplacing:
    def test_refuses_to_put_over_something_else(self, objects: MakeObjects, s3: Any, image: VerifiedFile) -> None:
        store = objects(replace=False)
        s3.put_object(Bucket=BUCKET, Key=key_of(store), Body=b"older")
        with pytest.raises(ObjectExists, match=r"is there already.*billed: yes.*replace=True"):
            store.put(key_of(store), image, {})
        assert read(s3, key_of(store)) == b"older"

    def test_refuses_what_came_in_the_meantime(self, objects: MakeObjects, s3: Any, image: VerifiedFile) -> None:
        store = objects(replace=False)

        def interfere(**_: object) -> None:
            s3.put_object(Bucket=BUCKET, Key=key_of(store), Body=b"faster")

        events = store._s3.meta.events
        events.register("after-call.s3.HeadObject", interfere, unique_id="once")
        events.register(
            "before-call.s3.PutObject", lambda **_: events.unregister("after-call.s3.HeadObject", None, "once")
        )
        with pytest.raises(ObjectExists):
            store.put(key_of(store), image, {})
        assert read(s3, key_of(store)) == b"faster"

    def test_takes_what_an_earlier_try_put_for_landed(
        self, objects: MakeObjects, proxy: FaultProxy, image: VerifiedFile
    ) -> None:
        store = objects(replace=False)
        first = store.put(key_of(store), image, {"sha256": image.sha256})
        proxy.requests.clear()
        assert store.put(key_of(store), image, {"sha256": image.sha256}) == first
        assert [request.method for request in proxy.requests] == ["HEAD"]

    def test_takes_what_landed_although_the_response_was_lost(
        self, objects: MakeObjects, s3: Any, proxy: FaultProxy
    ) -> None:
        store, image = objects(replace=False), sample()
        proxy.arm(Fault("reset", after=SMALL))
        store.put(key_of(store), image, {"sha256": image.sha256})
        assert hashlib.sha256(read(s3, key_of(store))).hexdigest() == image.sha256

    def test_trusts_the_condition_where_it_may_not_look(self, objects: MakeObjects, s3: Any, proxy: FaultProxy) -> None:
        proxy.arm(Fault("refuse", method="HEAD", status=403, code="AccessDenied", times=None))
        store = objects(replace=False)
        store.put(key_of(store), sample(), {})
        s3.put_object(Bucket=BUCKET, Key=key_of(store, "1.png"), Body=b"older")
        with pytest.raises(UploadFailed, match="PreconditionFailed"):
            store.put(key_of(store, "1.png"), sample(), {})
        assert sizes(s3, store) == {"0.png": SMALL, "1.png": 5}

    def test_looks_first_where_the_store_knows_no_conditions(
        self, objects: MakeObjects, s3: Any, proxy: FaultProxy
    ) -> None:
        proxy.arm(Fault("refuse", header="if-none-match", status=501, code="NotImplemented", times=None))
        store = objects(replace=False)
        store.put(key_of(store), sample(), {})
        with pytest.raises(ObjectExists):
            store.put(key_of(store), sample(), {})
        assert sizes(s3, store) == {"0.png": SMALL}

    def test_does_not_keep_the_manifest_from_being_renewed(self, objects: MakeObjects, s3: Any) -> None:
        store = objects(replace=False)
        for body in (b"{}", b"{} "):
            store.put_file(key_of(store, "manifest.json"), io.BytesIO(body), "application/json")
        assert read(s3, key_of(store, "manifest.json")) == b"{} "


class TestTaken:
    def test_names_what_is_in_the_way(self, objects: MakeObjects, s3: Any) -> None:
        store = objects(replace=False)
        for name in ("0.png", "1.jpg", "10.png", "manifest.json", "sub/2.png"):
            s3.put_object(Bucket=BUCKET, Key=key_of(store, name), Body=b"")
        assert store.taken(["0", "1", "2"]) == [key_of(store, "0.png"), key_of(store, "1.jpg")]
        assert store.taken(["2", "3"]) == []

    def test_sends_no_request_where_it_cannot_be_determined(self, objects: MakeObjects, proxy: FaultProxy) -> None:
        fault = proxy.arm(Fault("refuse", method="GET", status=403, code="AccessDenied", times=None))
        with pytest.raises(DestinationError, match=r"cannot be listed, as replace=False needs.*billed: no"):
            objects(replace=False).taken(["0"])
        fault.status, fault.code = 503, "SlowDown"
        with pytest.raises(UploadFailed, match=r"SlowDown.*billed: no"):
            objects(replace=False).taken(["0"])


class TestStoreWithoutChecksums:
    @pytest.mark.parametrize("refusal", [(501, "NotImplemented", "?"), (400, "InvalidArgument", "checksum?")])
    def test_gets_the_image_without_and_that_is_said_once(
        self, objects: MakeObjects, proxy: FaultProxy, caplog: pytest.LogCaptureFixture, refusal: tuple[int, str, str]
    ) -> None:
        status, code, words = refusal
        store, images = objects(), [sample(), sample(LARGE), sample()]
        refused = {"status": status, "code": code, "words": words, "times": None}
        faults = [
            proxy.arm(Fault("refuse", method="PUT", header="x-amz-checksum-sha256", **refused)),
            proxy.arm(Fault("refuse", method="POST", header="x-amz-checksum-algorithm", **refused)),
        ]
        with caplog.at_level(logging.WARNING):
            for index, image in enumerate(images):
                store.put(key_of(store, f"{index}.png"), image, {})
        assert sizes(store._s3, store) == {f"{index}.png": image.bytes for index, image in enumerate(images)}
        assert sum(len(fault.met) for fault in faults) == 1
        assert caplog.text.count("takes no SHA-256 checksums") == 1


class TestCopy:
    def test_keeps_metadata_that_is_not_set_again(self, objects: MakeObjects, s3: Any) -> None:
        source, image = objects(cache_control="max-age=1", tag_set={"a": "b"}, metadata={"owner": "x"}), sample()
        source.put(key_of(source), image, {"sha256": image.sha256})
        for options, cache, owner, tags in (
            ({}, "max-age=1", "x", {"a": "b"}),
            ({"cache_control": "max-age=2"}, "max-age=2", "x", {"a": "b"}),
            ({"metadata": {"owner": "y"}, "tag_set": {"c": "d"}}, "max-age=1", "y", {"c": "d"}),
        ):
            target = objects(prefix=f"objects/{uuid.uuid4()}", **options)
            copied = target.copy(key_of(source), key_of(target), image.sha256)
            head = s3.head_object(Bucket=BUCKET, Key=key_of(target))
            found = s3.get_object_tagging(Bucket=BUCKET, Key=key_of(target))["TagSet"]
            assert (head["CacheControl"], head["ContentType"]) == (cache, "image/png")
            assert head["Metadata"] == {"owner": owner, "sha256": image.sha256}
            assert {tag["Key"]: tag["Value"] for tag in found} == tags
            assert copied is not None
            assert copied.etag == head["ETag"].strip('"')

    def test_of_something_gone_is_none(self, objects: MakeObjects) -> None:
        for options in ({}, {"cache_control": "max-age=2"}, {"replace": False}):
            assert objects(**options).copy("gone", "to", "0") is None

    def test_does_not_replace_something_else_either(self, objects: MakeObjects, s3: Any) -> None:
        source, image = objects(), sample()
        source.put(key_of(source), image, {"sha256": image.sha256})
        target = objects(prefix=f"objects/{uuid.uuid4()}", replace=False)
        for _ in range(2):
            assert target.copy(key_of(source), key_of(target), image.sha256)
        s3.put_object(Bucket=BUCKET, Key=key_of(target), Body=b"newer")
        with pytest.raises(ObjectExists, match="billed: no"):
            target.copy(key_of(source), key_of(target), image.sha256)
        assert read(s3, key_of(target)) == b"newer"


class TestKeys:
    @pytest.mark.sampled
    @pytest.mark.parametrize(
        "run_id",
        [
            "manual__2026-01-01T00:00:00+00:00",
            "👩‍🎨 paints  twice ",
            "../../outside",
            "a//b",
            "%2e%2e/%2F",
            "line\nbreak\0",
            'quotes"\\ <and> {more}|^`[]#?',
            "é vs e\u0301",
            "r" * 1000,
            "🎨" * 1000,
            "\ud83c",
            "&$@=;/:+ ,?!'()*~",
        ],
    )
    def test_come_back_from_s3_as_they_went(self, objects: MakeObjects, s3: Any, run_id: str) -> None:
        prefix = default_prefix(f"dag-{uuid.uuid4()}", run_id, "task", 0)
        store, image = objects(prefix=prefix), sample(10)
        store.put(key_of(store), image, {"airflow-run": run_id, "sha256": image.sha256})
        assert hashlib.sha256(read(s3, f"{prefix}/0.png")).hexdigest() == image.sha256
        assert store.taken(["0"]) == [f"{prefix}/0.png"]


class TestClient:
    def test_repeats_as_botocore_does_by_standard(self, objects: MakeObjects) -> None:
        assert objects()._s3.meta.config.retries["mode"] == "standard"

    def test_obeys_the_connection(self, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        kwargs = {"retries": {"mode": "adaptive", "total_max_attempts": 7}, "connect_timeout": 3}
        extra = object_store.connection_extra | {"config_kwargs": kwargs}
        set_connection(monkeypatch, "aws_default", conn_type="aws", login="a", password="b", extra=extra)
        client = s3_client("aws_default")
        assert (client.meta.config.retries, client.meta.config.connect_timeout) == (kwargs["retries"], 3)
        client.close()


class TestOperator:
    def test_hands_its_s3_arguments_on(self, run_task: Callable[..., Outcome], object_store: ObjectStore) -> None:
        outcome = run_task(
            cache_control="no-store",
            storage_class="STANDARD_IA",
            tag_set={"run": "{{ dag.dag_id }}"},
            metadata={"owner": "{{ 1 + 1 }}"},
        )
        (image,) = outcome.manifest["images"]
        s3 = object_store.client()
        head = s3.head_object(Bucket=BUCKET, Key=image["key"])
        assert (head["CacheControl"], head["StorageClass"], head["Metadata"]["owner"]) == (
            "no-store",
            "STANDARD_IA",
            "2",
        )
        assert head["Metadata"]["fingerprint"] == outcome.manifest["fingerprint"]
        (tag,) = s3.get_object_tagging(Bucket=BUCKET, Key=image["key"])["TagSet"]
        assert image["key"].startswith(f"imagegen/{tag['Value']}/manual__")
        s3.close()

    @pytest.mark.parametrize("wrong", [{"storage_class": "COLD"}, {"tag_set": {"a": "&"}}, {"metadata": {"A": "b"}}])
    def test_refuses_wrong_ones_before_anything_is_paid(
        self, run_task: Callable[..., Outcome], emulator: Any, wrong: dict[str, Any]
    ) -> None:
        outcome = run_task(**wrong)
        assert outcome.state == "failed"
        assert f"{next(iter(wrong))}=" in outcome.log
        assert emulator.totals()["submits"] == 0
