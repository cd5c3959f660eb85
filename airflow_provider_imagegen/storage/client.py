"""How S3 is spoken to: the configuration of every boto3 client this provider uses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from botocore.config import Config

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from mypy_boto3_s3.client import S3Client


def client_of(hook: S3Hook) -> S3Client:
    """Return the boto3 client of an AWS connection, whose own ``config_kwargs`` come first.

    Throttling and server faults are repeated as botocore's standard mode does, with growing pauses.
    """
    # Older stores refuse checksums that boto3 adds of its own accord; this provider sends SHA-256 where it counts.
    ours: dict[str, Any] = {"request_checksum_calculation": "when_required"}
    if "AWS_RETRY_MODE" not in os.environ:
        ours["retries"] = {"mode": "standard"}
    client: S3Client = hook.get_client_type(region_name=hook.region_name, config=Config(**ours).merge(hook.config))
    client.meta.events.register_last("before-call.s3", send_at_once)
    return client


def send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Send bodies without asking first whether they are wanted (``Expect: 100-continue``).

    Where a store answers one put without having asked for its body, as it may a conditional one, and asks for the
    body of the next, botocore before 1.43.77 takes the first response for the second, and stalls for a minute.
    """
    params["headers"].pop("Expect", None)
