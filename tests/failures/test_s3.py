"""An S3 server that throttles, breaks off or refuses, and a full disk: no image is lost, none is paid for twice."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_provider_imagegen.engine.run import GenerateRun
from airflow_provider_imagegen.exceptions import DestinationError, LedgerError, TempFileFailed, UploadFailed
from airflow_provider_imagegen.failpoints import Failpoint
from airflow_provider_imagegen.hooks.aws import s3_client
from airflow_provider_imagegen.schemas import Manifest
from airflow_provider_imagegen.storage.options import ObjectOptions
from tests.conftest import BUCKET
from tests.docs import policies
from tests.failures.conftest import IMAGE_BYTES, PASSING, Harness, killed_at
from tests.integration.conftest import set_connection
from tests.stack.fault_proxy import Fault, FaultProxy
from tests.stack.object_store import Identity, ObjectStore
from tests.stack.waiting import HANG

full = pytest.mark.full
GATEWAYS = pytest.mark.parametrize(("gateway", "prefix"), [("acedatacloud", ""), ("openai", "/openai-api")])
IMAGES = r"/failures/.*\.png"
HALF = IMAGE_BYTES // 2
SILENCE = 3 * PASSING
"""Seconds after which a silent S3 server is given up, where its silence is the point."""

READER = Identity("reader", "reader-secret", (f"Read:{BUCKET}", f"List:{BUCKET}"))
BOOKKEEPER = Identity("bookkeeper", "its-secret", (*READER.actions, f"Write:{BUCKET}/ledgers/*"))
# As the harness calls the prefixes that the documented policies are for.
PREFIXES = {policies.IMAGES: "failures", policies.LEDGER: "ledgers"}
COMPONENTS = {name: policies.identity(name, BUCKET, PREFIXES) for name in policies.COMPONENTS}


@pytest.fixture
def read_timeout() -> float:
    """Seconds for which S3 may be silent."""
    return HANG


@pytest.fixture
def proxy(
    harness: Harness, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, read_timeout: float
) -> Iterator[FaultProxy]:
    """A proxy between the harness and its S3 server."""
    extra = {**object_store.connection_extra, "config_kwargs": {"read_timeout": read_timeout}}
    with FaultProxy(int(object_store.endpoint.rpartition(":")[2])) as proxy:
        set_connection(
            monkeypatch,
            "aws_default",
            conn_type="aws",
            login=object_store.access_key,
            password=object_store.secret_key,
            extra=extra | {"endpoint_url": proxy.endpoint},
        )
        harness.s3 = s3_client("aws_default")
        yield proxy
        harness.s3.close()


@pytest.fixture(scope="module")
def guarded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A SeaweedFS where some may do less than others."""
    home = tmp_path_factory.mktemp("guarded-s3")
    store = ObjectStore(home / "data", home / "seaweedfs.log", BUCKET, [READER, BOOKKEEPER, *COMPONENTS.values()])
    store.start()
    try:
        store.wait_ready()
        yield store
    finally:
        store.process.stop()


def client_of(store: ObjectStore, identity: Identity) -> Any:
    return store.client(aws_access_key_id=identity.access_key, aws_secret_access_key=identity.secret_key)


def is_intact(harness: Harness, manifest: Manifest) -> bool:
    """Return whether the bytes in S3 are the verified ones."""

    def digest(key: str) -> str:
        with harness.s3.get_object(Bucket=BUCKET, Key=key)["Body"] as body:
            return hashlib.sha256(body.read()).hexdigest()

    return [digest(image.key) for image in manifest.images] == [image.sha256 for image in manifest.images]


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size; the kernel fails the write that would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestSlowDown:
    def test_that_passes_is_retried_within_the_try(self, harness: Harness, proxy: FaultProxy) -> None:
        fault = proxy.arm(Fault("refuse", path=IMAGES, times=2))
        assert is_intact(harness, harness.attempt())
        assert len(fault.met) == 2
        assert harness.submits == harness.billed == 1

    def test_that_does_not_is_an_error_and_the_next_try_lands_without_paying(
        self, harness: Harness, proxy: FaultProxy
    ) -> None:
        fault = proxy.arm(Fault("refuse", path=IMAGES, times=None))
        with pytest.raises(UploadFailed, match=r"0.png was not taken: .*SlowDown.*billed: yes") as caught:
            harness.attempt()
        assert caught.value.task_id == harness.entries()[0].record.task_id
        assert len(fault.met) > 1
        assert harness.entries()[0].record.state == "submitted"
        proxy.disarm()
        assert is_intact(harness, harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1

    def test_of_one_image_costs_its_siblings_nothing(self, harness: Harness, proxy: FaultProxy) -> None:
        proxy.arm(Fault("refuse", path=r"/failures/.*/1\.png", times=None))
        manifest = harness.attempt(n=3, on_partial="accept")
        assert [image.index for image in manifest.images] == [0, 2]
        assert [missing.billed for missing in manifest.failures] == ["yes"]
        assert is_intact(harness, manifest)


class TestConnectionThatBreaksInMidPut:
    @pytest.mark.parametrize(("kind", "read_timeout"), [("reset", HANG), ("stall", SILENCE)], ids=["reset", "stall"])
    @pytest.mark.parametrize("after", [pytest.param(0, marks=full), HALF, pytest.param(10**9, marks=full)], ids=str)
    def test_is_retried_and_every_byte_arrives(
        self, harness: Harness, proxy: FaultProxy, kind: Any, after: int
    ) -> None:
        fault = proxy.arm(Fault(kind, path=IMAGES, after=after))
        assert is_intact(harness, harness.attempt())
        assert len(fault.met) == 1
        assert harness.submits == harness.billed == 1

    def test_repeatedly_is_an_error_and_the_next_try_lands_without_paying(
        self, harness: Harness, proxy: FaultProxy
    ) -> None:
        proxy.arm(Fault("reset", path=IMAGES, after=HALF, times=None))
        with pytest.raises(UploadFailed, match=r"billed: yes"):
            harness.attempt()
        proxy.disarm()
        assert is_intact(harness, harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1


class TestMetadataNamesInAnotherCase:
    """HTTP header names have no case, and proxies written in Go answer ``X-Amz-Meta-Sha256``."""

    @pytest.fixture(autouse=True)
    def capitals(self, proxy: FaultProxy) -> Iterator[None]:
        proxy.capitalize_metadata()
        yield
        assert proxy.capitalized

    @GATEWAYS
    def test_do_not_let_a_cleared_task_pay_again(self, harness: Harness, gateway: str, prefix: str) -> None:
        harness.use(gateway, prefix)
        first = harness.attempt()
        again = harness.attempt(try_number=2, epoch=1)
        assert [image.sha256 for image in again.images] == [image.sha256 for image in first.images]
        assert (again.reused, harness.submits, harness.billed) == (1, 1, 1)

    @GATEWAYS
    def test_do_not_hide_an_image_that_was_put_before_a_kill(self, harness: Harness, gateway: str, prefix: str) -> None:
        harness.use(gateway, prefix)
        with killed_at(Failpoint.PUT_IMAGE, "after"):
            harness.attempt()
        assert is_intact(harness, harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1

    def test_do_not_make_it_somebody_elses_image(self, harness: Harness) -> None:
        def kept(try_number: int) -> GenerateRun:
            run = harness.work(try_number=try_number)
            destination = dataclasses.replace(run.destination, options=ObjectOptions(replace=False))
            return dataclasses.replace(run, destination=destination)

        with killed_at(Failpoint.PUT_IMAGE, "after"):
            asyncio.run(kept(1).begin())
        manifest = asyncio.run(kept(2).begin())
        assert isinstance(manifest, Manifest)
        assert is_intact(harness, manifest)
        assert harness.submits == harness.billed == 1


class TestBucketWithDefaultRetention:
    """S3 takes no object into a bucket with default Object Lock retention whose put has no checksum."""

    DEMAND = (
        "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
    )

    def test_takes_claims_images_and_manifest(self, harness: Harness, proxy: FaultProxy) -> None:
        refused = {"status": 400, "code": "InvalidRequest", "words": self.DEMAND}
        fault = proxy.arm(Fault("refuse", without="x-amz-checksum-sha256", times=None, **refused))  # type: ignore[arg-type]
        assert is_intact(harness, harness.attempt())
        assert fault.met == []
        assert harness.entries()[0].record.state == "landed"


class TestStoreWithoutChecksums:
    def test_takes_claims_without_and_that_is_said_once(
        self, harness: Harness, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        fault = proxy.arm(
            Fault("refuse", header="x-amz-checksum-sha256", status=501, code="NotImplemented", times=None)
        )
        assert is_intact(harness, harness.attempt())
        assert len(fault.met) == 1
        assert caplog.text.count("takes no SHA-256 checksums") == 1
        assert harness.entries()[0].record.state == "landed"


class TestKeysThatMayOnlyRead:
    def test_are_noticed_by_the_claim_before_anything_is_paid(
        self, harness: Harness, guarded_store: ObjectStore
    ) -> None:
        harness.s3 = client_of(guarded_store, READER)
        with pytest.raises(DestinationError, match=r"access denied.*billed: no"):
            harness.attempt()
        assert harness.submits == harness.billed == 0


class TestKeysThatMayNotPutImages:
    def test_are_an_error_and_better_ones_land_without_paying(
        self, harness: Harness, guarded_store: ObjectStore
    ) -> None:
        harness.s3 = client_of(guarded_store, BOOKKEEPER)
        with pytest.raises(UploadFailed, match=r"access denied.*billed: yes"):
            harness.attempt()
        assert harness.entries()[0].record.state == "submitted"
        harness.s3 = guarded_store.client()
        assert is_intact(harness, harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1


class TestKeysWithTheDocumentedPolicy:
    def test_of_a_worker_land_images_and_hand_them_out_again(
        self, harness: Harness, guarded_store: ObjectStore
    ) -> None:
        harness.s3 = client_of(guarded_store, COMPONENTS["worker"])
        assert is_intact(harness, harness.attempt())
        again = harness.attempt(try_number=2, epoch=1)
        assert (again.reused, harness.submits, harness.billed) == (1, 1, 1)

    def test_of_an_api_server_read_images_and_no_records(self, harness: Harness, guarded_store: ObjectStore) -> None:
        harness.s3 = guarded_store.client()
        manifest = harness.attempt()
        ((key, generation),) = harness.ledger.filed()
        harness.s3 = client_of(guarded_store, COMPONENTS["API server"])
        assert is_intact(harness, manifest)
        with pytest.raises(LedgerError, match="access denied"):
            harness.ledger.read(key, generation)

    def test_of_a_triggerer_change_records_and_read_no_images(
        self, harness: Harness, guarded_store: ObjectStore
    ) -> None:
        harness.s3 = guarded_store.client()
        manifest = harness.attempt()
        ((key, generation),) = harness.ledger.filed()
        harness.s3 = client_of(guarded_store, COMPONENTS["triggerer"])
        entry = harness.ledger.read(key, generation)
        assert entry is not None
        assert harness.ledger.update(key, entry, state="cancelling").record.state == "cancelling"
        with pytest.raises(ClientError, match="AccessDenied"):
            is_intact(harness, manifest)


class TestFullDisk:
    def test_says_where_and_the_next_try_lands_without_paying(self, harness: Harness) -> None:
        with (
            disk_of(HALF),
            pytest.raises(TempFileFailed, match=r"could not be kept in /.*billed: yes.*TMPDIR"),
        ):
            harness.attempt()
        assert harness.entries()[0].record.state == "submitted"
        assert is_intact(harness, harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1
