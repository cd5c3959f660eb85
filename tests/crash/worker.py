"""Runs one try as Airflow does: the operator, its trigger, a new operator for what follows, the XCom."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

import httpx
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.bases.operator import ExecutorSafeguard

from airflow_provider_imagegen.engine import options, run, submit
from airflow_provider_imagegen.engine.batch import run as batch_run
from airflow_provider_imagegen.exceptions import ImageGenError
from airflow_provider_imagegen.failpoints import observe
from airflow_provider_imagegen.hooks import aws
from airflow_provider_imagegen.operators import batch, imagegen
from airflow_provider_imagegen.polling import slots
from tests.crash.recorder import Recorder
from tests.crash.tries import DEFER, PUSH_XCOM, Report, Try
from tests.stack.waiting import HANG


def run_try(one: Try) -> None:
    """Run a try to its end, or to where it kills itself; leave its report."""
    os.environ.update(one.connections, AIRFLOW__IMAGEGEN__MINIMUM_DEFERRAL="0")
    # The margins that spare a real gateway.
    run.GRACE, submit.LOOK_AGAIN = one.grace, 0.1
    batch_run.GRACE = one.grace
    options.SLOT_GRACE, slots.FIRST_PAUSE = 0.0, 0.05
    recorder = Recorder(one.kill)
    _watch(recorder)
    error: Exception | None = None
    manifest: dict[str, Any] = {}
    try:
        manifest = _through_airflow(one, recorder)
        recorder.see(PUSH_XCOM, "before")
        one.xcom_path.write_text(json.dumps(manifest))
        recorder.see(PUSH_XCOM, "after")
    except ImageGenError as caught:
        error = caught
    Report(
        error=type(error).__name__ if error else None,
        message=str(error or ""),
        manifest=manifest,
        points=tuple(recorder.points),
        s3=tuple(recorder.s3),
        http=tuple(recorder.http),
    ).write(one.report_path)


def _watch(recorder: Recorder) -> None:
    observe(recorder.see)
    make_client = aws.s3_client

    def watched_client(aws_conn_id: str | None) -> Any:
        client = make_client(aws_conn_id)
        client.meta.events.register("before-send.s3", recorder.see_s3)
        return client

    aws.s3_client = watched_client
    httpx.AsyncClient = partial(httpx.AsyncClient, event_hooks={"request": [recorder.see_http]})  # type: ignore[misc,assignment]


def _through_airflow(one: Try, recorder: Recorder) -> dict[str, Any]:
    tries = {"try_number": one.try_number, "max_tries": one.max_tries}
    context: Any = {"ti": SimpleNamespace(**one.identity, **tries, xcom_push=lambda **_: None)}
    operator = _operator(one)
    ExecutorSafeguard.tracker.set(operator)
    step = partial(operator.execute, context)
    while True:
        try:
            return step()
        except TaskDeferred as deferral:
            recorder.see(DEFER, "before")
            httpx.post(one.release_url, timeout=HANG, trust_env=False).raise_for_status()
            event = asyncio.run(_event(deferral.trigger.serialize()))
            recorder.see(DEFER, "after")
            step = partial(getattr(_operator(one), deferral.method_name), context, event=event)


def _operator(one: Try) -> imagegen.GenerateImageOperator:
    kind = batch.GenerateImageBatchOperator if one.batch else imagegen.GenerateImageOperator
    return kind(task_id=one.identity["task_id"], **one.operator)


async def _event(serialized: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Run the trigger as a triggerer does: built again from what went through the database."""
    path, arguments = serialized
    trigger = resolve_name(path)(**json.loads(json.dumps(arguments)))
    event: dict[str, Any] = (await anext(trigger.run())).payload
    return event
