"""The batch operator: many prompts in a DAG become images in S3, their rows in a file, and a summary in XCom.

Imported at every DAG parse, so nothing heavy is imported here before a task runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.operators.arguments import check_choice, mask_queries
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_imagegen.engine.batch.progress import Counts
    from airflow_provider_imagegen.engine.run import TaskRun

log = logging.getLogger(__name__)

PROGRESS = "progress"
"""XCom key under which a running batch shows how far it is."""
SECONDS_BETWEEN_PUSHES = 15.0


class GenerateImageBatchOperator(GenerateImageOperator):
    """Generate images from many prompts and land them in S3, in one Airflow task.

    Submits within a number of slots, waits and lands side by side in one worker slot, and defers on what is open once
    everything is submitted, or while no slot becomes free. Every row lands or fails alone. Objects are called
    ``<s3_key>/<key>.<ext>``, or ``<s3_key>/<key>-<index>.<ext>`` where a row asks for several;
    ``<s3_key>/manifest.jsonl`` has a line for every row
    (see :class:`~airflow_provider_imagegen.engine.batch.results.RowResult`), and the task returns a summary
    (see :class:`~airflow_provider_imagegen.schemas.batch.BatchSummary`). A retry does only what is missing.

    All parameters of :class:`GenerateImageOperator` are taken too; those that say what to generate are the defaults
    of all rows.

    :param requests: A list of prompts, or of dicts with the fields of
        :class:`~airflow_provider_imagegen.schemas.ImageRequest` and ``key``, which names the row's objects; or the
        address of such a list: ``s3://…/rows.jsonl``, ``s3://…/rows.csv``. (templated)
    :param prompt: Prompt of the rows that have none. (templated)
    :param max_in_flight: Requests to have running at the gateway at once; by default the connection's.
    :param requests_per_minute: Paid calls in a minute at most, evenly spread; by default there is no such limit.
    :param on_invalid: Where rows are wrong: ``fail`` before anything is paid, or ``skip`` them.
    :param on_partial: ``fail`` or ``accept`` fewer images than asked for, in a row and in the batch.
    :param on_moderation: ``fail``, or ``skip`` rows that the gateway's content policy refuses; the task itself
        is skipped if nothing else is left.
    :param poll_interval: Seconds between lookups at most, each of which is for all rows.
    :param timeout: Seconds, or a timedelta, from the beginning to the deadline of the whole batch.
    """

    template_fields: Sequence[str] = (*GenerateImageOperator.template_fields, "requests")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **GenerateImageOperator.template_fields_renderers,
        "requests": "json",
    }

    def __init__(
        self,
        *,
        requests: Sequence[str | dict[str, Any]] | str | XComArg,
        prompt: str = "",
        max_in_flight: int | None = None,
        requests_per_minute: float | None = None,
        on_invalid: Literal["fail", "skip"] = "fail",
        poll_interval: float = 1.0,
        timeout: float | timedelta = timedelta(hours=6),
        **kwargs: Any,
    ) -> None:
        super().__init__(prompt=prompt, poll_interval=poll_interval, timeout=timeout, **kwargs)
        self.requests = requests
        self.max_in_flight = max_in_flight
        self.requests_per_minute = requests_per_minute
        self.on_invalid = check_choice("on_invalid", on_invalid, ("fail", "skip"))
        if max_in_flight is not None and (type(max_in_flight) is not int or max_in_flight < 1):
            raise InvalidRequest("max_in_flight", max_in_flight, "a whole number above 0")
        if requests_per_minute is not None and not 0 < requests_per_minute < float("inf"):
            raise InvalidRequest("requests_per_minute", requests_per_minute, "a number above 0")
        if not self.wait:
            raise InvalidRequest("wait", False, "True: a batch sees its rows through")

    def __setattr__(self, key: str, value: Any) -> None:
        """Mask what is signed in single rows too."""
        if key == "requests" and isinstance(value, list | tuple):
            mask_queries([row.get("extra") for row in value if isinstance(row, dict)])
        super().__setattr__(key, value)

    def _make_run(self, context: Context, is_resuming: bool = False) -> TaskRun:
        from airflow_provider_imagegen.engine.batch.run import BatchRun

        return BatchRun.based_on(
            self._task_run(context),
            requests=self.requests,
            defaults={name: value for name, value in self._asked(context).items() if value not in (None, "")},
            report=_Reporter(context["ti"]).report,
            max_in_flight=self.max_in_flight,
            requests_per_minute=self.requests_per_minute,
            on_invalid=self.on_invalid,
            on_moderation=self.on_moderation,
        )

    def _inputs(self) -> list[str]:
        return [self.requests] if isinstance(self.requests, str) else []


class _Reporter:
    """Reports the progress of a batch: in the log, and now and then as an XCom, which the UI shows while it runs."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti
        self._pushed = float("-inf")

    async def report(self, counts: Counts) -> None:
        """Log the counts; push them if the last push was a while ago."""
        log.info("%s", counts)
        if counts.is_last or time.monotonic() - self._pushed >= SECONDS_BETWEEN_PUSHES:
            self._pushed = time.monotonic()
            # A slow API server must not hold up the loop in which images land.
            await asyncio.to_thread(self._push, counts)

    def _push(self, counts: Counts) -> None:
        value = {name: getattr(counts, name) for name in ("rows", "landed", "failed", "in_flight", "landing")}
        try:
            self._ti.xcom_push(key=PROGRESS, value={"text": str(counts), **value})
        except Exception as error:  # noqa: BLE001 - whatever Airflow's API says to this must not end a batch
            log.warning("The progress could not be shown: %s", error)
