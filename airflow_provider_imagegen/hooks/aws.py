"""S3 clients of AWS connections, without two habits of Airflow's hook: it ignores a missing connection, and blocks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_provider_imagegen.exceptions import ConfigurationError
from airflow_provider_imagegen.redaction import redacted

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from mypy_boto3_s3.client import S3Client


FALLBACK_CONNECTION = "aws_default"
"""The one connection that need not exist: without it boto3 finds credentials by itself."""


def s3_client(aws_conn_id: str | None) -> S3Client:
    """Return the boto3 client of an AWS connection, which must exist unless it is :data:`FALLBACK_CONNECTION`."""
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

    connection = None
    try:
        if aws_conn_id is not None:
            connection = BaseHook.get_connection(aws_conn_id)
    except AirflowNotFoundException:
        _refuse_missing(aws_conn_id)
    return _client_of(aws_conn_id, connection)


async def as3_client(aws_conn_id: str | None) -> S3Client:
    """Return the boto3 client of an AWS connection; for event loops."""
    from airflow.providers.common.compat.connection import get_async_connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    connection = None
    try:
        if aws_conn_id is not None:
            connection = await get_async_connection(aws_conn_id)
    except AirflowNotFoundException:
        _refuse_missing(aws_conn_id)
    return await asyncio.to_thread(_client_of, aws_conn_id, connection)


def _refuse_missing(aws_conn_id: str | None) -> None:
    # Airflow's hook would go on with whatever credentials boto3 finds, and land images in another account's bucket.
    if aws_conn_id != FALLBACK_CONNECTION:
        advice = "Create it, or pass aws_conn_id=None for the credentials that boto3 finds."
        raise ConfigurationError(f"there is no AWS connection {aws_conn_id!r}", advice=advice) from None


def _client_of(aws_conn_id: str | None, connection: Connection | None) -> S3Client:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

    from airflow_provider_imagegen.storage.client import client_of
    from airflow_provider_imagegen.storage.errors import S3_ERRORS

    hook = S3Hook(aws_conn_id=connection.conn_id if connection else None)
    try:
        # The hook would look it up again, and a blocking lookup from a triggerer's event loop can hang.
        hook.conn_config = AwsConnectionWrapper(conn=connection)
        return client_of(hook)
    except (ValueError, *S3_ERRORS) as error:
        raise ConfigurationError(f"AWS connection {aws_conn_id!r} cannot be used: {redacted(str(error))}") from None
