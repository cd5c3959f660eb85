"""Finds images that were put by a try which died before it could note that: by what their metadata says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_imagegen.exceptions import UploadFailed
from airflow_provider_imagegen.schemas import LandedImage
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.storage.errors import S3_ERRORS, words_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

TRACE_ID = "trace-id"
SHA256 = "sha256"
PIXELS = "pixels"


def find_image(s3: S3Client, destination: Destination, trace_id: str, index: int, name: str) -> LandedImage | None:
    """Return the image that a request generation put under a name; ``None`` if there is none.

    :param s3: A boto3 S3 client.
    :param destination: Where to look.
    :param trace_id: The trace id of the generation.
    :param index: Position among the images asked for.
    :param name: File name without extension.
    :raises UploadFailed: If S3 does not answer.
    """
    bucket, start = destination.bucket, destination.key(f"{name}.")
    try:
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=start).get("Contents", [])
        # A preview is called <name>.preview-<number>.<ext>.
        keys = [entry["Key"] for entry in listed if "." not in entry["Key"].removeprefix(start)]
        heads = [(key, s3.head_object(Bucket=bucket, Key=key)) for key in keys]
    except S3_ERRORS as error:
        raise UploadFailed(f"s3://{bucket}/{start}* cannot be looked for: {words_of(error)}") from None
    ours = [(key, head) for key, head in heads if head["Metadata"].get(TRACE_ID) == trace_id]
    return _landed(destination, *ours[0], index) if ours else None


def _landed(destination: Destination, key: str, head: Any, index: int) -> LandedImage:
    metadata = head["Metadata"]
    width, _, height = metadata[PIXELS].partition("x")
    return LandedImage(
        index=index,
        uri=destination.uri(key),
        bucket=destination.bucket,
        key=key,
        etag=head["ETag"].strip('"'),
        version_id=head.get("VersionId"),
        bytes=head["ContentLength"],
        sha256=metadata[SHA256],
        content_type=head["ContentType"],
        width=int(width),
        height=int(height),
        task_id=metadata.get("task-id") or None,
        trace_id=metadata[TRACE_ID],
        revised_prompt=None,
    )
