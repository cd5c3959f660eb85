"""The operator that lands what other tasks, or somebody else, submitted.

Imported at every DAG parse, so nothing heavy is imported here before a task runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.operators.base import ImagesOperator

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_imagegen.engine.receipts import Receipt
    from airflow_provider_imagegen.engine.run import TaskRun


class LandImagesOperator(ImagesOperator):
    """Land images in S3 that were submitted before, waiting deferred for those that are still being generated.

    Nothing is paid by it: retried or cleared, it lands what is missing and returns the same. What it lands for a task
    with ``wait=False`` goes where that task said and is noted in its ledger records, provided that bucket, ledger and
    connections are those of this operator: a receipt is an XCom, which others may be allowed to change.

    For one receipt it returns the manifest (see :class:`~airflow_provider_imagegen.schemas.Manifest`), with
    ``manifest.json`` beside the images; for a list, or for ``task_ids``, a summary (see
    :class:`~airflow_provider_imagegen.schemas.batch.BatchSummary`), with a row for every receipt or id in
    ``<s3_key>/manifest.jsonl``.

    Of the parameters of :class:`~airflow_provider_imagegen.operators.base.ImagesOperator` it heeds those that say how
    to wait, what counts as a failure, the connections, and, for ``task_ids``, where images go and how.

    :param submitted: What a task with ``wait=False`` returned, or a list of that, such as a mapped task's output.
        (templated)
    :param task_ids: Ids of tasks at the gateway, submitted by anybody; their images are called
        ``<s3_key>/<id>/<index>.<ext>``. (templated)
    :param s3_bucket: Bucket of the images, as for the task that submitted; also where ``manifest.jsonl`` goes.
        (templated)
    :param ledger_key: As for the task that submitted.
    :param timeout: Seconds, or a timedelta, from its beginning to its deadline.
    """

    template_fields: Sequence[str] = (*ImagesOperator.template_fields, "submitted", "task_ids")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **ImagesOperator.template_fields_renderers,
        "submitted": "json",
    }

    def __init__(
        self,
        *,
        submitted: Mapping[str, Any] | Sequence[Mapping[str, Any]] | XComArg | None = None,
        task_ids: Sequence[str] | XComArg | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.submitted = submitted
        self.task_ids = task_ids

    def _make_run(self, context: Context, is_resuming: bool = False) -> TaskRun:
        from airflow_provider_imagegen.engine.land_run import LandRun
        from airflow_provider_imagegen.engine.receipts import read_receipts

        if self.submitted is None and self.task_ids is None:
            allowed = "what a task with wait=False returned, a list of that, or task_ids instead"
            raise InvalidRequest("submitted", None, allowed)
        receipts = [] if self.submitted is None else list(read_receipts(self.submitted))
        task_ids = self._ids()
        if self.submitted and not receipts and not task_ids:
            raise AirflowSkipException("nothing to land: what was submitted was a dry run")
        for receipt in receipts:
            self._check_connections(receipt)
        return LandRun.based_on(
            self._task_run(context),
            receipts=receipts,
            task_ids=task_ids,
            is_one=isinstance(self.submitted, Mapping) and not task_ids,
            on_moderation=self.on_moderation,
        )

    def _ids(self) -> list[str]:
        given = [] if self.task_ids is None else self.task_ids
        if (
            isinstance(given, str | bytes)
            or not isinstance(given, Sequence)
            or not all(isinstance(one, str) and one.strip() for one in given)
        ):
            raise InvalidRequest("task_ids", given, "a list of the gateway's ids")
        # An id given twice would be landed twice at once, under one key.
        return list(dict.fromkeys(given))

    def _check_connections(self, receipt: Receipt) -> None:
        # Before the connections are read: ids are only known to the account that they were submitted with.
        for name in ("imagegen_conn_id", "aws_conn_id"):
            own, theirs = getattr(self, name), getattr(receipt, name)
            if own != theirs:
                raise InvalidRequest(name, own, f"the connection that the receipt names, {theirs!r}")

    def _may_be_billed(self, context: Context, is_resuming: bool) -> bool:
        """Return that others may have sent something: it was before this task began."""
        return True

    def _cancel_context(self, run: TaskRun) -> None:
        """Have nothing cancelled: it is not this task's, and others may wait for the same."""
