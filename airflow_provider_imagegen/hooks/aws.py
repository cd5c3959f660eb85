"""AWS connections as Airflow's hook does not have them: it goes on without a missing one, and blocks event loops."""

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


def require_connection(aws_conn_id: str | None) -> None:
    """Refuse a connection that is missing.

    :raises ConfigurationError: If there is no such connection.
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

    # Airflow's hook would go on with whatever credentials boto3 finds, and land images in another account's bucket.
    if aws_conn_id in (None, FALLBACK_CONNECTION):
        return
    try:
        BaseHook.get_connection(aws_conn_id)
    except AirflowNotFoundException:
        raise _no_connection(aws_conn_id) from None


def s3_client(aws_conn_id: str | None) -> S3Client:
    """Return the boto3 client of an AWS connection.

    :raises ConfigurationError: If the connection is missing or cannot be used.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from airflow_provider_imagegen.storage.client import client_of
    from airflow_provider_imagegen.storage.errors import S3_ERRORS

    require_connection(aws_conn_id)
    try:
        return client_of(S3Hook(aws_conn_id=aws_conn_id))
    except (ValueError, *S3_ERRORS) as error:
        raise ConfigurationError(f"AWS connection {aws_conn_id!r} cannot be used: {redacted(str(error))}") from None


async def as3_client(aws_conn_id: str | None) -> S3Client:
    """Return the boto3 client of an AWS connection.

    :raises ConfigurationError: If there is no such connection.
    """
    from airflow.providers.common.compat.connection import get_async_connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    try:
        connection = await get_async_connection(aws_conn_id) if aws_conn_id else None
    except AirflowNotFoundException:
        raise _no_connection(aws_conn_id) from None
    return await asyncio.to_thread(_client_of, connection)


def _no_connection(aws_conn_id: str | None) -> ConfigurationError:
    advice = "Create it, or pass aws_conn_id=None for the credentials that boto3 finds."
    return ConfigurationError(f"there is no AWS connection {aws_conn_id!r}", advice=advice)


def _client_of(connection: Connection | None) -> S3Client:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

    from airflow_provider_imagegen.storage.client import client_of

    hook = S3Hook(aws_conn_id=connection.conn_id if connection else None)
    # A blocking lookup from a triggerer's event loop can hang; what is known need not be looked up.
    hook.conn_config = AwsConnectionWrapper(conn=connection)
    return client_of(hook)
