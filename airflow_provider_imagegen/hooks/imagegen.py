"""From an Airflow connection to a gateway: the hook behind the operators and for TaskFlow users."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_imagegen.exceptions import ConfigurationError, ImageGenError, LookUpFailed, TaskTimeout

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_imagegen.gateways.client import ImageClient
    from airflow_provider_imagegen.gateways.settings import GatewaySettings
    from airflow_provider_imagegen.schemas import EditRequest, ImageOutput, ImageRequest, ImageTask


class ImageGenHook(BaseHook):
    """Speaks to the image gateway that an Airflow connection names.

    Every method that calls the gateway is asynchronous, ``a…``, and has a blocking version, which runs it in an event
    loop of its own and must not be called from a running one.

    :param imagegen_conn_id: The connection: host = base URL, password = API token.
    """

    conn_name_attr = "imagegen_conn_id"
    default_conn_name = "imagegen_default"
    conn_type = "imagegen"
    hook_name = "Image generation"

    def __init__(self, imagegen_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.imagegen_conn_id = imagegen_conn_id
        self._settings: GatewaySettings | None = None

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
        from airflow.providers.common.compat.connection import get_async_connection

        from airflow_provider_imagegen.version_compat import get_async_extra_dejson

        try:
            connection = await get_async_connection(self.imagegen_conn_id)
        except AirflowNotFoundException:
            raise self._no_connection() from None
        return self._read(connection, await get_async_extra_dejson(connection))

    def get_conn(self) -> ImageClient:
        """Return a client for the connection, to be opened with ``async with``."""
        from airflow_provider_imagegen.gateways.client import ImageClient

        return ImageClient(self.settings())

    async def aget_conn(self) -> ImageClient:
        """Return a client for the connection, to be opened with ``async with``; for event loops."""
        from airflow_provider_imagegen.gateways.client import ImageClient

        return ImageClient(self._settings or await self.asettings())

    def _blocking(self) -> Self:
        """Return a copy of the hook that has read its connection, for a blocking method to run."""
        # Not in the method's own loop: the task's channel to Airflow holds an asyncio.Lock, which serves one loop in
        # the life of a process, and every blocking call has a new one.
        hook = copy(self)
        hook._settings = self.settings()
        return hook

    def generate(self, *, timeout: float = 1800.0, poll_interval: float = 5.0, **parameters: Any) -> list[ImageOutput]:
        """Generate images and wait for them; each needed call is paid once.

        .. code-block:: python

            @task
            def draw() -> list[str]:
                outputs = ImageGenHook().generate(prompt="an otter", model="gpt-image-1", n=2)
                return [output.url for output in outputs]

        :param timeout: Seconds to wait at most, where the gateway answers with a task.
        :param poll_interval: Seconds between lookups.
        :param parameters: Those of :class:`~airflow_provider_imagegen.schemas.ImageRequest`.
        :return: The images, as addresses (``url``) or in memory (``content``), as the gateway hands them out.
        :raises InvalidRequest: Before anything is sent, if a parameter is wrong.
        :raises GatewayError: As the gateway answers; images of calls that went well are then lost to you.
        """
        return asyncio.run(self._blocking().agenerate(timeout=timeout, poll_interval=poll_interval, **parameters))

    async def agenerate(
        self, *, timeout: float = 1800.0, poll_interval: float = 5.0, **parameters: Any
    ) -> list[ImageOutput]:
        """Generate images and wait for them; for event loops. See :meth:`generate`."""
        return await self._generate(_request(parameters), timeout, poll_interval)

    def edit(
        self,
        *,
        images: Sequence[str | bytes],
        mask: str | bytes | None = None,
        aws_conn_id: str | None = "aws_default",
        timeout: float = 1800.0,
        poll_interval: float = 5.0,
        **parameters: Any,
    ) -> list[ImageOutput]:
        """Edit images and wait for the results; each needed call is paid once.

        :param images: 1–16 images: ``https://`` addresses, or ``s3://bucket/key`` and bytes; not both kinds.
        :param mask: A png whose transparent areas are to be changed, given as ``images`` are.
        :param aws_conn_id: Connection to read ``s3://`` images through.
        :param timeout: Seconds to wait at most, where the gateway answers with a task.
        :param poll_interval: Seconds between lookups.
        :param parameters: Those of :class:`~airflow_provider_imagegen.schemas.EditRequest`.
        :return: The images, as :meth:`generate` returns them.
        :raises InvalidRequest: Before anything is sent, if an image or a parameter is wrong.
        """
        given = parameters | {"images": images, "mask": mask, "aws_conn_id": aws_conn_id}
        return asyncio.run(self._blocking().aedit(timeout=timeout, poll_interval=poll_interval, **given))

    async def aedit(
        self,
        *,
        images: Sequence[str | bytes],
        mask: str | bytes | None = None,
        aws_conn_id: str | None = "aws_default",
        timeout: float = 1800.0,
        poll_interval: float = 5.0,
        **parameters: Any,
    ) -> list[ImageOutput]:
        """Edit images and wait for the results; for event loops. See :meth:`edit`."""
        request = await asyncio.to_thread(_edit_request, images, mask, aws_conn_id, parameters)
        return await self._generate(request, timeout, poll_interval)

    async def _generate(self, request: ImageRequest, timeout: float, poll_interval: float) -> list[ImageOutput]:
        from airflow_provider_imagegen.engine import direct

        async with await self.aget_conn() as client:
            tasks = await direct.generate(client, request, timeout=timeout, poll_interval=poll_interval)
            return [output for task in tasks for output in _in_memory(task).outputs]

    def submit(self, **parameters: Any) -> ImageTask:
        """Send one paid call, once.

        :param parameters: Those of :class:`~airflow_provider_imagegen.schemas.ImageRequest`.
        :return: The task to look up later, or the finished one where the gateway answers at once.
        :raises InvalidRequest: Before anything is sent, if a parameter is wrong.
        :raises GatewayError: As the gateway answers.
        """
        return asyncio.run(self._blocking().asubmit(**parameters))

    async def asubmit(self, **parameters: Any) -> ImageTask:
        """Send one paid call, once; for event loops. See :meth:`submit`."""
        from airflow_provider_imagegen.engine import direct

        request = _request(parameters)
        async with await self.aget_conn() as client:
            return _in_memory(await direct.submit(client, request))

    def get_task(self, task_id: str) -> ImageTask:
        """Look up one task; free.

        :param task_id: The gateway's id.
        :raises LookUpFailed: If no usable response came back.
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
        return asyncio.run(self._blocking().aget_tasks(task_ids))

    async def aget_tasks(self, task_ids: Sequence[str]) -> dict[str, ImageTask]:
        """Look up many tasks; for event loops. See :meth:`get_tasks`."""
        async with await self.aget_conn() as client:
            return {task_id: _in_memory(task) for task_id, task in (await client.look_up(task_ids)).items()}

    def wait(self, task_id: str, *, timeout: float = 1800.0, poll_interval: float = 5.0) -> ImageTask:
        """Look a task up until it is done.

        :param task_id: The gateway's id.
        :param timeout: Seconds to wait at most.
        :param poll_interval: Seconds between lookups.
        :return: The task, ``succeeded`` or ``failed``.
        :raises TaskTimeout: If it is still running after ``timeout``.
        """
        return asyncio.run(self._blocking().await_task(task_id, timeout=timeout, poll_interval=poll_interval))

    async def await_task(self, task_id: str, *, timeout: float = 1800.0, poll_interval: float = 5.0) -> ImageTask:
        """Look a task up until it is done; for event loops. See :meth:`wait`."""
        from airflow_provider_imagegen.polling import PollSchedule, shared_poller

        client = await self.aget_conn()
        now = time.time()
        schedule = PollSchedule(interval=poll_interval)
        async with shared_poller(client.settings) as poller:
            seen = await poller.wait([task_id], until=now + timeout, submitted_at=now, schedule=schedule)
            task = _in_memory(seen.tasks[task_id])
        if not task.is_terminal:
            words = f"the task is not done after {timeout:g} s"
            raise TaskTimeout(words, gateway=client.gateway.name, task_id=task_id)
        return task

    def test_connection(self) -> tuple[bool, str]:
        """Prove base URL and token with a free lookup; behind the form's *Test* button."""
        try:
            asyncio.run(self._blocking()._probe())
        except LookUpFailed as error:
            return False, f"{error.message}. Check host, port and proxy; a test costs nothing."
        except ImageGenError as error:
            return False, str(error)
        return True, "The gateway answers and accepts the token."

    async def _probe(self) -> None:
        async with await self.aget_conn() as client:
            await client.probe()

    def _read(self, connection: Connection, extra: dict[str, Any]) -> GatewaySettings:
        from airflow_provider_imagegen.gateways.client import tls_context
        from airflow_provider_imagegen.gateways.environment import proxy_to
        from airflow_provider_imagegen.gateways.settings import GatewaySettings

        settings = GatewaySettings.from_fields(
            name=f"connection {self.imagegen_conn_id!r}",
            host=connection.host,
            scheme=connection.schema,
            port=connection.port,
            token=connection.password,
            extra=extra,
        )
        # What no client can be opened with is refused here, before anything is claimed.
        tls_context(settings.verify)
        proxy_to(settings.base_url, settings)
        return settings

    def _no_connection(self) -> ConfigurationError:
        advice = "Create it: type imagegen, host, password."
        return ConfigurationError(f"there is no connection {self.imagegen_conn_id!r}", advice=advice)


def _request(parameters: dict[str, Any]) -> ImageRequest:
    from airflow_provider_imagegen.schemas import ImageRequest

    return ImageRequest.checked(parameters)


def _edit_request(
    images: Sequence[str | bytes], mask: str | bytes | None, aws_conn_id: str | None, parameters: dict[str, Any]
) -> EditRequest:
    from airflow_provider_imagegen.engine.sources import read_sources
    from airflow_provider_imagegen.schemas import EditRequest

    def read_object(bucket: str, key: str) -> bytes:
        from airflow_provider_imagegen.hooks.aws import s3_client
        from airflow_provider_imagegen.storage import objects

        return objects.read_object(s3_client(aws_conn_id), bucket, key)

    sources = read_sources(images, "images", None, read_object)
    masks = read_sources([mask], "mask", None, read_object) if mask else (None,)
    return EditRequest.checked({**parameters, "images": sources, "mask": masks[0]})


def _in_memory(task: ImageTask) -> ImageTask:
    # The files are the client's, and go with it.
    outputs = tuple(
        output.model_copy(update={"file": None, "content": output.file.read_bytes()}) if output.file else output
        for output in task.outputs
    )
    return task.model_copy(update={"outputs": outputs, "previews": ()})
