"""The receipt of a task with ``wait=False`` in XCom, and the landing document beside the ledger.

Created by the generating operators, redeemed by the landing one. Neither holds a secret; the receipt, which Airflow
stores and shows, holds no prompt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ConfigDict, JsonValue, ValidationError

from airflow_provider_imagegen.exceptions import InvalidRequest, LedgerCorrupt
from airflow_provider_imagegen.ledger.documents import document_uri, read_document, write_document
from airflow_provider_imagegen.ledger.models import Attempt
from airflow_provider_imagegen.redaction import without_queries
from airflow_provider_imagegen.schemas import ImageRequest, Submission
from airflow_provider_imagegen.schemas.base import PersistedModel
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.storage.options import ObjectOptions

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from airflow_provider_imagegen.engine.run import GenerateRun
    from airflow_provider_imagegen.ledger.store import Ledger

_RECEIPT = "what a task with wait=False returned, or a list of that"


class KeptRequest(ImageRequest):
    """A request as it is kept: enough to land, price and describe its images, not to ask for them again.

    :param shown_parameters: What was asked for, without secrets.
    """

    model_config = ConfigDict(extra="ignore")

    shown_parameters: dict[str, JsonValue]

    @classmethod
    def of(cls, request: ImageRequest) -> Self:
        """Return a request as it may be kept."""
        # Signed queries and the callback's address may be secrets, and landing needs neither.
        facts = {name: getattr(request, name) for name in ImageRequest.model_fields}
        facts |= {"extra": without_queries(request.extra), "callback_url": None}
        return cls(**facts, shown_parameters=request.described())

    def described(self) -> dict[str, JsonValue]:
        """Return the description made when it was submitted."""
        return dict(self.shown_parameters)


class LandingDocument(PersistedModel):
    """All that landing a submitted request needs.

    :param gateway: Name of the gateway it was submitted to.
    :param submission: What became of the submits.
    :param request: What was asked for.
    :param attempt: Who asked, and pays.
    :param ledger_key: Key prefix of the ledger's records, in the images' bucket.
    :param bucket: Where the images go.
    :param prefix: Key prefix of the images.
    :param options: How objects are put: the fields of
        :class:`~airflow_provider_imagegen.storage.options.ObjectOptions`.
    :param metadata: User metadata of the objects.
    :param svg: Whether svg images are landed.
    :param provenance: Whether images are marked as AI-made.
    """

    version: Literal[1] = 1
    gateway: str
    submission: Submission
    request: KeptRequest
    attempt: Attempt
    ledger_key: str
    bucket: str
    prefix: str
    options: dict[str, JsonValue]
    metadata: dict[str, str]
    svg: bool
    provenance: bool

    @property
    def destination(self) -> Destination:
        """Where the images go."""
        # Another release may have written options that this one does not know.
        known = {field.name for field in dataclasses.fields(ObjectOptions)}
        options: dict[str, Any] = {name: value for name, value in self.options.items() if name in known}
        return Destination(bucket=self.bucket, prefix=self.prefix, options=ObjectOptions(**options))


class Receipt(PersistedModel):
    """What was submitted, for a later task to land: the XCom of a task with ``wait=False``.

    Whoever may write XComs may change it. So it only says which document to read, and the task that lands checks that
    the document is its own ledger's; ids and addresses are taken from there.

    :param dry_run: Always false; the result of a task that only validates has true.
    :param gateway: Name of the gateway.
    :param model: Name of the model, as far as it was named.
    :param requested: Number of images asked for.
    :param task_ids: The gateway's ids of what was open when the task ended.
    :param submission: What became of the submits; for readers, as the counts are.
    :param document_uri: Address of the :class:`LandingDocument`.
    :param imagegen_conn_id: Connection that it was submitted through.
    :param aws_conn_id: Connection to S3.
    """

    version: Literal[1] = 1
    dry_run: bool = False
    gateway: str
    model: str | None
    requested: int
    task_ids: tuple[str, ...]
    submission: Submission
    document_uri: str
    imagegen_conn_id: str
    aws_conn_id: str | None


def create_receipt(
    work: GenerateRun, submission: Submission, imagegen_conn_id: str, aws_conn_id: str | None
) -> Receipt:
    """Write the landing document of a submission without prompts, and return the receipt for it. Blocking.

    :raises UploadFailed: If S3 does not take the document; a retry attaches to what was submitted.
    """
    # Beside the ledger, not in XCom: it holds the prompt.
    uri = document_uri(work.ledger, work.options.attempt, "submitted")
    document = LandingDocument(
        gateway=work.gateway.name,
        submission=submission,
        request=KeptRequest.of(work.request),
        attempt=work.options.attempt,
        ledger_key=work.ledger.prefix,
        bucket=work.destination.bucket,
        prefix=work.destination.prefix,
        options=dataclasses.asdict(work.destination.options),
        metadata=dict(work.metadata),
        svg=work.processing.svg,
        provenance=work.processing.provenance,
    )
    write_document(work.s3, uri, [document.model_dump_json()])
    return Receipt(
        gateway=document.gateway,
        model=work.request.model,
        requested=work.request.n,
        task_ids=tuple(submission.task_ids),
        submission=submission,
        document_uri=uri,
        imagegen_conn_id=imagegen_conn_id,
        aws_conn_id=aws_conn_id,
    )


def read_receipts(given: object) -> Iterator[Receipt]:
    """Yield receipts as they come out of XCom: one, or those of a mapped task; none for what was a dry run.

    :raises InvalidRequest: If one is none.
    """
    # The XComs of a mapped task are a sequence that is no list.
    entries = [given] if isinstance(given, Mapping | str | bytes) or not isinstance(given, Iterable) else given
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("dry_run") is True:
            continue
        try:
            yield Receipt.model_validate(entry)
        except ValidationError:
            raise InvalidRequest("submitted", type(entry).__name__, _RECEIPT) from None


def landing_document(s3: S3Client, receipt: Receipt, ledger: Ledger) -> LandingDocument:
    """Return the document of a receipt. Blocking.

    :param ledger: The ledger of the task that lands, beside which the document must be.
    :raises InvalidRequest: If the receipt or its document names another bucket or ledger.
    :raises LedgerError: If S3 does not return it.
    :raises LedgerCorrupt: If it cannot be understood.
    """
    uri, own = receipt.document_uri, f"s3://{ledger.bucket}/{ledger.prefix}/"
    allowed = f"what was submitted to the s3_bucket and ledger_key of this task: {own}"
    if not uri.startswith(own):
        raise InvalidRequest("submitted", uri, allowed)
    try:
        document = LandingDocument.model_validate_json("".join(read_document(s3, uri)))
    except ValidationError:
        raise LedgerCorrupt(f"{uri} cannot be understood") from None
    if (document.bucket, document.ledger_key) != (ledger.bucket, ledger.prefix):
        raise InvalidRequest("submitted", f"s3://{document.bucket}/{document.ledger_key}/", allowed)
    return document
