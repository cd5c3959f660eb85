"""The S3 client of an Airflow connection, for event loops: Airflow's own hook looks its connection up blocking."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_provider_imagegen.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from mypy_boto3_s3.client import S3Client


async def as3_client(aws_conn_id: str | None) -> S3Client:
    """Return the boto3 client of an AWS connection.

    :raises ConfigurationError: If there is no such connection.
    """
    from airflow.providers.common.compat.connection import get_async_connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    try:
        connection = await get_async_connection(aws_conn_id) if aws_conn_id else None
    except AirflowNotFoundException:
        raise ConfigurationError(f"there is no AWS connection {aws_conn_id!r}") from None
    return await asyncio.to_thread(_client_of, connection)


def _client_of(connection: Connection | None) -> S3Client:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

    from airflow_provider_imagegen.s3_client import client_of

    hook = S3Hook(aws_conn_id=connection.conn_id if connection else None)
    # A blocking look-up from a triggerer's event loop can hang; what is known need not be looked up.
    hook.conn_config = AwsConnectionWrapper(conn=connection)
    return client_of(hook)
