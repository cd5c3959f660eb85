"""Requests: the parameters of one image, or of an edit, as users set them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic_core import PydanticKnownError

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.redaction import address_of, is_utf8, plain_text, shortened, without_queries
from airflow_provider_imagegen.schemas.base import StrictModel

MAX_PROMPT_IN_LOGS = 80
"""Characters of a prompt that may appear in a log."""

# Operators always name prompt and n: in extra they could only be ignored, and n decides what is paid. What operators
# take as extra is a rendered field, which is stored and shown; the address of a callback may hold a secret.
_ONLY_BY_NAME = frozenset({"prompt", "n", "images", "mask", "callback_url", "extra"})
_HIDDEN_FIELDS = frozenset({"callback_url", "extra", "images", "mask"})

UTF8 = "text that UTF-8 can hold, without half of a surrogate pair"
"""What any text of a user must be."""

_ALLOWED = {
    "prompt": "a text that is not empty",
    "n": "a whole number from 1 to 10; GenerateImageBatchOperator makes more, in several rows",
    "output_compression": "a whole number from 0 to 100",
    "partial_images": "a whole number from 0 to 3",
    "stream": "true or false",
    "async_": "true or false",
    "images": "1 to 16 images",
}


class ImageRequest(StrictModel):
    """One call of an image API, in the field's common words; ``None`` means *not set, do not send*.

    Source of names and ranges: the parameter lists of OpenAI's, Ace Data Cloud's and APIGo's
    ``images/generations`` pages.

    :param prompt: What to generate.
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
    :param stream: Whether the gateway should answer with server-sent events.
    :param user: Your id of the end user, for the vendor's abuse monitoring.
    :param callback_url: Where the gateway also pushes the result; polling goes on regardless.
    :param async_: Whether the gateway should answer with a task id at once; gateways with tasks are asked
        to unless it is ``False``.
    :param extra: Further body fields, sent as they are. A parameter that has a name counts as passed by its name,
        unless it is.
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

    @field_validator("*")
    @classmethod
    def _text_is_utf8(cls, value: object) -> object:
        if not is_utf8(value):
            raise PydanticKnownError("string_unicode")
        return value

    @field_validator("prompt")
    @classmethod
    def _prompt_says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a text that is not empty")
        return value

    @model_validator(mode="before")
    @classmethod
    def _names_what_extra_holds(cls, fields: Any) -> Any:
        return with_extra_named(fields, cls) if isinstance(fields, Mapping) else fields

    @field_validator("extra")
    @classmethod
    def _extra_holds_nothing_that_must_be_named(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
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
        """Return everything that decides what the image is: nothing of who asks, or how it is delivered."""
        left_out = {"callback_url", "user", "response_format", "stream", "partial_images"}
        # One image is what a call makes that does not say how many.
        left_out |= {"n"} if self.n == 1 else set()
        return {name: value for name, value in {**self.parameters(), **self.extra}.items() if name not in left_out}

    def described(self) -> dict[str, JsonValue]:
        """Return all that was asked for as it may be kept beside the images: without secrets."""
        asked: dict[str, JsonValue] = {**self.parameters(), **self.extra}
        asked.pop("callback_url", None)
        return {**without_queries(asked), "prompt": self.prompt}

    def shown_prompt(self) -> str:
        """Return the prompt as a log may show it: one line, at most 80 characters."""
        return shortened(" ".join(plain_text(self.prompt).split()), MAX_PROMPT_IN_LOGS)


class ImageSource(StrictModel):
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
        """Its address, or the SHA-256 of its bytes: no other image has the same."""
        return self.url if self.content is None else hashlib.sha256(self.content).hexdigest()  # type: ignore[return-value]

    @property
    def shown(self) -> str:
        """Its address without the query, or the SHA-256 of its bytes."""
        return self.identity if self.content is not None else address_of(self.identity)


class EditRequest(ImageRequest):
    """One call that edits images rather than generating from nothing.

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
        """Return everything that decides what the image is, the images by address or hash."""
        mask = None if self.mask is None else self.mask.identity
        return {**super().asked(), "images": [image.identity for image in self.images], "mask": mask}

    def described(self) -> dict[str, JsonValue]:
        """Return all that was asked for as it may be kept, the images by address or hash."""
        mask = None if self.mask is None else self.mask.shown
        return {**super().described(), "images": [image.shown for image in self.images], "mask": mask}


def with_extra_named(fields: Mapping[str, Any], model: type[ImageRequest] = ImageRequest) -> dict[str, Any]:
    """Return fields of a request with the parameters of their ``extra`` passed by name; what was named stays.

    :param fields: Parameter names and values.
    :param model: Which parameters have names.
    """
    extra = fields.get("extra")
    if not isinstance(extra, Mapping):
        return dict(fields)
    # What a DAG passes in extra may get a name in a later release. It must stay the same request, with the same
    # fingerprint: an upgrade would pay for every image again.
    found = {name: extra[name] for name in extra.keys() & model.model_fields.keys() - _ONLY_BY_NAME}
    rest = {name: value for name, value in extra.items() if name not in found}
    return {**found, **{name: value for name, value in fields.items() if value is not None}, "extra": rest}


def _refusal(error: ValidationError, model: type[ImageRequest]) -> InvalidRequest:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    value = "(hidden)" if first["loc"][0] in _HIDDEN_FIELDS else first["input"]
    if first["type"] == "missing":
        return InvalidRequest(field, None, "a value is required")
    if first["type"] == "extra_forbidden":
        known = ", ".join(name for name in model.model_fields if name != "extra")
        return InvalidRequest(field, value, f"known parameters are {known}; put others into extra")
    if first["type"] == "string_unicode":
        return InvalidRequest(field, value, UTF8)
    allowed = _ALLOWED.get(str(first["loc"][0])) or first["msg"].removeprefix("Value error, ")
    return InvalidRequest(field, value, allowed)
