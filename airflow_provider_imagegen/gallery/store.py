"""The gallery's connection to S3, kept for a few minutes: looking connections up and loading boto3 takes time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from botocore.config import Config
from fastapi import HTTPException

from airflow_provider_imagegen.gallery.objects import Objects
from airflow_provider_imagegen.redaction import redacted
from airflow_provider_imagegen.storage.client import client_of
from airflow_provider_imagegen.storage.errors import S3_ERRORS

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

KEPT_SECONDS = 300.0
"""Time after which the connection is looked up again: it may have been changed."""


# What the connection's own config_kwargs say comes first. boto3 still signs addresses the old way where it can,
# which newer regions and other stores refuse; and somebody is waiting.
_OURS = Config(signature_version="s3v4", connect_timeout=5, read_timeout=20, retries={"mode": "standard"})


class Store:
    """S3, as an AWS connection reaches it.

    :param aws_conn_id: The connection.
    """

    def __init__(self, aws_conn_id: str) -> None:
        self._aws_conn_id = aws_conn_id
        self._lock = asyncio.Lock()
        self._objects: Objects | None = None
        self._until = 0.0

    async def objects(self) -> Objects:
        """Return what it reaches.

        :raises HTTPException: If the connection cannot be used.
        """
        async with self._lock:
            if self._objects is None or time.monotonic() > self._until:
                self._objects = Objects(await asyncio.to_thread(self._client))
                self._until = time.monotonic() + KEPT_SECONDS
            return self._objects

    def _client(self) -> S3Client:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from airflow.providers.common.compat.sdk import AirflowException

        try:
            return client_of(S3Hook(aws_conn_id=self._aws_conn_id), _OURS)
        except (ValueError, AirflowException, *S3_ERRORS) as error:
            words = f"AWS connection {self._aws_conn_id!r} cannot be used: {redacted(str(error))}"
            raise HTTPException(502, words) from None
