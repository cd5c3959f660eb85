"""Images that cannot be decoded are refused once, and do not hold up others."""

from __future__ import annotations

import asyncio
import hashlib
import io
import uuid
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException, Response
from PIL import Image

from airflow_provider_imagegen.gallery.serve import Delivery
from airflow_provider_imagegen.gallery.settings import GallerySettings
from airflow_provider_imagegen.gallery.store import Store
from airflow_provider_imagegen.schemas import LandedImage
from tests.conftest import BUCKET
from tests.fuzz.corpus import scanned_again
from tests.integration.conftest import set_connection
from tests.stack.object_store import ObjectStore


def saved(kind: str, size: tuple[int, int], **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **options)
    return file.getvalue()


class TestThumbnail:
    @pytest.fixture
    def delivery(self, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Delivery:
        keys = {"login": object_store.access_key, "password": object_store.secret_key}
        set_connection(monkeypatch, "aws_default", conn_type="aws", extra=object_store.connection_extra, **keys)
        settings = GallerySettings(
            aws_conn_id="aws_default", redirects=True, cache_directory=tmp_path / "cache", cache_bytes=10**6
        )
        return Delivery(Store("aws_default"), settings)

    @pytest.fixture
    def s3(self, object_store: ObjectStore) -> Any:
        return object_store.client()

    def put(self, s3: Any, body: bytes, content_type: str = "image/jpeg", key: str = "") -> LandedImage:
        key, digest = key or f"gallery/{uuid.uuid4()}", hashlib.sha256(body).hexdigest()
        noted = {"airflow-dag": "shop", "sha256": digest}
        s3.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType=content_type, Metadata=noted)
        return LandedImage(
            index=0,
            uri=f"s3://{BUCKET}/{key}",
            bucket=BUCKET,
            key=key,
            etag="",
            version_id=None,
            bytes=len(body),
            sha256=digest,
            content_type=content_type,
            width=8,
            height=8,
            task_id=None,
            trace_id=None,
            revised_prompt=None,
        )

    async def refused(self, delivery: Delivery, image: LandedImage) -> str:
        with pytest.raises(HTTPException) as error:
            await delivery.thumbnail(image, "")
        assert error.value.status_code == 415
        return error.value.detail

    async def test_is_not_tried_again_where_there_can_be_none(self, delivery: Delivery, s3: Any) -> None:
        image = self.put(s3, b"no image")
        reason = await self.refused(delivery, image)
        # With other content it would be told that the image was overwritten, if anybody looked.
        noted = {"airflow-dag": "shop", "sha256": image.sha256}
        s3.put_object(Bucket=BUCKET, Key=image.key, Body=b"other", ContentType="image/jpeg", Metadata=noted)
        assert await self.refused(delivery, image) == reason

    async def test_is_made_beside_images_that_cannot_be_decoded(self, delivery: Delivery, s3: Any) -> None:
        bomb = scanned_again(saved("JPEG", (3000, 3000), progressive=True), 400)
        hostile = [self.put(s3, bomb + bytes([number])) for number in range(4)]
        good = [self.put(s3, saved("PNG", (60, 40 + number)), "image/png") for number in range(4)]
        order = [image for pair in zip(hostile, good, strict=True) for image in pair]
        results = await asyncio.gather(*(delivery.thumbnail(image, "") for image in order), return_exceptions=True)
        assert [type(result) for result in results] == [HTTPException, Response] * 4
        assert "too many to be decoded" in await self.refused(delivery, hostile[0])
