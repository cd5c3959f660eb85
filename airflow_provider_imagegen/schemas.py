"""The data that travels between the rooms: requests, tasks, outputs, landed images, the manifest.

All models are frozen. They are strict on the way out and lenient on the way in: whatever a gateway adds
tomorrow is ignored, and only what is known to be wrong is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from airflow_provider_imagegen.exceptions import Billed, ImageGenError, InvalidRequest

MAX_PROMPT_IN_LOGS = 80
"""Characters of a prompt that may appear in a log."""

_HIDDEN_FIELDS = frozenset({"callback_url", "extra", "images", "mask"})

_ALLOWED = {
    "prompt": "a text that is not empty",
    "n": "a whole number from 1 to 10",
    "output_compression": "a whole number from 0 to 100",
    "partial_images": "a whole number from 0 to 3",
    "stream": "true or false",
    "async_": "true or false",
    "images": "1 to 16 images",
}

TaskState = Literal["running", "succeeded", "failed", "unseen", "lost"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), coerce_numbers_to_str=True)


class ImageRequest(_Frozen):
    """One call of an image API, in the field's common words; ``None`` means *not set, do not send*.

    Source of names and ranges: the parameter lists of OpenAI's, Ace Data Cloud's and APIGo's
    ``images/generations`` pages.

    :param prompt: What to draw.
    :param model: Name of the model; unknown ones are passed on.
    :param n: Number of images, 1–10.
    :param size: ``<width>x<height>`` in pixels, or ``auto``.
    :param quality: E.g. ``low``, ``medium``, ``high``, ``auto``; ``standard``, ``hd`` for dall-e-3.
    :param style: ``vivid`` or ``natural`` (dall-e-3).
    :param background: ``transparent``, ``opaque`` or ``auto``.
    :param moderation: ``low`` or ``auto``.
    :param output_format: ``png``, ``jpeg`` or ``webp``.
    :param output_compression: 0–100, for jpeg and webp.
    :param partial_images: Previews to send while streaming, 0–3.
    :param response_format: ``url`` or ``b64_json`` (dall-e).
    :param stream: Whether the gateway shall answer with server-sent events.
    :param user: Your id of the end user, for the vendor's abuse monitoring.
    :param callback_url: Where the gateway also pushes the result; polling goes on regardless.
    :param async_: Whether the gateway shall answer with a task id at once; gateways with tasks are asked
        to unless it is ``False``.
    :param extra: Further body fields, sent as they are.
    """

    prompt: str
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=10)] = 1
    size: str | None = None
    quality: str | None = None
    style: str | None = None
    background: str | None = None
    moderation: str | None = None
    output_format: str | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    response_format: str | None = None
    stream: bool | None = None
    user: str | None = None
    callback_url: str | None = Field(default=None, repr=False)
    async_: bool | None = None
    extra: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("prompt")
    @classmethod
    def _prompt_says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a text that is not empty")
        return value

    @field_validator("extra")
    @classmethod
    def _extra_holds_no_known_parameter(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        known = sorted(value.keys() & cls.model_fields.keys())
        if known:
            raise ValueError(f"fields that are no parameters; pass {', '.join(known)} by name")
        return value

    @field_validator("n", "output_compression", "partial_images", mode="before", check_fields=False)
    @classmethod
    def _number_is_not_a_flag(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a whole number, not true or false")
        return value

    @classmethod
    def checked(cls, fields: Mapping[str, Any]) -> Self:
        """Build a request from what a user wrote.

        :param fields: Parameter names and values; ``None`` counts as not set.
        :raises InvalidRequest: Naming the first field that is wrong, its value and what is allowed.
        """
        try:
            return cls.model_validate({name: value for name, value in fields.items() if value is not None})
        except ValidationError as error:
            raise _refusal(error, cls) from None

    def parameters(self) -> dict[str, JsonValue]:
        """Return what the user set, without ``extra`` and ``async_``, in the common spelling."""
        return self.model_dump(exclude_unset=True, exclude_none=True, exclude={"extra", "async_"})

    def asked(self) -> dict[str, JsonValue]:
        """Return everything that decides what the picture is: nothing of who asks, or how it is delivered."""
        delivery = {"callback_url", "user", "response_format", "stream", "partial_images"}
        return {name: value for name, value in {**self.parameters(), **self.extra}.items() if name not in delivery}

    def shown_prompt(self) -> str:
        """Return the prompt as a log may show it: one line, at most 80 characters."""
        line = " ".join(self.prompt.split())
        return line if len(line) <= MAX_PROMPT_IN_LOGS else f"{line[: MAX_PROMPT_IN_LOGS - 1]}…"


class ImageSource(_Frozen):
    """An image to edit, or a mask: an address or the bytes themselves.

    :param url: Address that the gateway can fetch.
    :param content: The bytes.
    :param name: File name to send with the bytes.
    :param content_type: Media type of the bytes.
    """

    url: str | None = Field(default=None, repr=False)
    content: bytes | None = Field(default=None, repr=False)
    name: str = "image.png"
    content_type: str = "image/png"

    @property
    def identity(self) -> str:
        """What tells it from any other image: its address, or the SHA-256 of its bytes."""
        return self.url if self.content is None else hashlib.sha256(self.content).hexdigest()  # type: ignore[return-value]


class EditRequest(ImageRequest):
    """One call that edits images rather than drawing from nothing.

    :param images: 1–16 images to edit.
    :param mask: A PNG with transparent areas where the first image is to be changed.
    :param input_fidelity: How closely to keep to the input: ``high`` or ``low``.
    """

    images: Annotated[tuple[ImageSource, ...], Field(min_length=1, max_length=16)]
    mask: ImageSource | None = None
    input_fidelity: str | None = None

    @property
    def sources(self) -> tuple[ImageSource, ...]:
        """All images that go with the request, the mask last."""
        return self.images if self.mask is None else (*self.images, self.mask)

    def parameters(self) -> dict[str, JsonValue]:
        """Return what the user set, without ``extra``, ``async_`` and the images, in the common spelling."""
        return self.model_dump(exclude_unset=True, exclude_none=True, exclude={"extra", "async_", "images", "mask"})

    def asked(self) -> dict[str, JsonValue]:
        """Return everything that decides what the picture is, the images by address or hash."""
        mask = None if self.mask is None else self.mask.identity
        return {**super().asked(), "images": [image.identity for image in self.images], "mask": mask}


class ImageOutput(_Frozen):
    """One image as a gateway hands it out: where it is, or what it is.

    :param url: Address to fetch it from; may expire, may be signed: never logged whole.
    :param b64_json: The image itself as base64, short enough to have stayed in the answer.
    :param file: The image itself, decoded while the answer streamed in; lives as long as the client.
    :param content: The image itself, in memory; what the hook hands out instead of ``file``.
    :param damage: Why the base64 in the answer could not be decoded.
    :param revised_prompt: The prompt the model really drew, if the gateway tells.
    """

    url: str | None = Field(default=None, repr=False)
    b64_json: str | None = Field(default=None, repr=False)
    file: Path | None = Field(default=None, repr=False)
    content: bytes | None = Field(default=None, repr=False)
    damage: str | None = None
    revised_prompt: str | None = None


class TaskFailure(_Frozen):
    """Why a gateway gave up on a task.

    :param code: The gateway's error code.
    :param message: The gateway's words.
    """

    code: str
    message: str


class ImageTask(_Frozen):
    """What a gateway says about one request, whether it answers at once or through a task.

    :param state: ``running``, ``succeeded``, ``failed``; ``unseen``: the gateway shows no such task (yet);
        ``lost``: it has shown none for too long to be hoped for.
    :param task_id: The gateway's id; ``None`` where it answered at once without one.
    :param trace_id: The id the request can be traced by at the gateway.
    :param outputs: The images, once ``succeeded``.
    :param previews: Partial images that were streamed before.
    :param failure: Why, once ``failed``.
    :param usage: Token counts as the gateway reports them.
    :param created: Unix seconds at which the gateway says the image was made.
    :param reported: What the gateway says it drew: ``size``, ``quality``, ``background``, ``output_format``.
    """

    state: TaskState
    task_id: str | None = None
    trace_id: str | None = None
    outputs: tuple[ImageOutput, ...] = ()
    previews: tuple[ImageOutput, ...] = ()
    failure: TaskFailure | None = None
    usage: dict[str, JsonValue] | None = None
    created: float | None = None
    reported: dict[str, str] = Field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.state in {"succeeded", "failed", "lost"}


class LandedImage(_Frozen):
    """One image in S3.

    :param index: Position among the images asked for, from 0.
    :param uri: ``s3://bucket/key``.
    :param etag: The object's entity tag, without quotes.
    :param version_id: The object's version in a versioned bucket.
    :param bytes: Size of the object.
    :param sha256: Hex digest of the object's bytes.
    :param content_type: Media type, decided by the bytes.
    :param width: Pixels.
    :param height: Pixels.
    :param task_id: The gateway's task it came from.
    :param trace_id: The trace id it came from.
    :param revised_prompt: The prompt the model really drew, if the gateway tells.
    :param reused: Whether it was landed earlier and cost nothing this time.
    """

    index: int
    uri: str
    bucket: str
    key: str
    etag: str
    version_id: str | None
    bytes: int
    sha256: str
    content_type: str
    width: int
    height: int
    task_id: str | None
    trace_id: str | None
    revised_prompt: str | None
    reused: bool = False


class MissingImage(_Frozen):
    """One image that was asked for and did not land.

    :param index: Position among the images asked for, from 0.
    :param code: The gateway's error code, or this provider's word for what went wrong.
    :param message: What happened.
    :param billed: Whether money was spent on it.
    """

    index: int
    code: str
    message: str
    billed: Billed

    @classmethod
    def because_of(cls, error: ImageGenError, index: int) -> MissingImage:
        """Tell why image ``index`` is missing."""
        return cls(index=index, code=error.code or type(error).__name__, message=error.message, billed=error.billed)


class OpenTask(_Frozen):
    """A task that was submitted and is not landed: what crosses a deferral, ids only.

    :param index: Position of its first image among the images asked for.
    :param count: Number of images it was asked for.
    :param task_id: The gateway's id.
    :param trace_id: The id the request can be traced by at the gateway.
    :param scope: Scope of its ledger key.
    :param fingerprint: Fingerprint of its ledger key.
    :param generation: Generation of its ledger record.
    """

    index: int
    count: int
    task_id: str
    trace_id: str | None = None
    scope: str
    fingerprint: str
    generation: int


class Submission(_Frozen):
    """What became of the submits of one Airflow task.

    :param submitted_at: Unix seconds of the first submit.
    :param deadline: Unix seconds at which to stop waiting.
    :param open: Tasks to wait for.
    :param landed: Images that are in S3 already: reused, or come with the answer to the submit.
    :param failures: Images that were refused.
    :param billed: Number of images that this task instance has paid for, without those of open tasks.
    :param usage: Token counts, without those of open tasks.
    """

    submitted_at: float
    deadline: float
    open: tuple[OpenTask, ...] = ()
    landed: tuple[LandedImage, ...] = ()
    failures: tuple[MissingImage, ...] = ()
    billed: int = 0
    usage: dict[str, int] = Field(default_factory=dict)

    def without_prompts(self) -> Submission:
        """Return it as it may cross a deferral: Airflow logs and stores the events of triggers."""
        landed = tuple(image.model_copy(update={"revised_prompt": None}) for image in self.landed)
        return self.model_copy(update={"landed": landed})

    @property
    def task_ids(self) -> list[str]:
        """The gateway's ids of the open tasks."""
        return [task.task_id for task in self.open]


class Hold(_Frozen):
    """Whose submitted tasks are, and where that stands: what a trigger needs to cancel them when it is killed.

    :param aws_conn_id: Connection to S3.
    :param bucket: The ledger's bucket.
    :param ledger_key: Key prefix of its records.
    :param attempt: An :class:`~airflow_provider_imagegen.ledger.Attempt` as JSON.
    """

    aws_conn_id: str | None
    bucket: str
    ledger_key: str
    attempt: dict[str, JsonValue]


class Manifest(_Frozen):
    """The result of one Airflow task: what the operators push to XCom and put beside the images.

    :param version: Version of this schema.
    :param requested: Number of images asked for.
    :param delivered: Number of images in S3.
    :param billed: Number of images paid for by this task instance, as far as the gateway tells.
    :param reused: Number of images that were there already.
    :param usage: Sum of the token counts reported.
    :param fingerprint: SHA-256 of everything that decides what the picture is.
    :param created_at: When the manifest was made, ISO 8601, UTC.
    :param elapsed: Seconds from the first submit to the last image landed.
    :param manifest_uri: Address of this manifest in S3.
    """

    version: Literal[1] = 1
    gateway: str
    model: str | None
    requested: int
    delivered: int
    billed: int
    reused: int
    images: tuple[LandedImage, ...]
    failures: tuple[MissingImage, ...]
    usage: dict[str, JsonValue]
    fingerprint: str
    created_at: str
    elapsed: float
    manifest_uri: str


def _refusal(error: ValidationError, model: type[ImageRequest]) -> InvalidRequest:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    value = "(hidden)" if first["loc"][0] in _HIDDEN_FIELDS else first["input"]
    if first["type"] == "missing":
        return InvalidRequest(field, None, "a value is required")
    if first["type"] == "extra_forbidden":
        known = ", ".join(name for name in model.model_fields if name != "extra")
        return InvalidRequest(field, value, f"known parameters are {known}; put others into extra")
    allowed = _ALLOWED.get(str(first["loc"][0])) or first["msg"].removeprefix("Value error, ")
    return InvalidRequest(field, value, allowed)
