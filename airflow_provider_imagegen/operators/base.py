"""What all operators share that bring paid images into a bucket: where to, on what terms, and when to defer.

Imported at every DAG parse, so nothing heavy is imported here before a task runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_imagegen.exceptions import Billed, ImageGenError, LookUpFailed, ModerationBlocked
from airflow_provider_imagegen.links.imagegen import GatewayTaskLink, ImagesLink, S3Link
from airflow_provider_imagegen.operators.arguments import budget_of, check_choice, mask_queries, seconds_of
from airflow_provider_imagegen.operators.deferral import (
    SAFETY_NET,
    deferrable_by_default,
    log_deferral,
    minimum_deferral,
    stop_grace,
)
from airflow_provider_imagegen.operators.failures import push_failure, without_traceback
from airflow_provider_imagegen.storage.options import ObjectOptions

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_imagegen.engine.options import JobOptions
    from airflow_provider_imagegen.engine.outcome import OnPartial
    from airflow_provider_imagegen.engine.recovery import OnClear, OnUnknown
    from airflow_provider_imagegen.engine.run import TaskRun
    from airflow_provider_imagegen.ledger.models import Reuse
    from airflow_provider_imagegen.schemas import CancelContext, Manifest, Submission
    from airflow_provider_imagegen.schemas.batch import BatchSummary
    from airflow_provider_imagegen.storage.destination import Destination

log = logging.getLogger(__name__)

DEFAULT_S3_KEY = (
    "imagegen/{{ dag.dag_id }}/{{ run_id }}/{{ task.task_id }}{% if ti.map_index >= 0 %}/{{ ti.map_index }}{% endif %}"
)
DEFAULT_LEDGER_KEY = "_imagegen/ledger"
DEFAULT_POLL_INTERVAL = 5.0
DEFAULT_TIMEOUT = 1800.0

# Template fields in which signed addresses are to be expected.
_MAY_HOLD_ADDRESSES = frozenset({"extra", "images", "mask"})


class ImagesOperator(BaseOperator):
    """Brings images from a gateway into a bucket; what is asked of the gateway, subclasses say.

    :param s3_bucket: Bucket for the images; may be left out if ``s3_key`` is an ``s3://`` URL. (templated)
    :param s3_key: Key prefix, or ``s3://bucket/prefix``; by default made of DAG, run, task and map index,
        percent-encoded and shortened where an id contains what keys should not. (templated)
    :param replace: Whether an image replaces an object that is there already; if not, the put is conditional.
    :param encrypt: Whether S3 encrypts the objects at rest with its own key.
    :param kms_key_id: Id, ARN or alias of the KMS key that S3 encrypts the objects with instead. (templated)
    :param acl_policy: Canned ACL of the objects.
    :param storage_class: Storage class of the objects, such as ``STANDARD_IA``.
    :param tag_set: Tags of the objects, at most 10. (templated)
    :param cache_control: ``Cache-Control`` header that readers of the objects get.
    :param metadata: Further user metadata of the objects, beside the provider's own: model, fingerprint, gateway task
        id, DAG, task and run, SHA-256, time. (templated)
    :param provenance: Whether to write the standard mark for AI-made images (XMP,
        ``digitalSourceType=trainedAlgorithmicMedia``) into the files; pixels stay as they are encoded.
    :param svg: Whether svg images are landed too, to be downloaded rather than shown: they may hold scripts.
    :param imagegen_conn_id: Connection to the gateway. (templated)
    :param aws_conn_id: Connection to S3. (templated)
    :param land_previews: Whether to land streamed previews too, as ``<index>.preview-<number>.<ext>``.
    :param deferrable: Whether to wait in the triggerer rather than in the worker; by default it is, unless
        ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` is false.
    :param poll_interval: Seconds between lookups.
    :param timeout: Seconds, or a timedelta, from the submit to the deadline.
    :param reuse: Who may have an image that is already paid for: ``task`` (this task instance: its retries,
        and a clear), ``always`` (anyone who asks the same of the same bucket: other runs, backfills, other
        DAGs), or ``never`` (every try pays).
    :param on_clear: What a cleared task that had succeeded does: ``reuse`` its images, or ``regenerate`` them
        and pay again.
    :param on_unknown: Where nobody can tell whether a request was accepted: ``fail``, or ``resubmit`` and
        perhaps pay twice.
    :param on_partial: ``fail`` or ``accept`` fewer images than asked for.
    :param on_moderation: ``fail`` or ``skip`` the task when the gateway's content policy refuses.
    :param remember_refusals: Seconds, or a timedelta, for which a request that the content policy refused is not sent
        again: by the same task instance, or by anyone with ``reuse="always"``. A clear sends it again.
    :param ledger_key: Key prefix, in the bucket of the images, of the records of what was paid for.
    :param budget: What this task instance may cost at most, in all its tries, in the connection's currency: a number
        or a decimal text. What may cost more, or has no known price, is refused before anything is paid. (templated)
    :param validate_only: Whether to check everything, send and claim nothing, and return the usual result without
        images, with what would be sent and would cost (see :class:`~airflow_provider_imagegen.engine.dry_run.DryRun`).
    """

    template_fields: Sequence[str] = (
        "s3_bucket",
        "s3_key",
        "kms_key_id",
        "tag_set",
        "metadata",
        "imagegen_conn_id",
        "aws_conn_id",
        "budget",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"tag_set": "json", "metadata": "json"}
    operator_extra_links: Sequence[BaseOperatorLink] = (ImagesLink(), S3Link(), GatewayTaskLink())
    ui_color = "#f3e8ff"
    model: str | None = None

    def __init__(
        self,
        *,
        s3_bucket: str | None = None,
        s3_key: str = DEFAULT_S3_KEY,
        replace: bool = True,
        encrypt: bool = False,
        kms_key_id: str | None = None,
        acl_policy: str | None = None,
        storage_class: str | None = None,
        tag_set: dict[str, str] | None = None,
        cache_control: str | None = None,
        metadata: dict[str, str] | None = None,
        provenance: bool = False,
        svg: bool = False,
        imagegen_conn_id: str = "imagegen_default",
        aws_conn_id: str | None = "aws_default",
        land_previews: bool = False,
        deferrable: bool = deferrable_by_default(),
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        reuse: Reuse = "task",
        on_clear: OnClear = "reuse",
        on_unknown: OnUnknown = "fail",
        on_partial: OnPartial = "fail",
        on_moderation: Literal["fail", "skip"] = "fail",
        remember_refusals: float | timedelta | None = None,
        ledger_key: str = DEFAULT_LEDGER_KEY,
        budget: Decimal | float | str | None = None,
        validate_only: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.replace = replace
        self.encrypt = encrypt
        self.kms_key_id = kms_key_id
        self.acl_policy = acl_policy
        self.storage_class = storage_class
        self.tag_set = tag_set
        self.cache_control = cache_control
        self.metadata = metadata
        self.provenance = provenance
        self.svg = svg
        self.imagegen_conn_id = imagegen_conn_id
        self.aws_conn_id = aws_conn_id
        self.land_previews = land_previews
        self.deferrable = deferrable
        self.poll_interval = seconds_of("poll_interval", poll_interval)
        self.timeout = seconds_of("timeout", timeout)
        self.reuse = check_choice("reuse", reuse, ("task", "always", "never"))
        self.on_clear = check_choice("on_clear", on_clear, ("reuse", "regenerate"))
        self.on_unknown = check_choice("on_unknown", on_unknown, ("fail", "resubmit"))
        self.on_partial = check_choice("on_partial", on_partial, ("fail", "accept"))
        self.on_moderation = check_choice("on_moderation", on_moderation, ("fail", "skip"))
        self.remember_refusals = seconds_of("remember_refusals", remember_refusals) if remember_refusals else 0.0
        self.ledger_key = ledger_key
        # Rendered fields are JSON, which has no Decimal; a text may still be a template.
        self.budget = str(budget) if isinstance(budget, Decimal) else budget
        if not isinstance(budget, str):
            budget_of(budget)
        self.validate_only = check_choice("validate_only", validate_only, (True, False))
        # What is no template is refused with the DAG. The rest waits for the task: templates are not rendered yet, and
        # S3's own lists of ACLs and storage classes come with botocore, which no DAG parse may import.
        ObjectOptions(replace=replace, encrypt=encrypt, cache_control=cache_control)
        # Set while a task runs: Airflow calls on_kill and the links from outside of execute().
        self._current_run: TaskRun | None = None
        self._is_killed = False
        self._result: Manifest | BatchSummary | None = None

    def __setattr__(self, key: str, value: Any) -> None:
        """Mask what is signed before it is rendered: rendered fields are stored and shown."""
        if key in _MAY_HOLD_ADDRESSES:
            mask_queries(value)
        super().__setattr__(key, value)

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit, wait a moment, and defer; or wait to the end where deferring is off.

        :return: The manifest; where ``validate_only`` is set, one without images that tells what would be done.
        :raises ImageGenError: See :mod:`airflow_provider_imagegen.exceptions`.
        """
        with self._reporting(context):
            self._current_run = run = self._make_run(context)
            if self.validate_only:
                plan = asyncio.run(run.dry_run())
                log.info("%s", plan)
                return plan.model_dump(mode="json")
            return self._finish_or_defer(context, run, run.begin)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after the trigger fired: look up afresh, then land; defer again if woken too early.

        :param event: What the trigger saw; only the ids in it are relied on.
        """
        from airflow_provider_imagegen.schemas import Submission

        # Unknown fields are ignored: a task may be deferred by one release and resumed by the next.
        submission = Submission.model_validate(event["submission"])
        gave_up = event["status"] == "failed"
        # One that waited for a slot has perhaps not been sent at all; it is made as at the beginning.
        with self._reporting(context, is_resuming=submission.has_accepted):
            self._current_run = run = self._make_run_again(context, submission)
            return self._finish_or_defer(context, run, lambda: run.resume(submission, gave_up=gave_up))

    def on_kill(self) -> None:
        """Send nothing more, and cancel what was submitted, where the gateway can; else the next try attaches to it.

        Airflow lets the task run on, so that what is at a synchronous gateway still lands.
        """
        self._is_killed = True
        if self._current_run is not None:
            self._current_run.cancel()

    @property
    def s3_location(self) -> tuple[str, str, str] | None:
        """S3 endpoint, bucket and key prefix of the images; ``None`` until the task knows. For its link."""
        run = self._current_run
        return None if run is None else run.s3_location(self._result)

    @property
    def gateway_page(self) -> str | None:
        """Address of the gateway's page of its first task, where it has such pages. For its link."""
        run = self._current_run
        return None if run is None else run.gateway_page(self._result)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what was read and what landed; called by Airflow's OpenLineage listener.

        :param task_instance: The task instance.
        """
        from airflow_provider_imagegen.operators.openlineage import lineage_of

        return lineage_of(self._result, self._inputs())

    def _inputs(self) -> list[str]:
        """Return the ``s3://`` addresses of what the task reads."""
        return []

    def _make_run(self, context: Context, is_resuming: bool = False) -> TaskRun:
        """Check the arguments and connections, all of it free, and bundle what the task needs."""
        raise NotImplementedError

    def _make_run_again(self, context: Context, submission: Submission) -> TaskRun:
        try:
            return self._make_run(context, is_resuming=submission.slot is None)
        except ImageGenError as error:
            if not submission.has_accepted:
                # Nothing was submitted yet: as at the beginning.
                raise
            if submission.slot:
                # A source is gone: what was accepted is landed, and no more sent.
                return self._make_run_again(context, submission.model_copy(update={"slot": None}))
            # It was fine when the task began, and Airflow calls any failed lookup of a connection "not found":
            # worth a retry, which attaches.
            known = ", ".join(submission.task_ids)
            advice = f"Submitted before: {known}. {error.advice} A retry attaches to what was submitted."
            raise LookUpFailed(error.message, advice=advice) from None

    def _task_run(self, context: Context) -> TaskRun:
        """Check connections and destination, all of it free, and bundle what the task works with."""
        from airflow.providers.common.compat.sdk import Stats

        from airflow_provider_imagegen import metrics
        from airflow_provider_imagegen.engine.run import TaskRun
        from airflow_provider_imagegen.hooks.aws import s3_client
        from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
        from airflow_provider_imagegen.landing import ImageProcessing
        from airflow_provider_imagegen.ledger.store import Ledger

        metrics.report_to(Stats)
        destination = self._destination(context)
        s3 = s3_client(self.aws_conn_id)
        settings = ImageGenHook(self.imagegen_conn_id).settings()
        return TaskRun(
            settings=settings,
            s3=s3,
            destination=destination,
            ledger=Ledger(s3, destination.bucket, self.ledger_key),
            options=self._job_options(context, settings.currency),
            metadata=self._metadata(context),
            processing=ImageProcessing(svg=self.svg, provenance=self.provenance, model=self.model),
            deferrable=self.deferrable,
        )

    def _job_options(self, context: Context, currency: str) -> JobOptions:
        from airflow_provider_imagegen.engine.budget import Budget
        from airflow_provider_imagegen.engine.options import SLOT_GRACE, JobOptions
        from airflow_provider_imagegen.engine.recovery import Policy
        from airflow_provider_imagegen.engine.stop import StopRequest
        from airflow_provider_imagegen.ledger.models import Attempt
        from airflow_provider_imagegen.polling import PollSchedule

        budget = budget_of(self.budget)
        return JobOptions(
            attempt=Attempt.of(context["ti"], self.retries or 0),
            policy=Policy(
                reuse=self.reuse,
                on_unknown=self.on_unknown,
                on_clear=self.on_clear,
                remember_refusals=self.remember_refusals,
            ),
            schedule=PollSchedule(interval=self.poll_interval),
            timeout=self.timeout,
            on_partial=self.on_partial,
            land_previews=self.land_previews,
            budget=None if budget is None else Budget(budget, currency),
            slot_grace=SLOT_GRACE if self._can_resume_unsent else None,
            stop=StopRequest(stop_grace()),
        )

    @property
    def _can_resume_unsent(self) -> bool:
        """Whether what is not submitted yet can still be submitted after a deferral."""
        return self.deferrable

    def _destination(self, context: Context) -> Destination:
        from airflow_provider_imagegen.storage.destination import key_of, parse_destination

        return parse_destination(self.s3_bucket, key_of(self.s3_key, context["ti"]), self._object_options())

    def _object_options(self) -> ObjectOptions:
        return ObjectOptions(
            replace=self.replace,
            encrypt=self.encrypt,
            kms_key_id=self.kms_key_id,
            acl_policy=self.acl_policy,
            storage_class=self.storage_class,
            tag_set=self.tag_set or {},
            cache_control=self.cache_control,
            metadata=self.metadata or {},
        )

    def _metadata(self, context: Context) -> dict[str, str]:
        ti = context["ti"]
        return {
            "airflow-dag": ti.dag_id,
            "airflow-task": ti.task_id,
            "airflow-run": ti.run_id,
            "airflow-map-index": str(ti.map_index),
            "model": self.model or "",
        }

    def _finish_or_defer(
        self,
        context: Context,
        run: TaskRun,
        step: Callable[[], Coroutine[Any, Any, Manifest | BatchSummary | Submission]],
    ) -> dict[str, Any]:
        from airflow_provider_imagegen.schemas import Submission

        if self._is_killed:
            # The signal may have come before there was a run to tell.
            run.options.stop.ask()
        # One loop for the whole step: clients and polling are shared by all that it waits for.
        result = asyncio.run(run.options.stop.run(step()))
        if isinstance(result, Submission):
            return self._hand_over(run, result)
        self._result = result
        if self.outlets:
            from airflow_provider_imagegen.operators.asset_events import add_asset_events

            add_asset_events(self.outlets, context["outlet_events"], result)
        return result.model_dump(mode="json")

    @contextmanager
    def _reporting(self, context: Context, is_resuming: bool = False) -> Iterator[None]:
        """Note an error in XCom on its way out; skip the task where it is one to be skipped for."""
        try:
            yield
        except AirflowSkipException:
            raise
        except ImageGenError as error:
            if error.billed == "unknown" and not self._may_be_billed(context, is_resuming):
                error.billed = "no"
            # A failed task returns nothing, so what did land would be invisible to the tasks after it.
            push_failure(context["ti"], error, self.model)
            self._result = cast("Manifest | BatchSummary | None", error.result)
            if isinstance(error, ModerationBlocked) and self.on_moderation == "skip":
                # The user chose to tolerate this: the log shows the reason, and no traceback.
                raise AirflowSkipException(str(error)) from None
            raise without_traceback(error) from None
        except Exception as error:
            billed: Billed = "unknown" if self._may_be_billed(context, is_resuming) else "no"
            push_failure(context["ti"], ImageGenError.of_defect(error, billed), self.model)
            raise

    def _may_be_billed(self, context: Context, is_resuming: bool) -> bool:
        """Return whether this task may have sent something, by where it stands: nothing is sent unless claimed."""
        run = self._current_run
        return is_resuming or context["ti"].try_number > 1 or (run is not None and run.ledger.may_hold_claims)

    def _hand_over(self, run: TaskRun, submission: Submission) -> dict[str, Any]:
        """Defer, as something is still open at the gateway; a subclass may end the task instead."""
        from airflow_provider_imagegen.triggers.imagegen import ImageSlotTrigger, ImageTasksTrigger

        now = time.time()
        left = max(0.0, submission.deadline - now)
        hold = self._cancel_context(run)
        if submission.slot:
            slot = submission.slot.model_copy(update={"priority": self.priority_weight})
            submission = submission.model_copy(update={"slot": slot})
        log_deferral(submission, run.gateway.name, left)
        trigger = ImageSlotTrigger if submission.slot else ImageTasksTrigger
        self.defer(
            trigger=trigger(
                imagegen_conn_id=self.imagegen_conn_id,
                submission=submission.model_dump(mode="json"),
                # The scheduler fails a task that resumes before it has seen its worker end (apache/airflow#71580).
                not_before=now + minimum_deferral(),
                poll_interval=self.poll_interval,
                hold=None if hold is None else hold.model_dump(mode="json"),
            ),
            method_name="execute_complete",
            # Airflow fails a deferral that times out, without a last lookup: the trigger must be the first to end it.
            timeout=timedelta(seconds=left) + SAFETY_NET,
        )

    def _cancel_context(self, run: TaskRun) -> CancelContext | None:
        """Return whose the open tasks are, for whoever kills the trigger; ``None`` if they are not to be cancelled."""
        from airflow_provider_imagegen.schemas import CancelContext

        return CancelContext(
            aws_conn_id=self.aws_conn_id,
            bucket=run.ledger.bucket,
            ledger_key=run.ledger.prefix,
            attempt=run.options.attempt.model_dump(mode="json"),
        )
