"""What a page shows: one card for every image, and one for every image that is missing. Pure.

``listing`` makes them; the pages get them as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, JsonValue

from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.exceptions import IncompleteBatch, ModerationBlocked, restored_error
from airflow_provider_imagegen.gallery.addresses import PREFIX, image_path
from airflow_provider_imagegen.gallery.airflow_api import EndedTask, Instance, Run
from airflow_provider_imagegen.gallery.models import (
    MAX_IMAGES,
    Result,
    ShownManifest,
    ShownSidecar,
    ShownSummary,
    is_beside,
)
from airflow_provider_imagegen.redaction import plain_text
from airflow_provider_imagegen.schemas import LandedImage, MissingImage
from airflow_provider_imagegen.schemas.base import Money, StrictModel
from airflow_provider_imagegen.storage.tempfiles import SVG

MAX_TEXT = 8000
"""Characters of one text that is shown; a prompt can have 32 000."""

UNREADABLE = "unreadable"
"""Code of a card that stands for something that cannot be read."""

Status = Literal["", "landed", "reused", "failed", "failed-billed"]

_OWN_OPERATOR = re.compile(r"(Generate|Edit|Land)Image|^@task\.\w*image")
# What Airflow shows of a field that a decorated function sets, if it never came to that.
_NOT_YET_KNOWN = "DYNAMIC (set during execution)"
# What Airflow puts before the beginning of a field that is too long for its database; some releases quote that.
_TRUNCATED = re.compile(r"Truncated\. You can change this behaviour in \[core\]max_templated_field_length\. ['\"]?")
_CLASS_NAME = re.compile(r"(?:[A-Z][a-z0-9]+){2,}")
_NOT_PARAMETERS = frozenset({"prompt", "model"})


class Card(StrictModel):
    """One image, or why there is none.

    :param name: A row's key, or the label of a mapped task instance.
    :param address: Of the image, below the gallery; its thumbnail is at ``<address>/thumbnail``.
    :param row: Position in the batch.
    :param version: Query of the address that changes with the image.
    :param usage: Token counts.
    :param cost: What it cost to make; ``None`` if that is not known.
    :param reused: Whether it was paid for earlier, by this task or another one.
    :param advice: What to do about what is missing.
    :param billed: ``yes``, ``no`` or ``unknown`` for what is missing.
    """

    kind: Literal["image", "failure"]
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    row: int | None = None
    index: int | None = None
    name: str = ""
    created_at: str = ""
    gateway: str = ""
    model: str = ""
    prompt: str = ""
    revised_prompt: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    usage: dict[str, JsonValue] = Field(default_factory=dict)
    cost: Money | None = None
    currency: str = ""

    address: str = ""
    version: str = ""
    has_thumbnail: bool = True
    uri: str = ""
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    content_type: str = ""
    gateway_task_id: str = ""
    trace_id: str = ""
    reused: bool = False
    differs: dict[str, str] = Field(default_factory=dict)

    code: str = ""
    message: str = ""
    advice: str = ""
    billed: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON data; instead of one that JSON cannot hold, one that says so."""
        try:
            # Numbers that JSON does not know become null on the way.
            shown: dict[str, Any] = json.loads(self.model_dump_json(exclude_defaults=True))
        except ValueError:
            instance = Instance(self.dag_id, self.run_id, self.task_id, self.map_index)
            return unreadable(instance, "It contains values that cannot be shown.", plain_text(self.name)).as_json()
        return shown


class Wish(StrictModel):
    """What a user wants to see.

    :param model: Part of the model's name.
    :param status: Images, or what is missing; empty for both.
    :param text: Words, all of which the card must contain.
    """

    model: str = ""
    status: Status = ""
    text: str = ""

    def is_met_by(self, card: Card) -> bool:
        """Return whether a card is wanted."""
        return (
            self.model.casefold() in card.model.casefold()
            and self._has_status(card)
            and all(word in _searched(card) for word in self.text.casefold().split())
        )

    def _has_status(self, card: Card) -> bool:
        match self.status:
            case "landed":
                return card.kind == "image"
            case "reused":
                return card.reused
            case "failed":
                return card.kind == "failure"
            case "failed-billed":
                return card.billed in {"yes", "unknown"}
        return True


def of_manifest(instance: Instance, manifest: ShownManifest, sidecar: ShownSidecar | None) -> list[Card]:
    """Return the cards of one request."""
    request = _request(sidecar.request if sidecar else {}, manifest.model)
    return _of_manifest(instance, manifest, request, manifest.created_at)


def _of_manifest(
    instance: Instance, manifest: ShownManifest, request: Mapping[str, object], created_at: str
) -> list[Card]:
    shared = {
        **_place(instance),
        **request,
        "created_at": created_at,
        "gateway": manifest.gateway,
        "currency": manifest.currency,
    }
    images = [Card(**shared, **_image(instance, image, manifest)) for image in manifest.images[:MAX_IMAGES]]
    return [*images, *(Card(**shared, **_failure(missing)) for missing in manifest.failures[:MAX_IMAGES])]


def of_row(instance: Instance, summary: ShownSummary, row: RowResult, at: int) -> list[Card]:
    """Return the cards of one row of a batch.

    :param at: Where its line begins, which spares looking for it.
    """
    shared = {
        **_place(instance),
        **_request(row.request, None),
        "row": row.row,
        "name": row.key,
        "created_at": summary.created_at,
        "gateway": summary.gateway,
        "currency": summary.currency,
    }
    images = [Card(**shared, **_image(instance, image, summary, row.row, at)) for image in row.images[:MAX_IMAGES]]
    failures = [Card(**shared, **_failure(missing)) for missing in row.failures[:MAX_IMAGES]]
    if row.status != "landed" and not failures:
        failures = [Card(**shared, **_refusal(row))]
    return [*images, *failures]


def is_own(task: EndedTask) -> bool:
    """Return whether a task is one of this provider's, as far as its operator's name tells."""
    return _OWN_OPERATOR.search(task.operator) is not None


def of_failed(task: EndedTask, fields: Mapping[str, JsonValue], reported: ShownManifest | None = None) -> list[Card]:
    """Return the cards of a task that has failed and landed nothing.

    :param fields: Its rendered template fields.
    :param reported: What it reported of its failure, if it did.
    """
    request, ended_at = (
        _request(fields, reported.model if reported else None, with_parameters=False),
        task.ended_at or "",
    )
    if reported is not None:
        return _of_manifest(task.instance, reported, request, reported.created_at or ended_at)
    silent = Card(
        kind="failure",
        **_place(task.instance),
        **request,
        created_at=ended_at,
        code="task_failed",
        message="The task failed. See its log for the reason and for whether anything was billed.",
        billed="unknown",
    )
    return [silent]


def unreadable(instance: Instance, reason: str, name: str = "") -> Card:
    """Return the card of something that cannot be read.

    :param name: Tells it from others of the same task.
    """
    return Card(kind="failure", **_place(instance), name=name, code=UNREADABLE, message=reason)


def unreadable_run(run: Run, reason: str) -> Card:
    """Return the card of a run that cannot be read."""
    return unreadable(Instance(run.dag_id, run.run_id, "", -1), f"The run {run.run_id!r} cannot be read. {reason}")


def _place(instance: Instance) -> dict[str, JsonValue]:
    return {
        "dag_id": instance.dag_id,
        "run_id": instance.run_id,
        "task_id": instance.task_id,
        "map_index": instance.map_index,
    }


def _request(request: Mapping[str, JsonValue], model: str | None, *, with_parameters: bool = True) -> dict[str, object]:
    parameters = {name: value for name, value in request.items() if name not in _NOT_PARAMETERS and value is not None}
    return {
        "prompt": _short(_prompt(request.get("prompt"))),
        "model": _short(model or request.get("model")),
        "parameters": parameters if with_parameters else {},
    }


def _image(
    instance: Instance, image: LandedImage, result: Result, row: int | None = None, at: int | None = None
) -> dict[str, object]:
    if not is_beside(image, result):
        words = f"The XCom names the bucket {image.bucket!r} for the image, and another one for its manifest."
        return {"kind": "failure", "index": image.index, "code": UNREADABLE, "message": _short(words)}
    hint = "" if at is None else f"at={at}"
    address = image_path(instance.dag_id, instance.run_id, instance.task_id, instance.map_index, image.index, row=row)
    return {
        "kind": "image",
        "index": image.index,
        "address": address.removeprefix(f"{PREFIX}/"),
        "version": "&".join(filter(None, [hint, f"v={image.sha256[:16]}"])),
        "has_thumbnail": image.content_type != SVG,
        "uri": image.uri,
        "bytes": image.bytes,
        "width": image.width,
        "height": image.height,
        "content_type": image.content_type,
        "gateway_task_id": image.task_id or "",
        "trace_id": image.trace_id or "",
        "reused": image.reused,
        "differs": image.differs,
        "usage": image.usage,
        "cost": image.cost,
        "revised_prompt": _short(image.revised_prompt),
    }


def _failure(missing: MissingImage) -> dict[str, object]:
    return {
        "kind": "failure",
        "index": missing.index,
        "code": _code(missing.code),
        "message": _short(missing.message),
        "advice": missing.as_error("").advice,
        "billed": missing.billed,
    }


def _refusal(row: RowResult) -> dict[str, object]:
    billed = "unknown" if row.status == "unknown" else "yes" if row.billed else "no"
    return {
        "kind": "failure",
        "code": _code(row.code or row.status),
        "message": _short(row.message),
        "advice": _advice(row),
        "billed": billed,
        "usage": row.usage,
        "cost": row.cost,
    }


def _advice(row: RowResult) -> str:
    """Return the advice of the error that a row ended with, as far as its code tells which one it was."""
    error = restored_error(row.code or "", "", gateway="", code="", billed="no")
    if error.kind == row.code:
        return error.advice
    if row.is_moderated:
        return ModerationBlocked.advice
    return "A retry does only what is missing." if row.retryable else IncompleteBatch.advice


def _code(code: str) -> str:
    """Return a code in the spelling that most gateways use; errors without one are named by their class."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", code).lower() if _CLASS_NAME.fullmatch(code) else code


def _prompt(text: object) -> object:
    """Return a prompt, or as much of it as Airflow keeps in its rendered fields."""
    if not isinstance(text, str) or text == _NOT_YET_KNOWN:
        return ""
    if (note := _TRUNCATED.match(text)) is None:
        return text
    start = text[note.end() :].strip().removesuffix("...").rstrip("'\"")
    return f"{start}…" if start else ""


def _searched(card: Card) -> str:
    texts = (
        card.prompt,
        card.revised_prompt,
        card.name,
        card.dag_id,
        card.task_id,
        card.model,
        card.code,
        card.message,
        card.gateway_task_id,
        card.trace_id,
        card.uri,
    )
    return "\n".join(texts).casefold()


def _short(text: object) -> str:
    text = text if isinstance(text, str) else ""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
