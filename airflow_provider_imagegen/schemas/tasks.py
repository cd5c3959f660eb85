"""A gateway's view of a request: the task, its state, the images it returns."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from airflow_provider_imagegen.schemas.base import (
    ForeignId,
    ForeignJson,
    ForeignText,
    ForeignWord,
    PersistedModel,
    StrictModel,
)

TaskState = Literal["running", "succeeded", "failed", "unseen", "lost"]


class ImageOutput(StrictModel):
    """One image as a gateway hands it out: where it is, or what it is.

    :param url: Address to fetch it from; may expire, may be signed: never logged whole.
    :param b64_json: The image itself as base64, or a marker in its place; the client turns both into ``file``.
    :param file: The image itself, decoded while the response streamed in; lives as long as the client.
    :param content: The image itself, in memory; what the hook hands out instead of ``file``.
    :param damage: Why the base64 in the response could not be decoded.
    :param revised_prompt: The prompt the model really generated, if the gateway tells.
    """

    url: str | None = Field(default=None, repr=False)
    b64_json: str | None = Field(default=None, repr=False)
    file: Path | None = Field(default=None, repr=False)
    content: bytes | None = Field(default=None, repr=False)
    damage: str | None = None
    revised_prompt: ForeignText | None = None


class TaskFailure(PersistedModel):
    """Reason for which a gateway gave up on a task.

    :param code: The gateway's error code.
    :param message: The gateway's message.
    """

    # Gateways repeat the request in their messages, and failures are kept in the ledger and shown in manifests.
    code: ForeignWord
    message: ForeignText


class ImageTask(StrictModel):
    """State of one request at a gateway that responds at once or through a task.

    :param state: ``running``, ``succeeded``, ``failed``; ``unseen``: the gateway shows no such task (yet);
        ``lost``: it has shown none for too long to be hoped for.
    :param task_id: The gateway's id; ``None`` where it answered at once without one.
    :param trace_id: The id the request can be traced by at the gateway.
    :param outputs: The images, once ``succeeded``.
    :param previews: Partial images that were streamed before.
    :param failure: Why, once ``failed``.
    :param usage: Token counts as the gateway reports them.
    :param created: Unix seconds at which the gateway says the image was made.
    :param reported: What the gateway says it generated: ``size``, ``quality``, ``background``, ``output_format``.
    """

    state: TaskState
    task_id: ForeignId | None = None
    trace_id: ForeignId | None = None
    outputs: tuple[ImageOutput, ...] = ()
    previews: tuple[ImageOutput, ...] = ()
    failure: TaskFailure | None = None
    usage: ForeignJson | None = None
    created: float | None = None
    reported: dict[str, ForeignWord] = Field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.state in {"succeeded", "failed", "lost"}

    def lost_if_unseen(self) -> ImageTask:
        """Return the task as it is once the time has passed in which an accepted task may be invisible."""
        return self.model_copy(update={"state": "lost"}) if self.state == "unseen" else self
