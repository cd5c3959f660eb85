"""``@task.generate_image``: a function returns the request, the task it becomes lands the images.

Imported when a DAG file that uses it is parsed, so nothing heavy is imported here before a task runs.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import DecoratedOperator, TaskDecorator, context_merge, task_decorator_factory
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION

from airflow_provider_imagegen.exceptions import InvalidRequest, LedgerCorrupt
from airflow_provider_imagegen.operators.arguments import check_choice
from airflow_provider_imagegen.operators.base import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT
from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import REQUEST_FIELDS
from airflow_provider_imagegen.redaction import queries_in, without_queries
from airflow_provider_imagegen.version_compat import determine_kwargs

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_imagegen.engine.run import TaskRun
    from airflow_provider_imagegen.schemas import Submission

log = logging.getLogger(__name__)

NOTE = "answer"
_ALLOWED = "a prompt, a dict of request fields, or a list of these"


class GenerateImageDecoratedOperator(DecoratedOperator, GenerateImageBatchOperator):
    """Generate what a function returns: a prompt, fields of a request, or a list of these, which makes a batch.

    What the function returns is taken as it is, without being rendered as a template, and goes before the
    decorator's arguments. It is called again by every retry, never after a deferral: what it returned is kept beside
    the ledger until then.

    All parameters of :class:`~airflow_provider_imagegen.operators.imagegen.GenerateImageOperator` are taken but
    ``prompt``, and for lists those of :class:`~airflow_provider_imagegen.operators.batch.GenerateImageBatchOperator`
    but ``requests``.

    :param python_callable: The function; it may be a coroutine function.
    :param op_args: Its positional arguments. (templated)
    :param op_kwargs: Its named arguments. (templated)
    :param poll_interval: Seconds between lookups; by default as the operator for what is returned has it.
    :param timeout: Seconds, or a timedelta, to the deadline; by default as the operator for what is returned has it.
    :param wait: Whether to see the images through; a list of requests always is.
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *GenerateImageBatchOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **GenerateImageBatchOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.generate_image"
    # The prompt is known only after the function ran, and people look for it among the rendered fields.
    overwrite_rtif_after_execution = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        poll_interval: float | None = None,
        timeout: float | timedelta | None = None,
        wait: bool = True,
        **kwargs: Any,
    ) -> None:
        polling = {"poll_interval": poll_interval, "timeout": timeout}
        given: dict[str, Any] = {name: value for name, value in polling.items() if value is not None}
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            prompt=SET_DURING_EXECUTION,
            requests=SET_DURING_EXECUTION,
            **given,
            **kwargs,
        )
        # Not passed on: a batch refuses False, and whether it is one is known only when the function has run.
        self.wait = check_choice("wait", wait, (True, False))
        self._returned: Any = None
        # Until then the defaults are a batch's, which polls more often and waits longer.
        defaults = {"poll_interval": DEFAULT_POLL_INTERVAL, "timeout": DEFAULT_TIMEOUT}
        self._defaults_of_one = {name: value for name, value in defaults.items() if name not in given}

    def execute(self, context: Context) -> Any:
        """Call the function, then generate what it returns.

        :return: The manifest; for a list the summary, with ``wait=False`` the receipt.
        :raises InvalidRequest: If it returns anything else than what to generate; nothing is sent then.
        """
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        with self._reporting(context):
            returned = self.python_callable(*self.op_args, **kwargs)
            self._take(_as_json(asyncio.run(returned) if inspect.iscoroutine(returned) else returned))
        return super().execute(context)

    def _take(self, returned: Any) -> None:
        """Set what the function returned in place of the decorator's arguments."""
        self._returned = {"prompt": returned} if isinstance(returned, str) else returned
        if isinstance(self._returned, list):
            self._take_rows(self._returned)
        elif isinstance(self._returned, dict):
            self._take_fields(self._returned)
        else:
            raise _refusal(returned)

    def _take_rows(self, rows: list[Any]) -> None:
        if not self.wait:
            raise InvalidRequest("wait", False, "True where the function returns a list: a batch sees its rows through")
        self.requests, self.prompt = rows, ""
        signed = queries_in([row.get("extra") for row in rows if isinstance(row, dict)])
        if self.deferrable and any(True for _ in signed):
            # To resume, the rows would have to be kept in S3, and with them what is signed.
            log.info("The worker waits itself: rows with signed addresses are kept nowhere")
            self.deferrable = False

    def _take_fields(self, fields: dict[str, Any]) -> None:
        from airflow_provider_imagegen.schemas.requests import with_extra_named

        if "callback_url" in fields:
            raise InvalidRequest("callback_url", "(hidden)", "only as the decorator's argument")
        for name in fields.keys() - set(REQUEST_FIELDS):
            raise InvalidRequest(name, "(hidden)", f"known parameters are {', '.join(REQUEST_FIELDS)}")
        # Named first: what the function says in extra goes before what the decorator says by name.
        named = {name: value for name, value in with_extra_named(fields).items() if value is not None}
        if isinstance(named.get("extra"), dict) and isinstance(self.extra, dict):
            named["extra"] = self.extra | named["extra"]
        for name, value in ({"prompt": "", "requests": ()} | named | self._defaults_of_one).items():
            setattr(self, name, value)

    def _make_run(self, context: Context, is_resuming: bool = False) -> TaskRun:
        from airflow_provider_imagegen.engine.run import GenerateRun
        from airflow_provider_imagegen.schemas import ImageRequest

        if self._returned is None:
            self._take(self._kept(context))
        if isinstance(self._returned, list):
            return super()._make_run(context, is_resuming)
        # One request is no batch of one: its objects and its XCom are those of GenerateImageOperator.
        request = ImageRequest.checked(self._asked(context))
        return GenerateRun.based_on(self._task_run(context), request=request, waits=self.wait)

    def _hand_over(self, run: TaskRun, submission: Submission) -> dict[str, Any]:
        if self.wait or submission.slot:
            from airflow_provider_imagegen.ledger.documents import document_uri, write_document

            uri = document_uri(run.ledger, run.options.attempt, NOTE)
            write_document(run.s3, uri, map(json.dumps, self._kept_lines()))
        return super()._hand_over(run, submission)

    @property
    def _can_resume_unsent(self) -> bool:
        # What is kept meanwhile is without signatures, so that the request could not be sent from it.
        return super()._can_resume_unsent and not any(True for _ in queries_in(self._returned))

    def _kept_lines(self) -> list[Any]:
        """Return what the function returned as it may be kept: without what is signed."""
        if isinstance(self._returned, list):
            return [{"version": 1, "kind": "rows"}, *self._returned]
        return [{"version": 1, "kind": "request"}, without_queries(self._returned) | {"prompt": self.prompt}]

    def _kept(self, context: Context) -> Any:
        """Return what the function returned before the deferral."""
        from airflow_provider_imagegen.hooks.aws import s3_client
        from airflow_provider_imagegen.ledger.documents import document_uri, read_document
        from airflow_provider_imagegen.ledger.models import Attempt
        from airflow_provider_imagegen.ledger.store import Ledger

        s3 = s3_client(self.aws_conn_id)
        ledger = Ledger(s3, self._destination(context).bucket, self.ledger_key)
        attempt = Attempt.of(context["ti"], self.retries or 0)
        uri = document_uri(ledger, attempt, NOTE)
        # Read back rather than asked for again: a function that returns something else by now would have the image of
        # one request landed with the prompt of another.
        try:
            header, *lines = map(json.loads, read_document(s3, uri))
            return {"rows": lines, "request": lines[0] if lines else None}[header["kind"]]
        except (ValueError, LookupError, TypeError):
            raise LedgerCorrupt(f"{uri} cannot be understood") from None


def generate_image_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """Make a task that generates images of what the decorated function returns; ``@task.generate_image``.

    :param python_callable: The function.
    :param multiple_outputs: Whether to push every field of the manifest as an XCom of its own too.
    :param kwargs: Arguments of :class:`GenerateImageDecoratedOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        # Airflow would take the annotation, which is of the value that the function returns.
        multiple_outputs=multiple_outputs,
        decorated_operator_class=GenerateImageDecoratedOperator,
        **kwargs,
    )


def _as_json(returned: Any) -> Any:
    # As it comes back from S3 after a deferral: another value would have another fingerprint, and be paid for again.
    try:
        return json.loads(json.dumps(returned, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise _refusal(returned) from None


def _refusal(returned: Any) -> InvalidRequest:
    return InvalidRequest("the function's answer", type(returned).__name__, f"{_ALLOWED}, in plain JSON values")
