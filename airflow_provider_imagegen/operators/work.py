"""What one task instance has to do, between Airflow's calls: begin, and resume after a deferral.

Imported by the operators when a task runs, never at DAG parse; the heavy imports live here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_imagegen.client import ImageClient
from airflow_provider_imagegen.connection import GatewaySettings
from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.job import ImageJob, OnPartial
from airflow_provider_imagegen.landing import Destination, Landing
from airflow_provider_imagegen.operators.deferral import GRACE
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask, Manifest, Submission
from airflow_provider_imagegen.watcher import PollSchedule

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One request of one task instance, with all it needs.

    :param request: What to draw.
    :param settings: The gateway's connection.
    :param s3: A boto3 S3 client.
    :param destination: Where the images go.
    :param metadata: User metadata of the objects.
    :param poll_interval: Seconds between look-ups.
    :param timeout: Seconds from the submit to the deadline.
    :param deferrable: Whether waiting may be handed to a trigger.
    :param on_partial: Whether fewer images than asked for are an error.
    :param land_previews: Whether to land streamed previews too.
    """

    request: ImageRequest
    settings: GatewaySettings
    s3: S3Client
    destination: Destination
    metadata: Mapping[str, str] = field(default_factory=dict)
    poll_interval: float
    timeout: float
    deferrable: bool
    on_partial: OnPartial
    land_previews: bool = False

    async def begin(self) -> Manifest | Submission:
        """Submit and wait: for a moment if waiting may be handed on, else to the end.

        :return: The manifest, or what to wait for.
        :raises ImageGenError: As the error tree says.
        """
        async with self._job() as (job, landing):
            job.check()
            landing.check()
            self._tell_what_is_asked()
            submission = await job.submit(self.timeout)
            # An image that landed with the answer has no task to look up again: stay until the end.
            may_defer = self.deferrable and not submission.landed
            patience = min(GRACE, self.timeout) if may_defer else self.timeout
            tasks = await job.wait(submission, submission.submitted_at + patience)
            if may_defer and _still_running(tasks):
                return submission
            return await job.land(submission, tasks, self.on_partial)

    async def resume(self, submission: Submission) -> Manifest | Submission:
        """Go on after a deferral, which may have ended early: look up afresh, then land.

        :param submission: What was submitted.
        :return: The manifest, or what is still to be waited for.
        :raises ImageGenError: As the error tree says.
        """
        async with self._job() as (job, _):
            now = time.time()
            tasks = await job.wait(submission, now)
            if _still_running(tasks) and now < submission.deadline:
                return submission
            return await job.land(submission, tasks, self.on_partial)

    @asynccontextmanager
    async def _job(self) -> AsyncIterator[tuple[ImageJob, Landing]]:
        schedule = PollSchedule(interval=self.poll_interval)
        async with (
            ImageClient(self.settings) as client,
            Landing(self.s3, self.destination, self.settings, self.metadata) as landing,
        ):
            yield ImageJob(self.request, client, landing, schedule=schedule, land_previews=self.land_previews), landing

    def _tell_what_is_asked(self) -> None:
        log.info(
            "Validated: %d image(s) by %s at %s, to %s; prompt: %s",
            self.request.n,
            self.request.model or "the gateway's usual model",
            self.settings.host,
            self.destination.uri(self.destination.prefix),
            self.request.shown_prompt(),
        )


def parse_destination(s3_bucket: str | None, s3_key: str, *, encrypt: bool, acl_policy: str | None) -> Destination:
    """Read bucket and key prefix as a user wrote them.

    :param s3_bucket: The bucket, or ``None`` if ``s3_key`` is an ``s3://`` URL.
    :param s3_key: A key prefix, or ``s3://bucket/prefix``.
    :raises InvalidRequest: If there is no bucket, or there are two different ones.
    """
    prefix = s3_key
    if s3_key.startswith("s3://"):
        bucket, _, prefix = s3_key.removeprefix("s3://").partition("/")
        if s3_bucket and s3_bucket != bucket:
            raise InvalidRequest("s3_bucket", s3_bucket, f"the bucket of s3_key, {bucket!r}, or nothing")
    else:
        bucket = s3_bucket or ""
    if not bucket:
        raise InvalidRequest("s3_bucket", s3_bucket, "a bucket's name, unless s3_key is s3://bucket/prefix")
    return Destination(bucket=bucket, prefix=prefix.strip("/"), encrypt=encrypt, acl_policy=acl_policy)


def _still_running(tasks: Mapping[str, ImageTask]) -> bool:
    return any(not task.is_terminal for task in tasks.values())
