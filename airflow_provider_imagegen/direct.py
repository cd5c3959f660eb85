"""Generation without a destination: calls out, tasks back, nothing landed and nothing noted.

Behind the hook's ``generate`` and ``edit``; the operators use the job instead.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence

from airflow_provider_imagegen.client import ImageClient
from airflow_provider_imagegen.exceptions import ImageGenError
from airflow_provider_imagegen.planning import Call, plan
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask
from airflow_provider_imagegen.verdict import verdict
from airflow_provider_imagegen.watcher import PollSchedule, TaskWatcher


async def generate(
    client: ImageClient, request: ImageRequest, *, timeout: float, poll_interval: float
) -> list[ImageTask]:
    """Send every call a request needs, side by side, each once, and wait until each is done.

    :param client: An opened client.
    :param request: What to draw, and how many.
    :param timeout: Seconds to wait at most.
    :param poll_interval: Seconds between look-ups.
    :return: The finished tasks, in order.
    :raises ImageGenError: The first thing that went wrong; it says ``billed: yes`` if any call was paid for.
    """
    started = time.time()
    places = asyncio.Semaphore(client.settings.max_in_flight)

    async def send(call: Call) -> ImageTask | ImageGenError:
        try:
            async with places:
                return await client.submit(call.request, str(uuid.uuid4()))
        except ImageGenError as error:
            return error

    answers = await asyncio.gather(*(send(call) for call in plan(request, client.gateway)))
    tasks = [answer for answer in answers if isinstance(answer, ImageTask)]
    errors = [answer for answer in answers if isinstance(answer, ImageGenError)]
    if errors:
        raise _with_siblings(errors[0], tasks)
    watcher = TaskWatcher(client, PollSchedule(interval=poll_interval))
    open_ids = [task.task_id for task in tasks if task.task_id and not task.is_terminal]
    seen = await watcher.wait(open_ids, until=started + timeout, submitted_at=started)
    finished = [seen.tasks.get(task.task_id or "", task) for task in tasks]
    for task in finished:
        if error := verdict(task, client.gateway.name, seen.last_fault):
            raise _with_siblings(error, [other for other in finished if other.state == "succeeded"])
    return finished


def _with_siblings(error: ImageGenError, siblings: Sequence[ImageTask]) -> ImageGenError:
    """Say what calls beside the failed one cost: a repetition would pay for them again."""
    if siblings:
        ids = ", ".join(task.task_id or task.trace_id or "?" for task in siblings)
        error.billed = "yes"
        error.advice = f"{len(siblings)} other call(s) of this request were accepted and are billed: {ids}"
    return error
