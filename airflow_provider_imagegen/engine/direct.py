"""Generation without a bucket: requests out, finished tasks back, nothing landed and no ledger.

For the hook's ``submit``, ``generate`` and ``edit``; the operators use
:class:`~airflow_provider_imagegen.engine.job.ImageJob`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence

from airflow_provider_imagegen.engine.outcome import task_error
from airflow_provider_imagegen.engine.plan import check, split
from airflow_provider_imagegen.exceptions import ImageGenError, TaskTimeout
from airflow_provider_imagegen.gateways.client import SUBMIT_TIME, ImageClient
from airflow_provider_imagegen.polling import PollSchedule, TaskPoller
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask


async def submit(client: ImageClient, request: ImageRequest, within: float = SUBMIT_TIME) -> ImageTask:
    """Send one paid call, once; its response must be whole within so many seconds."""
    check(request, client.gateway)
    # No later process will look for it, so the trace id need not be derived from anything.
    return await client.submit(request, str(uuid.uuid4()), within)


async def generate(
    client: ImageClient, request: ImageRequest, *, timeout: float, poll_interval: float
) -> list[ImageTask]:
    """Send every call a request needs, side by side, each once, and wait until each is done.

    :param timeout: Seconds to wait at most.
    :raises ImageGenError: The first thing that went wrong; it says ``billed: yes`` if any call was paid for.
    """
    check(request, client.gateway)
    started = time.time()
    slots = asyncio.Semaphore(client.settings.max_in_flight)

    async def send(part: ImageRequest) -> ImageTask | ImageGenError:
        try:
            async with slots:
                left = started + timeout - time.time()
                if left <= 0:
                    raise TaskTimeout("the deadline passed before it was sent", billed="no")
                return await submit(client, part, left)
        except ImageGenError as error:
            # Returned, not raised: gather() would cancel the siblings, and their bills would be unknown.
            return error

    results = await asyncio.gather(*(send(part) for _, part in split(request, client.gateway)))
    tasks = [result for result in results if isinstance(result, ImageTask)]
    errors = [result for result in results if isinstance(result, ImageGenError)]
    if errors:
        raise _with_siblings(errors[0], tasks)
    poller = TaskPoller(client, PollSchedule(interval=poll_interval))
    open_ids = [task.task_id for task in tasks if task.task_id and not task.is_terminal]
    seen = await poller.wait(open_ids, until=started + timeout, submitted_at=started)
    finished = [seen.tasks.get(task.task_id or "", task) for task in tasks]
    for task in finished:
        if error := task_error(task, client.gateway.name, seen.last_fault):
            raise _with_siblings(error, [other for other in finished if other.state == "succeeded"])
    return finished


def _with_siblings(error: ImageGenError, siblings: Sequence[ImageTask]) -> ImageGenError:
    """Say what calls beside the failed one cost: a repetition would pay for them again."""
    if siblings:
        ids = ", ".join(task.task_id or task.trace_id or "?" for task in siblings)
        error.billed = "yes"
        error.advice = f"{len(siblings)} other call(s) of this request were accepted and are billed: {ids}"
    return error
