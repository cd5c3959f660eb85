"""From an Airflow connection to a gateway: the hook behind the operators and for TaskFlow users."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_imagegen.exceptions import ConfigurationError, ImageGenError, TaskTimeout

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_imagegen.client import ImageClient
    from airflow_provider_imagegen.connection import GatewaySettings
    from airflow_provider_imagegen.schemas import ImageTask


class ImageGenHook(BaseHook):
    """Speaks to the image gateway that an Airflow connection names.

    Every method that goes out to the gateway has an ``a…`` twin for event loops; the blocking one must not
    be called from a running loop.

    :param imagegen_conn_id: The connection: host = base URL, password = API token.
    """

    conn_name_attr = "imagegen_conn_id"
    default_conn_name = "imagegen_default"
    conn_type = "imagegen"
    hook_name = "Image generation"

    def __init__(self, imagegen_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.imagegen_conn_id = imagegen_conn_id

    def settings(self) -> GatewaySettings:
        """Return what the connection says, checked.

        :raises ConfigurationError: If there is no such connection, or it cannot be used.
        """
        try:
            connection = self.get_connection(self.imagegen_conn_id)
        except AirflowNotFoundException:
            raise self._no_connection() from None
        return self._read(connection, connection.extra_dejson)

    async def asettings(self) -> GatewaySettings:
        """Return what the connection says, checked; for event loops."""
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

        try:
            connection = await get_async_connection(self.imagegen_conn_id)
        except AirflowNotFoundException:
            raise self._no_connection() from None
        return self._read(connection, await get_async_extra_dejson(connection))

    def get_conn(self) -> ImageClient:
        """Return a client for the connection, to be opened with ``async with``."""
        from airflow_provider_imagegen.client import ImageClient

        return ImageClient(self.settings())

    async def aget_conn(self) -> ImageClient:
        """Return a client for the connection, to be opened with ``async with``; for event loops."""
        from airflow_provider_imagegen.client import ImageClient

        return ImageClient(await self.asettings())

    def submit(self, **parameters: Any) -> ImageTask:
        """Send one paid request, once.

        :param parameters: Those of :class:`~airflow_provider_imagegen.schemas.ImageRequest`.
        :return: The task to look up later, or the finished one where the gateway answers at once.
        :raises InvalidRequest: Before anything is sent, if a parameter is wrong.
        :raises GatewayError: As the gateway answers.
        """
        return asyncio.run(_submit(self.get_conn(), parameters))

    async def asubmit(self, **parameters: Any) -> ImageTask:
        """Send one paid request, once; for event loops. See :meth:`submit`."""
        return await _submit(await self.aget_conn(), parameters)

    def get_task(self, task_id: str) -> ImageTask:
        """Look up one task; free.

        :param task_id: The gateway's id.
        :raises LookUpFailed: If no usable answer came back.
        """
        return self.get_tasks([task_id])[task_id]

    async def aget_task(self, task_id: str) -> ImageTask:
        """Look up one task; for event loops. See :meth:`get_task`."""
        return (await self.aget_tasks([task_id]))[task_id]

    def get_tasks(self, task_ids: Sequence[str]) -> dict[str, ImageTask]:
        """Look up many tasks in as few calls as the gateway allows; free.

        :param task_ids: The gateway's ids.
        :return: One task for every id, ``unseen`` where the gateway shows none.
        """
        return asyncio.run(_look_up(self.get_conn(), task_ids))

    async def aget_tasks(self, task_ids: Sequence[str]) -> dict[str, ImageTask]:
        """Look up many tasks; for event loops. See :meth:`get_tasks`."""
        return await _look_up(await self.aget_conn(), task_ids)

    def wait(self, task_id: str, *, timeout: float = 1800.0, poll_interval: float = 5.0) -> ImageTask:
        """Look a task up until it is done.

        :param task_id: The gateway's id.
        :param timeout: Seconds to wait at most.
        :param poll_interval: Seconds between look-ups.
        :return: The task, ``succeeded`` or ``failed``.
        :raises TaskTimeout: If it is still running after ``timeout``.
        """
        return asyncio.run(_wait(self.get_conn(), task_id, timeout, poll_interval))

    async def await_task(self, task_id: str, *, timeout: float = 1800.0, poll_interval: float = 5.0) -> ImageTask:
        """Look a task up until it is done; for event loops. See :meth:`wait`."""
        return await _wait(await self.aget_conn(), task_id, timeout, poll_interval)

    def test_connection(self) -> tuple[bool, str]:
        """Prove base URL and token with a free look-up; behind the form's *Test* button."""
        try:
            asyncio.run(_probe(self.get_conn()))
        except ImageGenError as error:
            return False, str(error)
        return True, "The gateway answers and accepts the token."

    def _read(self, connection: Connection, extra: dict[str, Any]) -> GatewaySettings:
        from airflow_provider_imagegen.connection import GatewaySettings

        return GatewaySettings.from_fields(
            name=f"connection {self.imagegen_conn_id!r}",
            host=connection.host,
            scheme=connection.schema,
            port=connection.port,
            token=connection.password,
            extra=extra,
        )

    def _no_connection(self) -> ConfigurationError:
        return ConfigurationError(
            f"there is no connection {self.imagegen_conn_id!r}",
            advice="Create it: type imagegen, host, password.",
        )


async def _submit(client: ImageClient, parameters: dict[str, Any]) -> ImageTask:
    from airflow_provider_imagegen.schemas import ImageRequest

    request = ImageRequest.checked(parameters)
    async with client:
        return await client.submit(request, str(uuid.uuid4()))


async def _look_up(client: ImageClient, task_ids: Sequence[str]) -> dict[str, ImageTask]:
    async with client:
        return await client.look_up(task_ids)


async def _wait(client: ImageClient, task_id: str, timeout: float, poll_interval: float) -> ImageTask:
    from airflow_provider_imagegen.watcher import PollSchedule, TaskWatcher

    now = time.time()
    async with client:
        watcher = TaskWatcher(client, PollSchedule(interval=poll_interval))
        task = (await watcher.wait([task_id], until=now + timeout, submitted_at=now))[task_id]
    if not task.is_terminal:
        raise TaskTimeout(f"the task is not done after {timeout:g} s", gateway=client.gateway.name, task_id=task_id)
    return task


async def _probe(client: ImageClient) -> None:
    async with client:
        await client.probe()
