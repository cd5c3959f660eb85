"""The operators: a prompt in a DAG becomes images in S3 and their manifest in XCom.

Imported at every DAG parse, so nothing heavy is imported here before a task runs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.operators.arguments import check_choice
from airflow_provider_imagegen.operators.base import ImagesOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mypy_boto3_s3.client import S3Client

    from airflow_provider_imagegen.engine.run import TaskRun
    from airflow_provider_imagegen.schemas import ImageRequest, ImageSource, Submission
    from airflow_provider_imagegen.storage.destination import Destination

log = logging.getLogger(__name__)

# Arguments that say what to generate; callback_url is the one more, kept out of the rendered fields.
REQUEST_FIELDS = (
    "prompt",
    "model",
    "n",
    "size",
    "quality",
    "style",
    "background",
    "moderation",
    "output_format",
    "output_compression",
    "partial_images",
    "response_format",
    "stream",
    "user",
    "async_",
    "extra",
)


class GenerateImageOperator(ImagesOperator):
    """Generate images from a prompt and land them in S3.

    Submits once, waits deferred, lands the images as ``<s3_key>/<index>.<ext>`` with a ``manifest.json``
    beside them, and returns the manifest (see :class:`~airflow_provider_imagegen.schemas.Manifest`).

    The parameters from ``prompt`` to ``extra`` are those of
    :class:`~airflow_provider_imagegen.schemas.ImageRequest`; only what is set is sent. Where to, and on what
    terms, say those of :class:`~airflow_provider_imagegen.operators.base.ImagesOperator`, all of which are taken too.

    :param prompt: What to generate. (templated)
    :param model: Name of the model. (templated)
    :param n: Number of images, 1–10. (templated)
    :param size: ``<width>x<height>`` in pixels, or ``auto``. (templated)
    :param quality: The model's word for quality. (templated)
    :param style: ``vivid`` or ``natural`` (dall-e-3). (templated)
    :param background: ``transparent``, ``opaque`` or ``auto``. (templated)
    :param moderation: ``low`` or ``auto``. (templated)
    :param output_format: ``png``, ``jpeg`` or ``webp``. (templated)
    :param output_compression: 0–100, for jpeg and webp. (templated)
    :param partial_images: Previews to send while streaming, 0–3. (templated)
    :param response_format: ``url`` or ``b64_json`` (dall-e). (templated)
    :param stream: Whether the gateway should answer with server-sent events, where it can. (templated)
    :param user: Your id of the end user. (templated)
    :param callback_url: Where the gateway also pushes the result, where it does. (templated, but never shown)
    :param async_: ``False`` asks a gateway with tasks to answer with the image itself. (templated)
    :param extra: Further body fields, sent as they are. (templated)
    :param wait: Whether to see the images through. If not, the task ends when everything is submitted and returns a
        receipt (see :class:`~airflow_provider_imagegen.engine.receipts.Receipt`), for which
        :class:`~airflow_provider_imagegen.operators.landing.LandImagesOperator` lands them later.
    """

    template_fields: Sequence[str] = (*REQUEST_FIELDS, *ImagesOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {**ImagesOperator.template_fields_renderers, "extra": "json"}

    def __init__(
        self,
        *,
        prompt: str,
        model: str | None = None,
        n: int | str = 1,
        size: str | None = None,
        quality: str | None = None,
        style: str | None = None,
        background: str | None = None,
        moderation: str | None = None,
        output_format: str | None = None,
        output_compression: int | str | None = None,
        partial_images: int | str | None = None,
        response_format: str | None = None,
        stream: bool | str | None = None,
        user: str | None = None,
        callback_url: str | None = None,
        async_: bool | str | None = None,
        extra: dict[str, Any] | None = None,
        wait: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt
        self.model = model
        self.n = n
        self.size = size
        self.quality = quality
        self.style = style
        self.background = background
        self.moderation = moderation
        self.output_format = output_format
        self.output_compression = output_compression
        self.partial_images = partial_images
        self.response_format = response_format
        self.stream = stream
        self.user = user
        # Not a template field: rendered fields are stored and shown, and the address may hold a secret.
        self.callback_url = callback_url
        self.async_ = async_
        self.extra = extra
        self.wait = check_choice("wait", wait, (True, False))
        if callback_url is not None and not isinstance(callback_url, str):
            raise InvalidRequest("callback_url", "(hidden)", "a text or template, not another task's output")

    def _make_run(self, context: Context, is_resuming: bool = False) -> TaskRun:
        from airflow_provider_imagegen.engine.run import GenerateRun

        # Everything up to begin() is free, so that a wrong connection, bucket or parameter fails before it costs.
        run = self._task_run(context)
        request = self._request(self._asked(context), run.s3, run.destination, is_resuming)
        return GenerateRun.based_on(run, request=request, waits=self.wait)

    def _hand_over(self, run: TaskRun, submission: Submission) -> dict[str, Any]:
        from airflow_provider_imagegen.engine.receipts import create_receipt
        from airflow_provider_imagegen.engine.run import GenerateRun

        if self.wait or submission.slot or not isinstance(run, GenerateRun):
            return super()._hand_over(run, submission)
        receipt = create_receipt(run, submission, self.imagegen_conn_id, self.aws_conn_id)
        log.info("Submitted %d task(s), to be landed for %s", len(receipt.task_ids), receipt.document_uri)
        return receipt.model_dump(mode="json")

    def _asked(self, context: Context) -> dict[str, Any]:
        asked = {name: getattr(self, name) for name in REQUEST_FIELDS}
        return asked | {"callback_url": self.render_template(self.callback_url, context)}

    def _request(
        self, asked: dict[str, Any], s3: S3Client, destination: Destination, is_resuming: bool
    ) -> ImageRequest:
        from airflow_provider_imagegen.schemas import ImageRequest

        return ImageRequest.checked(asked)


class EditImageOperator(GenerateImageOperator):
    """Edit images by a prompt and land the results in S3, as :class:`GenerateImageOperator` does.

    :param images: 1–16 images to edit: ``s3://bucket/key``, a key in ``s3_bucket``, or an ``https://``
        address that the gateway can fetch; not both kinds at once. (templated)
    :param mask: A png whose transparent areas are to be changed, of the first image's size; named as
        ``images`` are. (templated)
    :param input_fidelity: How closely to keep to the input: ``high`` or ``low``. (templated)
    """

    template_fields: Sequence[str] = (*GenerateImageOperator.template_fields, "images", "mask", "input_fidelity")

    def __init__(
        self,
        *,
        images: list[str],
        mask: str | None = None,
        input_fidelity: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.images = images
        self.mask = mask
        self.input_fidelity = input_fidelity

    def _inputs(self) -> list[str]:
        from airflow_provider_imagegen.storage.destination import split_uri

        bucket = self.s3_bucket or split_uri(self.s3_key)[0]
        named = [*self.images, *([self.mask] if self.mask else [])]
        addresses = [name if "://" in name else f"s3://{bucket}/{name}" for name in named]
        return [address for address in addresses if address.startswith("s3://")]

    def _request(
        self, asked: dict[str, Any], s3: S3Client, destination: Destination, is_resuming: bool
    ) -> ImageRequest:
        from airflow_provider_imagegen.engine.sources import name_sources, read_sources
        from airflow_provider_imagegen.schemas import EditRequest
        from airflow_provider_imagegen.storage.objects import read_object

        def read(names: list[str], field: str) -> tuple[ImageSource, ...]:
            if is_resuming:
                # They were sent; what became of them since must not keep the result from landing.
                return name_sources(names, destination.bucket)
            return read_sources(names, field, destination.bucket, partial(read_object, s3))

        images = read(self.images, "images")
        mask = read([self.mask], "mask")[0] if self.mask else None
        edit = {"images": images, "mask": mask, "input_fidelity": self.input_fidelity}
        return EditRequest.checked(asked | edit)
