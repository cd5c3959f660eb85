"""Results of a request: open tasks, landed images, missing images, the manifest."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

from pydantic import Field, JsonValue

from airflow_provider_imagegen import exceptions
from airflow_provider_imagegen.exceptions import Billed, ImageGenError
from airflow_provider_imagegen.schemas.base import Money, PersistedModel, StrictModel

FAILURE = "failure"
"""XCom key under which a task that fails tells why: a :class:`Failure`, or the manifest or summary of what landed."""


class LandedImage(PersistedModel):
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
    :param revised_prompt: The prompt the model really generated, if the gateway tells.
    :param reused: Whether it was landed earlier and cost nothing this time.
    :param differs: In what it is not what was asked for, e.g. ``{"size": "1254x1254"}``.
    :param provenance: What became of the mark for AI-made images; ``None`` if none was asked for.
    :param cost: What it cost to make, whoever paid for it and when; ``None`` if that is not known.
    :param usage: Its share of the token counts of the response it came with.
    :param created_at: When it was first put into S3, ISO 8601, UTC; ``None`` if an earlier release put it.
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
    differs: dict[str, str] = Field(default_factory=dict)
    provenance: str | None = None
    cost: Money | None = None
    usage: dict[str, int] = Field(default_factory=dict)
    created_at: str | None = None


class MissingImage(PersistedModel):
    """One image that was asked for and did not land.

    :param index: Position among the images asked for, from 0.
    :param code: The gateway's error code, or this provider's word for what went wrong.
    :param message: What happened.
    :param billed: Whether money was spent on it.
    :param kind: :attr:`~airflow_provider_imagegen.exceptions.ImageGenError.kind` of the error.
    """

    index: int
    code: str
    message: str
    billed: Billed
    # The default is for what was stored before there was a kind.
    kind: str = exceptions.GenerationFailed.kind

    @classmethod
    def because_of(cls, error: ImageGenError, index: int) -> MissingImage:
        """Return why image ``index`` is missing."""
        code = error.code or error.kind
        return cls(index=index, code=code, message=error.message, billed=error.billed, kind=error.kind)

    def as_error(self, gateway: str) -> ImageGenError:
        """Return the error again, on the other side of a deferral."""
        return exceptions.restored_error(self.kind, self.message, gateway=gateway, code=self.code, billed=self.billed)


class OpenTask(PersistedModel):
    """A task that was submitted and is not landed: what crosses a deferral, ids only.

    :param index: Position of its first image among the images asked for.
    :param count: Number of images it was asked for.
    :param task_id: The gateway's id.
    :param trace_id: The id the request can be traced by at the gateway.
    :param scope: Scope of its ledger key.
    :param fingerprint: Fingerprint of its ledger key.
    :param generation: Generation of its ledger record.
    :param submitted_at: Unix seconds at which the gateway was last known to take it.
    """

    index: int
    count: int
    task_id: str
    trace_id: str | None = None
    scope: str
    fingerprint: str
    generation: int
    submitted_at: float | None = None


class SlotWait(PersistedModel):
    """Place of a task among those that wait for a slot at their gateway.

    :param since: Unix seconds of its first refusal, which decide the order.
    :param refusals: How often it was refused since.
    :param not_before: Unix seconds before which the gateway asked not to be asked again.
    :param priority: The task's ``priority_weight``; the highest goes first.
    """

    since: float
    refusals: int = 0
    not_before: float = 0.0
    priority: int = 1


class Submission(PersistedModel):
    """Results of the submits of one Airflow task.

    :param submitted_at: Unix seconds of the first submit.
    :param deadline: Unix seconds at which to stop waiting.
    :param open: Tasks to wait for.
    :param landed: Images that are in S3 already: reused, or come with the response to the submit.
    :param failures: Images that were refused.
    :param billed: Number of images that this task instance has paid for, without those of open tasks.
    :param usage: Token counts, without those of open tasks.
    :param cost: What this task instance has paid, without open tasks; ``None`` if part of it is not known.
    :param cost_at_least: The part of it that is known.
    :param fingerprint: Hash of everything that decides what the image is.
    :param slot: Set while part of it is not submitted, for lack of a slot at the gateway.
    :param left_open: Number of open tasks whose end is not waited for, since there is more to submit before.
    """

    submitted_at: float
    deadline: float
    open: tuple[OpenTask, ...] = ()
    landed: tuple[LandedImage, ...] = ()
    failures: tuple[MissingImage, ...] = ()
    billed: int = 0
    usage: dict[str, int] = Field(default_factory=dict)
    cost: Money | None = None
    cost_at_least: Money = Decimal(0)
    fingerprint: str = ""
    slot: SlotWait | None = None
    left_open: int = 0

    def without_prompts(self) -> Submission:
        """Return it as it may cross a deferral."""
        # Airflow logs the events of triggers whole and stores them unencrypted.
        landed = tuple(image.model_copy(update={"revised_prompt": None}) for image in self.landed)
        return self.model_copy(update={"landed": landed})

    @property
    def has_accepted(self) -> bool:
        """Whether the gateway has accepted part of it, which is billed."""
        return self.slot is None or bool(self.open or self.billed)

    @property
    def last_submitted_at(self) -> float:
        """Unix seconds since when every open task is at the gateway."""
        return max((task.submitted_at or self.submitted_at for task in self.open), default=self.submitted_at)

    @property
    def task_ids(self) -> list[str]:
        """The gateway's ids of the open tasks."""
        return [task.task_id for task in self.open]


class CancelContext(PersistedModel):
    """Owner of submitted tasks, and place of its ledger: a trigger needs it to cancel them when it is killed.

    :param aws_conn_id: Connection to S3.
    :param bucket: The ledger's bucket.
    :param ledger_key: Key prefix of its records.
    :param attempt: An :class:`~airflow_provider_imagegen.ledger.models.Attempt` as JSON.
    """

    aws_conn_id: str | None
    bucket: str
    ledger_key: str
    # Not the model itself: the ledger's models are in a layer above, because they hold these.
    attempt: dict[str, JsonValue]


class Manifest(StrictModel):
    """The result of one Airflow task: what the operators push to XCom and put beside the images.

    :param version: Version of this schema.
    :param dry_run: Whether nothing was sent, because the task only validates.
    :param requested: Number of images asked for.
    :param delivered: Number of images in S3.
    :param billed: Number of images paid for by this task instance, as far as the gateway tells.
    :param reused: Number of images that were there already.
    :param usage: Sum of the token counts reported.
    :param cost: What this task instance has paid for what ``billed`` counts, in all its tries; ``None`` if part of
        it is not known.
    :param cost_at_least: The part of it that is known.
    :param currency: What costs are in.
    :param fingerprint: Hash of everything that decides what the image is.
    :param created_at: When the manifest was made, ISO 8601, UTC.
    :param elapsed: Seconds from the first submit to the last image landed.
    :param manifest_uri: Address of this manifest in S3; empty where nothing landed.
    """

    version: Literal[1] = 1
    dry_run: bool = False
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
    cost: Money | None = None
    cost_at_least: Money = Decimal(0)
    currency: str = "USD"


class Failure(StrictModel):
    """Reason for which a task failed that has landed nothing; reads like a :class:`Manifest` without images.

    :param version: Version of this schema.
    :param gateway: Name of the gateway that was spoken to; empty if none was.
    :param model: The model asked for, where the task has one.
    :param failures: The reason, in one entry, however many images were asked for; of wrong rows, one for each of the
        first.
    """

    version: Literal[1] = 1
    gateway: str = ""
    model: str | None = None
    images: tuple[LandedImage, ...] = ()
    failures: tuple[MissingImage, ...]

    @classmethod
    def because_of(cls, error: ImageGenError, model: str | None) -> Failure:
        """Return the failure that an error means; of wrong rows, each of the first."""
        reason = MissingImage.because_of(error, 0)
        reasons: Iterable[MissingImage] = [reason]
        if isinstance(error, exceptions.InvalidRows):
            rows = enumerate(error.rows[: exceptions.ROWS_SHOWN])
            reasons = (reason.model_copy(update={"index": index, "message": str(row)}) for index, row in rows)
        return cls(gateway=error.gateway or "", model=model, failures=tuple(reasons))


class Origin(PersistedModel):
    """The Airflow task instance that asked."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int


class Sidecar(Manifest):
    """Content of ``manifest.json`` beside the images: the manifest, and its origin.

    :param provider_version: Release of this provider.
    :param origin: Who asked.
    :param request: What was asked for, without secrets and image bytes.
    :param prompt_sha256: Hex digest of the prompt, to find images by without showing it.
    """

    provider_version: str
    origin: Origin
    request: dict[str, JsonValue]
    prompt_sha256: str
