"""The engine: plan, submit, watch, land, manifest. Knows gateways and S3, but nothing of Airflow.

Operators drive it step by step, because a deferral may come between watching and landing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from airflow_provider_imagegen import catalog
from airflow_provider_imagegen.client import ImageClient
from airflow_provider_imagegen.exceptions import (
    GenerationFailed,
    ImageGenError,
    ModerationBlocked,
    PartialDelivery,
    TaskTimeout,
    UnknownTask,
)
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.schemas import (
    EditRequest,
    ImageOutput,
    ImageRequest,
    ImageTask,
    LandedImage,
    Manifest,
    MissingImage,
    OpenTask,
    Submission,
)
from airflow_provider_imagegen.sources import check_sources
from airflow_provider_imagegen.watcher import PollSchedule, TaskWatcher

log = logging.getLogger(__name__)

OnPartial = Literal["fail", "accept"]

_MODERATION_CODES = frozenset({"moderation_blocked", "content_policy_violation"})


@dataclass(frozen=True)
class Call:
    """One call to the gateway.

    :param index: Position of its first image among the images asked for.
    :param request: What the call says; its ``n`` is what one call can make.
    """

    index: int
    request: ImageRequest


def plan(request: ImageRequest, gateway: Gateway) -> tuple[Call, ...]:
    """Split a request into calls that the gateway honours in full."""
    step = gateway.images_per_call(request)
    return tuple(Call(index, _with_count(request, min(step, request.n - index))) for index in range(0, request.n, step))


def fingerprint(request: ImageRequest, gateway: Gateway) -> str:
    """Return the SHA-256 of everything that decides what the picture is."""
    url = gateway.edit_url if isinstance(request, EditRequest) else gateway.submit_url
    identity = {"gateway": gateway.name, "url": url, "parameters": request.asked()}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def check(request: ImageRequest, gateway: Gateway) -> None:
    """Refuse what model or gateway are known not to do, before anything is paid.

    :raises InvalidRequest: Naming field, value, and what is allowed.
    """
    catalog.check(request)
    if isinstance(request, EditRequest):
        check_sources(request)
    gateway.check(request)


async def generate(
    client: ImageClient, request: ImageRequest, *, timeout: float, poll_interval: float
) -> list[ImageTask]:
    """Send every call a request needs, side by side, and wait until each is done; nothing is landed.

    :param client: An opened client.
    :param request: What to draw, and how many.
    :param timeout: Seconds to wait at most.
    :param poll_interval: Seconds between look-ups.
    :return: The finished tasks, in order.
    :raises ImageGenError: The first thing that went wrong.
    """
    started = time.time()
    places = asyncio.Semaphore(client.settings.max_in_flight)

    async def send(call: Call) -> ImageTask:
        async with places:
            return await client.submit(call.request, str(uuid.uuid4()))

    tasks = await asyncio.gather(*(send(call) for call in plan(request, client.gateway)))
    open_ids = [task.task_id for task in tasks if task.task_id and not task.is_terminal]
    watcher = TaskWatcher(client, PollSchedule(interval=poll_interval))
    seen = await watcher.wait(open_ids, until=started + timeout, submitted_at=started)
    finished = [seen.get(task.task_id or "", task) for task in tasks]
    for task in finished:
        if error := _verdict(task, client.gateway.name):
            raise error
    return finished


class ImageJob:
    """One request on its way from a gateway into a bucket.

    :param request: What to draw, and how many.
    :param client: An opened client.
    :param landing: An opened landing.
    :param schedule: When to look.
    :param land_previews: Whether to land streamed previews beside the images.
    :param clock: Wall clock, in unix seconds.
    """

    def __init__(
        self,
        request: ImageRequest,
        client: ImageClient,
        landing: Landing,
        *,
        schedule: PollSchedule,
        land_previews: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._request = request
        self._client = client
        self._landing = landing
        self._land_previews = land_previews
        self._watcher = TaskWatcher(client, schedule, clock)
        self._clock = clock

    def check(self) -> None:
        """Refuse what is known to be wrong, as :func:`check` does."""
        check(self._request, self._client.gateway)

    async def submit(self, timeout: float) -> Submission:
        """Send every call, side by side, each once; land what comes back at once without a task.

        :param timeout: Seconds from now to the deadline of the whole job.
        :raises ImageGenError: The first refusal, if every call was refused.
        """
        started = self._clock()
        places = asyncio.Semaphore(self._client.settings.max_in_flight)
        calls = plan(self._request, self._client.gateway)
        results = await asyncio.gather(*(self._submit_call(call, places) for call in calls))
        finished = [result for result in results if isinstance(result, _Landed)]
        errors = [error for result in finished for error in result.errors]
        if errors and not any(isinstance(result, OpenTask) or result.images for result in results):
            raise errors[0].error
        return Submission(
            submitted_at=started,
            deadline=started + timeout,
            open=tuple(result for result in results if isinstance(result, OpenTask)),
            landed=tuple(image for result in finished for image in result.images),
            failures=tuple(missing for error in errors for missing in error.missing),
            billed=sum(len(result.task.outputs) for result in finished if result.task),
            usage=_total_usage(result.task for result in finished),
        )

    async def wait(self, submission: Submission, until: float) -> dict[str, ImageTask]:
        """Look up the open tasks until all are done or the time is over.

        :param submission: What was submitted.
        :param until: Unix seconds.
        :return: The last that was seen of every open task.
        """
        return await self._watcher.wait(submission.task_ids, until=until, submitted_at=submission.submitted_at)

    async def land(self, submission: Submission, tasks: dict[str, ImageTask], on_partial: OnPartial) -> Manifest:
        """Bring everything that was generated to S3, and write the manifest beside it.

        :param submission: What was submitted.
        :param tasks: What was last seen of the open tasks.
        :param on_partial: Whether fewer images than asked for are an error.
        :raises ImageGenError: If nothing landed: the first thing that went wrong.
        :raises PartialDelivery: If something is missing and ``on_partial`` is ``fail``.
        """
        seen = [tasks[open_task.task_id] for open_task in submission.open]
        log.info("Finished after %.0f s: %s", self._clock() - submission.submitted_at, _tally(seen))
        results = await asyncio.gather(*(self._land_task(*pair) for pair in zip(submission.open, seen, strict=True)))
        errors = [error for result in results for error in result.errors]
        manifest = await self._write_manifest(submission, results)
        if errors and not manifest.images:
            raise errors[0].error
        if manifest.delivered < manifest.requested and on_partial == "fail":
            raise _partial(manifest)
        return manifest

    async def _submit_call(self, call: Call, places: asyncio.Semaphore) -> OpenTask | _Landed:
        try:
            async with places:
                task = await self._client.submit(call.request, str(uuid.uuid4()))
        except ImageGenError as error:
            log.warning("Image %d: %s", call.index, error)
            return _Landed(None, (), (_Refused(call.index, call.request.n, error),))
        if task.task_id is None:
            return await self._land_outputs(task, call.index, call.request.n)
        log.info("Submitted image %d: task %s (trace %s)", call.index, task.task_id, task.trace_id)
        return OpenTask(index=call.index, count=call.request.n, task_id=task.task_id, trace_id=task.trace_id)

    async def _land_task(self, open_task: OpenTask, task: ImageTask) -> _Landed:
        error = _verdict(task, self._client.gateway.name)
        if error is not None:
            return _Landed(task, (), (_Refused(open_task.index, open_task.count, error),))
        return await self._land_outputs(task, open_task.index, open_task.count)

    async def _land_outputs(self, task: ImageTask, first_index: int, count: int) -> _Landed:
        """Land every output on its own, so that one fault does not cost the others."""
        indices = [
            # What came beyond what was asked for is landed behind everything that was.
            first_index + position if position < count else self._request.n * (position - count + 1) + first_index
            for position in range(len(task.outputs))
        ]
        pairs = zip(indices, task.outputs, strict=True)
        results = await asyncio.gather(*(self._land_output(output, index, task) for index, output in pairs))
        if self._land_previews:
            await self._landing.land_previews(task, first_index)
        refused = [result for result in results if isinstance(result, _Refused)]
        if (shortfall := count - len(task.outputs)) > 0:
            fewer = GenerationFailed("the gateway made fewer images than asked", code="fewer_images")
            refused.append(_Refused(first_index + len(task.outputs), shortfall, fewer))
        return _Landed(task, tuple(image for image in results if isinstance(image, LandedImage)), tuple(refused))

    async def _land_output(self, output: ImageOutput, index: int, task: ImageTask) -> LandedImage | _Refused:
        try:
            image = await self._landing.land(output, index, task)
        except ImageGenError as error:
            log.warning("Image %d: %s", index, error)
            return _Refused(index, 1, error)
        log.info(
            "Landed image %d: %s, %d bytes, %dx%d %s",
            image.index,
            image.uri,
            image.bytes,
            image.width,
            image.height,
            image.content_type,
        )
        return image

    async def _write_manifest(self, submission: Submission, results: Sequence[_Landed]) -> Manifest:
        images = [*submission.landed, *(image for result in results for image in result.images)]
        refused = [error for result in results for error in result.errors]
        destination = self._landing.destination
        manifest = Manifest(
            gateway=self._client.gateway.name,
            model=self._request.model,
            requested=self._request.n,
            delivered=len(images),
            billed=submission.billed + sum(len(result.task.outputs) for result in results if result.task),
            reused=0,
            images=tuple(sorted(images, key=lambda image: image.index)),
            failures=(*submission.failures, *(missing for error in refused for missing in error.missing)),
            usage=dict(Counter(submission.usage) + Counter(_total_usage(result.task for result in results))),
            fingerprint=fingerprint(self._request, self._client.gateway),
            created_at=datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds"),
            elapsed=round(self._clock() - submission.submitted_at, 3),
            manifest_uri=destination.uri(destination.key("manifest.json")),
        )
        await self._landing.put_document("manifest.json", manifest.model_dump_json(indent=2).encode())
        return manifest


@dataclass(frozen=True)
class _Refused:
    """A call, or its result, that came to nothing."""

    index: int
    count: int
    error: ImageGenError

    @property
    def missing(self) -> tuple[MissingImage, ...]:
        indices = range(self.index, self.index + self.count)
        return tuple(MissingImage.because_of(self.error, index) for index in indices)


@dataclass(frozen=True)
class _Landed:
    """What became of one call: its images, and why some or all are missing.

    :param task: What the gateway answered; ``None`` if it refused the call.
    """

    task: ImageTask | None
    images: tuple[LandedImage, ...]
    errors: tuple[_Refused, ...]


def _with_count(request: ImageRequest, count: int) -> ImageRequest:
    """Return the request for ``count`` images, naming ``n`` only where the user did or must."""
    if count == request.n:
        return request
    fields = {name: getattr(request, name) for name in request.model_fields_set - {"n"}}
    return ImageRequest(**fields, n=count) if count > 1 else ImageRequest(**fields)


def _verdict(task: ImageTask, gateway: str) -> ImageGenError | None:
    """Return what is wrong with a task at the end of waiting, or ``None`` if it succeeded."""
    error = _end_of(task)
    if error is not None:
        error.gateway, error.task_id, error.trace_id = gateway, task.task_id, task.trace_id
    return error


def _end_of(task: ImageTask) -> ImageGenError | None:
    if task.state == "succeeded":
        return None
    if task.failure is not None:
        kind = ModerationBlocked if task.failure.code in _MODERATION_CODES else GenerationFailed
        return kind(f"the gateway gave up: {task.failure.message}", code=task.failure.code)
    if task.state == "unseen":
        return UnknownTask("the gateway shows no such task")
    return TaskTimeout("the deadline passed and the gateway was still drawing")


def _total_usage(tasks: Iterable[ImageTask | None]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for task in tasks:
        usage = task.usage if task and task.usage else {}
        total.update({name: count for name, count in usage.items() if type(count) is int})
    return dict(total)


def _tally(tasks: Sequence[ImageTask]) -> str:
    counts = Counter(task.state for task in tasks)
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing open"


def _partial(manifest: Manifest) -> PartialDelivery:
    reasons = "; ".join(f"image {missing.index}: {missing.message}" for missing in manifest.failures)
    return PartialDelivery(
        f"{manifest.delivered} of {manifest.requested} images landed ({reasons or 'the gateway made fewer'})",
        gateway=manifest.gateway,
    )
