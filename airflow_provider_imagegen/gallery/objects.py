"""What the gallery takes from S3, within bounds, and only what this provider has put there. Blocking.

XComs say where images are, and who may write XComs may write any address there: before an object is handed out
with the server's rights, it is looked at.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from fastapi import HTTPException

from airflow_provider_imagegen.gallery.models import ShownSidecar, ShownSummary, read_sidecar, split_uri
from airflow_provider_imagegen.gallery.thumbnails import MAX_BYTES
from airflow_provider_imagegen.schemas import LandedImage
from airflow_provider_imagegen.storage.errors import S3_ERRORS, is_not_there, words_of
from airflow_provider_imagegen.storage.tempfiles import SVG

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)

IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", SVG})
MAX_SIDECAR_BYTES = 1024 * 1024
LINK_SECONDS = 300
"""For how long an address in S3 is good."""

_DAG = "airflow-dag"
_SHA256 = "sha256"
_CUT_AT = 100
"""Metadata longer than this may have been cut."""
_UNUSUAL = re.compile(r"[^A-Za-z0-9._ -]")


@dataclass(frozen=True)
class ShownImage:
    """An image that was looked at and found to be this provider's.

    :param place: boto3's arguments that name the object.
    """

    place: dict[str, str]
    content_type: str
    bytes: int
    sha256: str

    @property
    def disposition(self) -> str:
        """How browsers are to take it: vector images can hold scripts, so they must not be opened."""
        return "attachment" if self.content_type == SVG else "inline"

    def disposition_header(self, *, as_download: bool) -> str:
        """Return the ``Content-Disposition``."""
        name = _UNUSUAL.sub("_", self.place["Key"].rpartition("/")[2])
        return f'{"attachment" if as_download else self.disposition}; filename="{name}"'


class Objects:
    """The objects that an AWS connection reaches.

    :param s3: A boto3 S3 client.
    """

    def __init__(self, s3: S3Client) -> None:
        self._s3 = s3

    def look_at(self, image: LandedImage) -> ShownImage:
        """Look at the object of an image.

        The SHA-256 that the XCom names must be the one that was noted when the image landed: who knows it has
        seen the image, and an image that took another one's place is not shown in its stead.

        :raises HTTPException: If it is gone, is another one, or nothing of this provider's.
        """
        place = {"Bucket": image.bucket, "Key": image.key}
        if image.version_id:
            place["VersionId"] = image.version_id
        head = self._head(place)
        metadata, content_type = head["Metadata"], head.get("ContentType", "")
        if _DAG not in metadata or content_type not in IMAGES:
            raise HTTPException(404, "The object is not an image that this provider has landed.")
        if metadata.get(_SHA256) != image.sha256:
            raise HTTPException(410, "The image was overwritten by another image.")
        return ShownImage(place, content_type, head["ContentLength"], image.sha256)

    def address(self, shown: ShownImage, *, as_download: bool) -> str:
        """Return an address in S3 from which a browser can fetch an image for a few minutes.

        :raises HTTPException: If there are no credentials to sign it with.
        """
        params: dict[str, Any] = {
            **shown.place,
            "ResponseContentType": shown.content_type,
            "ResponseContentDisposition": shown.disposition_header(as_download=as_download),
            "ResponseCacheControl": f"private, max-age={LINK_SECONDS}",
        }
        return self._signed(params)

    def content(self, shown: ShownImage) -> bytes:
        """Return an image's bytes.

        :raises HTTPException: If they are too many, or S3 does not hand them out.
        """
        if shown.bytes > MAX_BYTES:
            raise HTTPException(413, f"The image has {shown.bytes} bytes (limit: {MAX_BYTES}).")
        try:
            return self._s3.get_object(**shown.place)["Body"].read(MAX_BYTES + 1)  # type: ignore[arg-type]
        except S3_ERRORS as error:
            raise _refusal(error) from None

    def pieces(self, shown: ShownImage) -> Iterator[bytes]:
        """Return an image's bytes piece by piece.

        :raises HTTPException: If S3 does not hand them out.
        """
        try:
            body = self._s3.get_object(**shown.place)["Body"]  # type: ignore[arg-type]
        except S3_ERRORS as error:
            raise _refusal(error) from None
        return body.iter_chunks(256 * 1024)

    def sidecar(self, uri: str, dag_id: str, fingerprint: str) -> ShownSidecar | None:
        """Return what stands beside the images of a request; ``None`` if it tells of another one.

        :param uri: Where the XCom says it is.
        :param dag_id: The DAG that must have written it.
        :param fingerprint: Of the request that it must tell of.
        :raises HTTPException: If S3 does not hand it out.
        """
        if (place := split_uri(uri)) is None or not place[1].endswith("manifest.json"):
            return None
        try:
            found = self._s3.get_object(Bucket=place[0], Key=place[1])
            body = b"" if found["ContentLength"] > MAX_SIDECAR_BYTES else found["Body"].read(MAX_SIDECAR_BYTES)
        except S3_ERRORS as error:
            if is_not_there(error):
                return None
            raise _refusal(error) from None
        sidecar = read_sidecar(body)
        if sidecar is None or (sidecar.origin.dag_id, sidecar.fingerprint) != (dag_id, fingerprint):
            return None
        return sidecar

    def lines_of(self, summary: ShownSummary, dag_id: str) -> tuple[dict[str, str], int]:
        """Return the place and the size of a batch's rows.

        As with images, the SHA-256 that the XCom names must be the one that was noted with them. That a DAG of this
        name has written them is not enough: other Airflow installations may have one, and use the same S3.

        :param summary: What the XCom says.
        :param dag_id: The DAG that must have written them.
        :raises HTTPException: If they are gone, other ones, or another DAG's.
        """
        uri = summary.manifest_uri
        if (place := split_uri(uri)) is None or not place[1].endswith("manifest.jsonl"):
            raise HTTPException(404, "The summary contains no manifest.jsonl.")
        names = {"Bucket": place[0], "Key": place[1]}
        head = self._head(names)
        if not _is_of(dag_id, head["Metadata"].get(_DAG, "")):
            raise HTTPException(404, f"{uri} was not written by this DAG.")
        if not summary.manifest_sha256 or head["Metadata"].get(_SHA256) != summary.manifest_sha256:
            raise HTTPException(410, f"{uri} is not the file that the task has written.")
        return names, head["ContentLength"]

    def part(self, place: dict[str, str], start: int, size: int) -> bytes:
        """Return a stretch of an object.

        :raises HTTPException: If S3 does not hand it out.
        """
        try:
            found = self._s3.get_object(**place, Range=f"bytes={start}-{start + size - 1}")  # type: ignore[arg-type]
            return found["Body"].read(size)
        except S3_ERRORS as error:
            raise _refusal(error) from None

    def origins(self) -> list[str]:
        """Return where addresses in S3 lead to, in the words of a content security policy.

        :raises HTTPException: If there are no credentials to sign any with.
        """
        name = "gallery-probe"
        address = urlsplit(self._signed({"Bucket": name, "Key": "key"}))
        if not address.netloc.startswith(f"{name}."):
            return [f"{address.scheme}://{address.netloc}"]
        host = address.netloc.removeprefix(f"{name}.")
        return [f"{address.scheme}://{host}", f"{address.scheme}://*.{host}"]

    def _signed(self, params: dict[str, Any]) -> str:
        try:
            return self._s3.generate_presigned_url("get_object", Params=params, ExpiresIn=LINK_SECONDS)
        except S3_ERRORS as error:
            raise _refusal(error) from None

    def _head(self, place: dict[str, str]) -> dict[str, Any]:
        try:
            return {**self._s3.head_object(**place)}  # type: ignore[arg-type]
        except S3_ERRORS as error:
            raise _refusal(error) from None


def _refusal(error: BaseException) -> HTTPException:
    if is_not_there(error):
        return HTTPException(404, "The object is no longer in S3.")
    log.warning("The gallery cannot read from S3: %s", words_of(error))
    return HTTPException(502, f"Cannot read from S3: {words_of(error)}")


def _is_of(dag_id: str, noted: str) -> bool:
    noted, is_cut = unquote(noted), len(noted) > _CUT_AT
    return dag_id.startswith(noted) if is_cut else dag_id == noted
