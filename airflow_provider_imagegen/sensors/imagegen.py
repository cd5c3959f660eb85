"""The sensor that waits for tasks at the gateway that somebody else submitted; it neither pays nor lands.

Imported at every DAG parse, so nothing heavy is imported here before a task runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_imagegen.exceptions import FailedElsewhere, InvalidRequest, LookUpFailed, RateLimited, UnknownTask
from airflow_provider_imagegen.operators.deferral import SAFETY_NET, deferrable_by_default, minimum_deferral

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_imagegen.gateways.client import ImageClient
    from airflow_provider_imagegen.schemas import ImageTask

log = logging.getLogger(__name__)


class ImageTaskSensor(BaseSensorOperator):
    """Wait until tasks at the gateway are done that were submitted elsewhere.

    Returns their states at the gateway, without addresses: ``gateway``, ``task_ids``, ``images`` (their number),
    and in ``tasks`` for each its ``task_id``, ``trace_id``, ``state`` and number of ``images``. To have the images
    themselves, pass the same ids to :class:`~airflow_provider_imagegen.operators.landing.LandImagesOperator`.

    A task that failed at the gateway fails the sensor, without retries, once all of them are over; a lookup that
    fails does not. ``timeout``, ``mode``, ``soft_fail`` and the like are those of every sensor.

    :param task_ids: The gateway's id, or several. (templated)
    :param imagegen_conn_id: Connection to the gateway. (templated)
    :param deferrable: Whether to wait in the triggerer; by default it is, unless ``mode`` is given or
        ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` is false.
    :param poke_interval: Seconds, or a timedelta, between lookups.
    """

    template_fields: Sequence[str] = ("task_ids", "imagegen_conn_id")
    ui_color = "#f3e8ff"

    def __init__(
        self,
        *,
        task_ids: str | Sequence[str] | XComArg,
        imagegen_conn_id: str = "imagegen_default",
        deferrable: bool | None = None,
        poke_interval: float | timedelta = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.task_ids = task_ids
        self.imagegen_conn_id = imagegen_conn_id
        self.deferrable = deferrable_by_default() and "mode" not in kwargs if deferrable is None else deferrable

    def execute(self, context: Context) -> Any:
        """Look the tasks up, then wait in the triggerer or, as ``mode`` says, in the worker.

        :raises ImageGenError: If the gateway failed at a task, or does not know it.
        """
        if not self.deferrable:
            return super().execute(context)
        try:
            seen = self.poke(context)
        except AirflowFailException as error:
            # Airflow's own ``execute`` does this; it is not called here, since it would sleep between pokes.
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
        if not seen:
            self._defer_until(time.time() + self.timeout)
        return seen.xcom_value

    def poke(self, context: Context) -> PokeReturnValue:
        """Look the tasks up once; a lookup that fails says nothing about them.

        :raises ImageGenError: If the gateway failed at a task, or does not know it.
        """
        try:
            result = asyncio.run(self._look_up(self._client(), self._seconds_since_start(context)))
        except (LookUpFailed, RateLimited) as error:
            log.warning("Lookup failed, the tasks go on at the gateway: %s", error)
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=result is not None, xcom_value=result)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Look the tasks up again after the trigger fired; defer again if it fired too early.

        :param event: The trigger's event; only its deadline is used.
        :raises AirflowSensorTimeout: If the time is over.
        :raises ImageGenError: If the gateway failed at a task, does not know it, or cannot be asked.
        """
        # The event is only a hint: the scheduler may have resumed the task early
        # (https://github.com/apache/airflow/issues/65248).
        result = asyncio.run(self._look_up(self._client(), float("inf")))
        if result is not None:
            return result
        deadline: float = event["submission"]["deadline"]
        if time.time() < deadline:
            self._defer_until(deadline)
        raise AirflowSensorTimeout(f"the gateway is still generating after {self.timeout:g} s: {', '.join(self._ids)}")

    @property
    def _ids(self) -> list[str]:
        given = [self.task_ids] if isinstance(self.task_ids, str) else self.task_ids
        if not isinstance(given, Sequence) or not given or not all(isinstance(one, str) and one for one in given):
            raise InvalidRequest("task_ids", self.task_ids, "the gateway's id, or a list of some")
        return list(dict.fromkeys(given))

    def _client(self) -> ImageClient:
        from airflow_provider_imagegen.hooks.imagegen import ImageGenHook

        return ImageGenHook(self.imagegen_conn_id).get_conn()

    async def _look_up(self, client: ImageClient, seconds: float) -> dict[str, Any] | None:
        """Return the result once every task is done; ``None`` before. At first, tasks may not be visible."""
        async with client:
            tasks = await client.look_up(self._ids)
            if seconds > client.settings.visibility_grace:
                tasks = {task_id: task.lost_if_unseen() for task_id, task in tasks.items()}
            if not all(task.is_terminal for task in tasks.values()):
                return None
            _raise_first_failure(client, tasks)
            return _result(client.gateway.name, tasks)

    def _seconds_since_start(self, context: Context) -> float:
        """Return for how long this has been looking, all pokes of a rescheduled sensor together."""
        ti = context["ti"]
        start = (ti.get_first_reschedule_date(context) if self.reschedule else None) or ti.start_date
        return time.time() - start.timestamp()

    def _defer_until(self, deadline: float) -> NoReturn:
        from airflow_provider_imagegen.schemas import OpenTask, Submission
        from airflow_provider_imagegen.triggers.imagegen import ImageTasksTrigger

        now = time.time()
        # No ledger record belongs to them: whoever submitted them keeps it, and only they may change it.
        tasks = tuple(
            OpenTask(index=index, count=1, task_id=task_id, scope="", fingerprint="", generation=0)
            for index, task_id in enumerate(self._ids)
        )
        submission = Submission(submitted_at=now, deadline=deadline, open=tasks)
        self.defer(
            trigger=ImageTasksTrigger(
                imagegen_conn_id=self.imagegen_conn_id,
                submission=submission.model_dump(mode="json"),
                not_before=now + minimum_deferral(),
                # A sensor's interval may be 0; in a triggerer everybody's waits would suffer from that.
                poll_interval=max(1.0, self.poke_interval),
            ),
            method_name="execute_complete",
            # Later than the trigger's own deadline: Airflow's skips ``execute_complete``.
            timeout=timedelta(seconds=max(0.0, deadline - now)) + SAFETY_NET,
        )


def _raise_first_failure(client: ImageClient, tasks: Mapping[str, ImageTask]) -> None:
    from airflow_provider_imagegen.engine.outcome import task_error

    for task in tasks.values():
        if error := task_error(task, client.gateway.name):
            if isinstance(error, UnknownTask):
                error.advice = "Was it submitted through this connection?"
            raise FailedElsewhere.of(error)


def _result(gateway: str, tasks: Mapping[str, ImageTask]) -> dict[str, Any]:
    shown = [
        {"task_id": task.task_id, "trace_id": task.trace_id, "state": task.state, "images": len(task.outputs)}
        for task in tasks.values()
    ]
    images = sum(len(task.outputs) for task in tasks.values())
    return {"gateway": gateway, "task_ids": list(tasks), "images": images, "tasks": shown}
