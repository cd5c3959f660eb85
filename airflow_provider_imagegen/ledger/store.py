"""Read and write the ledger: one small JSON object in S3 for every request generation, beside the images.

S3 is the only place that every worker, triggerer and executor of a deployment can write, that outlives Airflow's
tries, clears and upgrades, and that must work for the images anyway. Airflow's database is not: tasks have no access
to it since Airflow 3, and XComs are deleted when a task is cleared.

Two conditional writes carry the promise:

- **Create** (``If-None-Match: *``) claims a generation. Of two attempts at the same time one wins; the other reads
  what the winner wrote. Listing or reading first and writing then would let both win.
- **Update** (``If-Match`` with the ETag that was read) changes a record only if nobody changed it meanwhile. The loser
  gets :class:`LedgerConflict` and decides again from the new record.

A store without conditional writes is noticed once, and a warning names the weaker guarantee.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import ValidationError

from airflow_provider_imagegen.exceptions import DestinationError, LedgerConflict, LedgerCorrupt, LedgerError
from airflow_provider_imagegen.failpoints import Failpoint, failpoint
from airflow_provider_imagegen.ledger.models import PARAMETERS_LENGTH, SHARED_SCOPE, Entry, LedgerKey, LedgerRecord
from airflow_provider_imagegen.storage import errors
from airflow_provider_imagegen.storage.client import put_checked
from airflow_provider_imagegen.storage.errors import S3_ERRORS, words_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

log = logging.getLogger(__name__)

Standing = Literal["may be new", "is known"]

_NAME = re.compile(r"(?P<scope>[^/]+)/(?P<item>\d+)-(?P<fingerprint>[0-9a-f]+)\.(?P<generation>\d+)\.json")
_TRACE_NAMESPACE = uuid.UUID("6f1d0a52-6c0b-4a55-9c1c-3d1f6f2b8a10")


class Listed(NamedTuple):
    """An object below the ledger key, as S3 lists it.

    :param name: Its key in the bucket.
    :param modified: Unix seconds of its last write, by the clock of the store.
    :param etag: Its version.
    :param filed: Ledger key and generation, if it is a record.
    """

    name: str
    modified: float
    etag: str
    filed: tuple[LedgerKey, int] | None


class Ledger:
    """The records of one bucket."""

    def __init__(self, s3: S3Client, bucket: str, prefix: str) -> None:
        self._s3 = s3
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.may_hold_claims = False
        """Whether anything was claimed through this object; what is not claimed is not sent."""

    def trace_id(self, key: LedgerKey, generation: int) -> str:
        """Return the trace id of a generation: the same in every process that asks."""
        # Derived, not random: a process that was killed before it stored anything can still be looked up.
        return str(uuid.uuid5(_TRACE_NAMESPACE, f"{self.bucket}/{self._object_key(key, generation)}"))

    def create(self, record: LedgerRecord, key: LedgerKey) -> Entry:
        """Claim a generation, or find that somebody has.

        :raises DestinationError: If the bucket is not there or not ours to write: nothing is paid then.
        """
        self.may_hold_claims = True
        if not self._is_conditional() and (found := self.read(key, record.generation)) is not None:
            return found
        record = _signed(record)
        try:
            with failpoint(Failpoint.CLAIM):
                return Entry(record, self._put(key, record, "may be new", IfNoneMatch="*"), is_new=True)
        except LedgerConflict:
            found = self.read(key, record.generation)
        if found is None:
            raise LedgerError(f"the claim {key} is taken and cannot be read", trace_id=record.trace_id)
        # The response to our own put was lost, and botocore has put again; see ``update``.
        return replace(found, is_new=True) if found.record == record else found

    def read(self, key: LedgerKey, generation: int) -> Entry | None:
        """Return a record, or ``None`` if there is none.

        :raises LedgerCorrupt: If it cannot be understood: unreadable is not absent.
        """
        return self._read(self._object_key(key, generation))

    def update(self, key: LedgerKey, entry: Entry, **changes: Any) -> Entry:
        """Change a record, provided it still is what was read; otherwise raise ``LedgerConflict``."""
        record = _signed(entry.record.model_copy(update=changes))
        try:
            with failpoint(Failpoint.RECORD):
                return Entry(record, self._put(key, record, IfMatch=entry.etag))
        except LedgerConflict:
            # Botocore repeats a put whose response was lost, and the repetition of a conditional put fails because the
            # first one succeeded. The write id tells our own write, which is a success, from another attempt's.
            found = self.read(key, record.generation)
            if found is not None and found.record == record:
                return found
            raise

    def others(self, key: LedgerKey) -> list[str]:
        """Return the fingerprints under which the same task instance asked for the same item before.

        Of what all tasks share: those of the same parameters at other addresses.
        """
        start = f"{self.prefix}/{key.scope}/{key.item:04d}-"
        same = key.fingerprint[:PARAMETERS_LENGTH] if key.scope == SHARED_SCOPE else ""
        names = (entry["Key"] for entry in self._list(f"{start}{same}"))
        found = {name.removeprefix(start).partition(".")[0] for name in names}
        return sorted(found - {key.fingerprint})

    def filed(self, scope: str = "") -> list[tuple[LedgerKey, int]]:
        """Return keys and generations of all records, or of those of one scope."""
        start = f"{self.prefix}/"
        found = (self._filed(entry["Key"]) for entry in self._list(f"{start}{scope}/" if scope else start))
        return [filed for filed in found if filed]

    def listed(self) -> Iterator[Listed]:
        """Yield all objects below the ledger key in the order of S3, which is by name."""
        for entry in self._list(f"{self.prefix}/"):
            name = entry["Key"]
            yield Listed(name, entry["LastModified"].timestamp(), entry["ETag"], self._filed(name))

    def delete(self, listed: Listed) -> bool:
        """Delete an object, provided it still is what was listed; return whether this has deleted it."""
        condition: dict[str, Any] = {"IfMatch": listed.etag} if self._is_conditional() else {}
        try:
            self._s3.delete_object(Bucket=self.bucket, Key=listed.name, **condition)
        except S3_ERRORS as error:
            if errors.is_condition_failed(error) or errors.is_not_there(error):
                return False
            raise self._fault(error, f"{listed.name} cannot be deleted") from None
        return True

    def uri(self, key: LedgerKey, generation: int) -> str:
        """Return the address of a record."""
        return f"s3://{self.bucket}/{self._object_key(key, generation)}"

    def check_bucket(self) -> None:
        """Look whether the bucket is there and ours to read; whether it can be written, only a claim tells."""
        try:
            self._s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.prefix}/", MaxKeys=1)
        except S3_ERRORS as error:
            raise self._fault(error, "nothing was sent", "may be new") from None

    def _filed(self, name: str) -> tuple[LedgerKey, int] | None:
        match = _NAME.fullmatch(name.removeprefix(f"{self.prefix}/"))
        if match is None:
            return None
        return LedgerKey(match["scope"], int(match["item"]), match["fingerprint"]), int(match["generation"])

    def _object_key(self, key: LedgerKey, generation: int) -> str:
        return f"{self.prefix}/{key}.{generation}.json"

    def _put(self, key: LedgerKey, record: LedgerRecord, what: Standing = "is known", **condition: Any) -> str:
        arguments: dict[str, Any] = {
            "Bucket": self.bucket,
            "Key": self._object_key(key, record.generation),
            "ContentType": "application/json",
        }
        if self._is_conditional():
            arguments |= condition
        try:
            return str(_put_bytes(self._s3, record.model_dump_json().encode(), **arguments)["ETag"])
        except S3_ERRORS as error:
            fault = self._fault(error, f"the record {key} cannot be written", what)
            if isinstance(fault, LedgerError):
                fault.trace_id = record.trace_id
            raise fault from None

    def _read(self, name: str) -> Entry | None:
        try:
            found = self._s3.get_object(Bucket=self.bucket, Key=name)
            body, etag = found["Body"].read(), found["ETag"]
        except S3_ERRORS as error:
            if errors.is_not_there(error):
                return None
            raise self._fault(error, f"the record {name} cannot be read") from None
        try:
            return Entry(LedgerRecord.model_validate_json(body), etag, age=_age(found))
        except ValidationError:
            # Never "no record": what is taken for absent is paid again.
            raise LedgerCorrupt(f"the record s3://{self.bucket}/{name} cannot be understood") from None

    def _list(self, start: str) -> Iterator[ObjectTypeDef]:
        try:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
            for page in pages:
                yield from page.get("Contents", [])
        except S3_ERRORS as error:
            raise self._fault(error, f"bucket {self.bucket!r} cannot be listed") from None

    def _fault(self, error: BaseException, what: str, record: Standing = "is known") -> LedgerError | DestinationError:
        """Return what an error of S3 means; only a claim can find that the destination was never usable."""
        if errors.is_condition_failed(error):
            return LedgerConflict(f"{what}: another attempt was faster")
        # Anything but a claim comes after a claim that was written: the bucket was usable then, and something may have
        # been paid for since.
        is_unusable = errors.is_not_ours(error) or "credentials" in str(error).lower()
        if is_unusable and record == "may be new":
            return DestinationError(f"s3_bucket={self.bucket!r} cannot be used: {words_of(error)}")
        return LedgerError(f"{what}: {words_of(error)}", billed="no" if record == "may be new" else "unknown")

    def _is_conditional(self) -> bool:
        return _is_conditional(self._s3, self.bucket, self.prefix)


def _signed(record: LedgerRecord) -> LedgerRecord:
    return record.model_copy(update={"write_id": uuid.uuid4().hex})


def _put_bytes(s3: S3Client, content: bytes, **arguments: Any) -> Mapping[str, Any]:
    return put_checked(s3, io.BytesIO(content), hashlib.sha256(content).hexdigest(), **arguments)


def _age(found: Mapping[str, Any]) -> float:
    """Return how old an object is by the clock of the store, which all workers share."""
    date = found["ResponseMetadata"]["HTTPHeaders"].get("date")
    # Without one, as if it were long ago: whoever waits for another attempt to finish must not wait for ever.
    if date is None:
        return float("inf")
    now = parsedate_to_datetime(date)
    return max(0.0, float((now - found["LastModified"]).total_seconds()))


@cache
def _is_conditional(s3: S3Client, bucket: str, prefix: str) -> bool:
    """Return whether the store honours conditional puts; asked once per process, and never of AWS itself."""
    if "amazonaws.com" in s3.meta.endpoint_url:
        return True
    probe = {"Bucket": bucket, "Key": f"{prefix}/conditional-writes", "IfNoneMatch": "*"}
    # Twice: a store that ignores the condition lets the second of two puts win too.
    for _ in range(2):
        try:
            _put_bytes(s3, b"", **probe)
        except S3_ERRORS as error:
            if errors.is_condition_failed(error):
                return True
            if not errors.is_unknown_to_store(error):
                # Whatever is wrong here, the claim itself meets it next and says so.
                return True
            break
    log.warning(
        "The S3 store at %s ignores conditional writes: two attempts at the same moment could both pay.",
        s3.meta.endpoint_url,
    )
    return False
