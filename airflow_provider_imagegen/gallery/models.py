"""What the gallery reads: XComs of the operators and the documents beside the images, of this release and others.

Lenient on purpose: whoever may write XComs can write anything there, and what is no manifest is nobody's error.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import HTTPException
from pydantic import Field, JsonValue, ValidationError

from airflow_provider_imagegen.schemas import LandedImage, MissingImage, Origin
from airflow_provider_imagegen.schemas.base import PersistedModel
from airflow_provider_imagegen.storage import destination

LINK = "_link_ImagesLink"
"""XCom key of the link to this gallery, which every operator of this provider leaves, whatever becomes of it."""

# Every manifest, failure and summary of this provider has them.
_ALWAYS_THERE = frozenset({"gateway", "images", "failures"})
MAX_IMAGES = 200
"""Images of one manifest that are shown; a request asks for ten at most."""


class ShownManifest(PersistedModel):
    """A manifest, as far as it is shown; see :class:`~airflow_provider_imagegen.schemas.Manifest`."""

    version: Literal[1]
    gateway: str = ""
    model: str | None = None
    images: tuple[LandedImage, ...]
    failures: tuple[MissingImage, ...] = ()
    usage: dict[str, JsonValue] = Field(default_factory=dict)
    currency: str = ""
    fingerprint: str = ""
    created_at: str = ""
    manifest_uri: str = ""

    def image(self, index: int) -> LandedImage | None:
        """Return the image at a position among those asked for; ``None`` if there is none."""
        return next((image for image in self.images if image.index == index and is_beside(image, self)), None)


class ShownSummary(PersistedModel):
    """The shown part of a batch's summary; see :class:`~airflow_provider_imagegen.schemas.batch.BatchSummary`."""

    version: Literal[1]
    gateway: str = ""
    rows: int
    currency: str = ""
    created_at: str = ""
    manifest_uri: str
    manifest_sha256: str = ""


class ShownSidecar(PersistedModel):
    """What stands beside images, as far as it is shown; see :class:`~airflow_provider_imagegen.schemas.Sidecar`."""

    version: Literal[1]
    fingerprint: str
    origin: Origin
    request: dict[str, JsonValue]


Result = ShownManifest | ShownSummary


def read_result(value: Any) -> Result | None:
    """Return an XCom's value as what an operator returned; ``None`` if it is nothing of that kind.

    :raises HTTPException: If it has the fields of that kind, with values that are not of that kind.
    """
    if not isinstance(value, dict) or value.get("dry_run"):
        return None
    kind: type[Result] = ShownManifest if isinstance(value.get("images"), list) else ShownSummary
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        if not value.keys() >= _ALWAYS_THERE:
            return None
        wrong = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise HTTPException(422, f"The XCom is not valid: wrong type or value of field {wrong}.") from None


def is_beside(image: LandedImage, result: Result) -> bool:
    """Return whether an image is in the bucket of the manifest that names it, as tasks put them."""
    return not result.manifest_uri or result.manifest_uri.startswith(f"s3://{image.bucket}/")


def read_sidecar(body: bytes) -> ShownSidecar | None:
    """Return a document as a sidecar; ``None`` if it is none."""
    try:
        return ShownSidecar.model_validate_json(body)
    except ValidationError:
        return None


def split_uri(uri: str) -> tuple[str, str] | None:
    """Return bucket and key of an ``s3://`` address; ``None`` if it is none."""
    bucket, key = destination.split_uri(uri)
    return (bucket, key) if bucket and key else None
