"""Brings the outputs of one task to S3, each on its own, as stubbornly as the gateway's memory demands.

The job calls :meth:`Delivery.deliver` once it knows that a task has succeeded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_provider_imagegen import metrics
from airflow_provider_imagegen.engine.outcome import Outcome, Refused, differences, priced, shortfall
from airflow_provider_imagegen.exceptions import (
    GatewayError,
    ImageGenError,
    LandingError,
    NotAnImage,
    ObjectExists,
    ResultExpired,
    ResultHostRefused,
)
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.money import Cost
from airflow_provider_imagegen.schemas import ImageOutput, ImageRequest, ImageTask, LandedImage

log = logging.getLogger(__name__)

STUBBORNNESS = 120.0
"""Seconds for which an image is landed again and again that the gateway keeps no copy of."""


class Delivery:
    """The way of one request's images to S3.

    :param request: What was asked for.
    :param client: An opened client, to ask for addresses again.
    :param landing: An opened landing.
    :param name_of: File name of an image, without extension, by its position among the images asked for.
    :param with_previews: Whether to land streamed previews too.
    """

    def __init__(
        self,
        request: ImageRequest,
        client: ImageClient,
        landing: Landing,
        *,
        name_of: Callable[[int], str],
        with_previews: bool,
    ) -> None:
        self._request = request
        self._client = client
        self._landing = landing
        self._name_of = name_of
        self._with_previews = with_previews

    async def deliver(self, task: ImageTask, first_index: int, count: int) -> Outcome:
        """Land every output on its own, so that one fault does not cost the others."""
        indices = [
            # What came beyond what was asked for is landed behind everything that was.
            first_index + position if position < count else self._request.n * (position - count + 1) + first_index
            for position in range(len(task.outputs))
        ]
        pairs = zip(indices, task.outputs, strict=True)
        results = await asyncio.gather(*(self._land_output(output, index, task) for index, output in pairs))
        if self._with_previews:
            await self._land_previews(task, first_index)
        await asyncio.to_thread(_remove_files, task)
        refused = tuple(result for result in results if isinstance(result, Refused))
        landed = {position: image for position, image in enumerate(results) if isinstance(image, LandedImage)}
        made, usage = len(task.outputs), task.usage or {}
        cost = self._client.settings.price_list.cost(self._request, made, usage, task.reported)
        return Outcome(
            images=tuple(priced(landed, made, usage, Cost.of(cost))),
            billed=made,
            usage=usage,
            cost=Cost.of(cost),
            errors=(*refused, *shortfall(first_index, count, made)),
        )

    async def _land_previews(self, task: ImageTask, index: int) -> None:
        try:
            await self._landing.land_previews(task, index, self._name_of(index))
        except ImageGenError as error:
            log.warning("A preview of image %d: %s", index, error)

    async def _land_output(self, output: ImageOutput, index: int, task: ImageTask) -> LandedImage | Refused:
        started = time.monotonic()
        try:
            if self._client.gateway.capabilities.tasks:
                image = await self._land_fresh(output, index, task)
            else:
                image = await self._land_stubbornly(output, index, task)
        except ImageGenError as error:
            log.warning("Image %d: %s", index, error)
            metrics.count("failed")
            return Refused(index, 1, error)
        except Exception as error:
            # What strangers send must not cost the siblings, whatever it is that it triggers.
            log.exception("Image %d could not be landed", index)
            metrics.count("failed")
            words = f"the image could not be landed: {type(error).__name__}"
            return Refused(index, 1, LandingError(words, task_id=task.task_id, trace_id=task.trace_id))
        metrics.count("landed")
        metrics.took("landing", time.monotonic() - started)
        image = image.model_copy(update={"differs": differences(self._request, image)})
        size = f"{image.bytes} bytes, {image.width}x{image.height} {image.content_type}"
        log.info("Landed image %d: %s, %s", image.index, image.uri, size)
        return image

    async def _land_fresh(self, output: ImageOutput, index: int, task: ImageTask) -> LandedImage:
        """Land an output; if its address has expired, look the task up once more: lookups sign addresses again."""
        try:
            return await self._landing.land(output, index, task, self._name_of(index))
        except ResultExpired as error:
            if task.task_id is None:
                raise
            log.warning("Image %d: %s; asking the gateway for a new address", index, error.message)
            position = task.outputs.index(output)
            fresh = await self._looked_up_again(task.task_id)
            if position >= len(fresh):
                raise
            return await self._landing.land(fresh[position], index, task, self._name_of(index))

    async def _land_stubbornly(self, output: ImageOutput, index: int, task: ImageTask) -> LandedImage:
        """Land an output that nobody keeps for us: again and again, as long as there may be hope."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, LandingError) and not _is_hopeless(error, output)),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            stop=stop_after_delay(STUBBORNNESS),
            reraise=True,
        )
        try:
            return await retrying(self._landing.land, output, index, task, self._name_of(index))
        except LandingError as error:
            error.advice = "The gateway keeps no copy; on_unknown='resubmit' pays for a new image once this is mended."
            raise

    async def _looked_up_again(self, task_id: str) -> tuple[ImageOutput, ...]:
        try:
            return (await self._client.look_up([task_id]))[task_id].outputs
        except GatewayError as error:
            log.warning("The lookup failed: %s", error)
            return ()


def _is_hopeless(error: LandingError, output: ImageOutput) -> bool:
    """Return whether another attempt meets the same again: an image that came with the response does not change."""
    is_what_it_is = isinstance(error, NotAnImage) and output.url is None
    return is_what_it_is or isinstance(error, ObjectExists | ResultHostRefused)


def _remove_files(task: ImageTask) -> None:
    """Remove images that came inside responses: a batch of thousands would fill the disk while its client is open."""
    for output in (*task.outputs, *task.previews):
        if output.file is not None:
            output.file.unlink(missing_ok=True)
