"""How S3 is spoken to: the configuration of every boto3 client this provider uses, and puts that S3 checks."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from botocore.config import Config

from airflow_provider_imagegen.storage.errors import S3_ERRORS, is_checksum_unknown

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)

CONNECTIONS = 10
"""Calls to S3 at once: as many connections as a boto3 client keeps. More threads would wait, and log a warning each."""

_without_checksums: set[str] = set()
"""Endpoints of stores that take no SHA-256, as far as this process knows."""


def client_of(hook: S3Hook, ours: Config | None = None) -> S3Client:
    """Return the boto3 client of an AWS connection, whose ``config_kwargs`` come before ours."""
    config = (ours or _config_for_tasks()).merge(hook.config)
    client: S3Client = hook.get_client_type(region_name=hook.region_name, config=config)
    add_handlers(client)
    return client


def _config_for_tasks() -> Config:
    """Return a configuration that repeats throttling and server faults as botocore's standard mode does."""
    # Older stores refuse checksums that boto3 adds of its own accord; this provider sends SHA-256 where it counts.
    ours: dict[str, Any] = {"request_checksum_calculation": "when_required"}
    if "AWS_RETRY_MODE" not in os.environ:
        ours["retries"] = {"mode": "standard"}
    return Config(**ours)


def add_handlers(client: S3Client) -> None:
    """Add to a client what every request and response of this provider needs."""
    client.meta.events.register_last("before-call.s3", send_at_once)
    client.meta.events.register_first("after-call.s3", lower_metadata_names)


def send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Send bodies without asking first whether they are wanted (``Expect: 100-continue``).

    Where a store answers one put without having asked for its body, as it may a conditional one, and asks for the
    body of the next, botocore before 1.43.77 takes the first response for the second, and stalls for a minute.
    """
    params["headers"].pop("Expect", None)


def lower_metadata_names(parsed: dict[str, Any], **_: Any) -> None:
    """Spell the names of user metadata as they were put.

    They are HTTP headers, whose names have no case: proxies and stores answer ``X-Amz-Meta-Sha256``, which botocore
    passes on as ``Sha256``. An image whose digest is not found counts as another image, and is paid for again.
    """
    if "Metadata" in parsed:
        parsed["Metadata"] = {name.lower(): value for name, value in parsed["Metadata"].items()}


def put_checked(s3: S3Client, body: IO[bytes], sha256: str, **arguments: Any) -> Mapping[str, Any]:
    """Put an object with its SHA-256, or without it into a store that takes none; return the response.

    S3 compares it with the bytes that arrive: a bit that turned on the disk or on the way is noticed. A bucket with
    default Object Lock retention takes no object without one.
    """
    endpoint = s3.meta.endpoint_url
    body.seek(0)
    if endpoint not in _without_checksums:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        try:
            return s3.put_object(**arguments, Body=body, ChecksumSHA256=checksum)
        except S3_ERRORS as error:
            if not is_checksum_unknown(error):
                raise
        body.seek(0)
    response = s3.put_object(**arguments, Body=body)
    # Only now: what was refused before may have been another argument.
    if endpoint not in _without_checksums:
        _without_checksums.add(endpoint)
        log.warning("The S3 store at %s takes no SHA-256 checksums: it cannot prove what arrived.", endpoint)
    return response
