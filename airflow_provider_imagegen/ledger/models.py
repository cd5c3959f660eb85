"""Data of the ledger: attempts, records, and the keys under which they are filed."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from airflow_provider_imagegen.money import NOTHING, UNKNOWN, Cost
from airflow_provider_imagegen.schemas import LandedImage, TaskFailure
from airflow_provider_imagegen.schemas.base import Money

Reuse = Literal["task", "always", "never"]
State = Literal["claimed", "waiting", "submitted", "cancelling", "answered", "landed", "failed"]

PARAMETERS_LENGTH = 32
"""Letters of a fingerprint that tell gateway and parameters; the other half tells the address."""
SHARED_SCOPE = "shared"
"""Scope of what anyone may reuse."""


class Attempt(BaseModel):
    """One try of one task instance.

    :param epoch: How often the task instance was cleared before this try.
    :param row: Key of the row of a batch that asks, where equal rows are to be distinguished.
    :param process: Host and process id, for people who look.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    try_number: int = 1
    epoch: int = 0
    row: str = ""
    process: str = ""

    @classmethod
    def of(cls, ti: Any, retries: int) -> Attempt:
        """Return the attempt of a task instance.

        :param ti: The running task instance.
        :param retries: Retries that the task is allowed.
        """
        return cls(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
            try_number=ti.try_number,
            # ``max_tries`` grows when a task is cleared and not when it is retried. Nothing else tells the two apart,
            # and they differ in what may be paid again.
            epoch=max(0, ti.max_tries - retries),
            process=f"{socket.gethostname()}:{os.getpid()}",
        )

    @property
    def instance(self) -> tuple[str, str, str, int]:
        """The task instance, whatever the try."""
        return self.dag_id, self.task_id, self.run_id, self.map_index

    def is_same_try(self, other: Attempt) -> bool:
        """Return whether both are the same try, perhaps in different processes."""
        return (self.instance, self.try_number) == (other.instance, other.try_number)


class LedgerRecord(BaseModel):
    """State of one request generation.

    :param state: ``claimed`` (may have been sent), ``waiting`` (refused for now, so not sent: to be sent again, as the
        same generation), ``submitted`` (the gateway has it), ``cancelling``
        (and was asked to drop it), ``answered`` (paid, and
        the image came with the response), ``landed`` (in S3), ``failed`` (not billed, for good).
    :param key: The ledger key, without the generation.
    :param base_url: Where it was sent.
    :param generation: 1, and one more for every time it had to be, or was asked to be, generated again.
    :param trace_id: Derived from key and generation; sent with the call where the gateway takes one.
    :param attempt: Who claimed it, or attached to it where the gateway can cancel or a clear asks for new images; once
        landed, who landed it, or waited for it after a later clear.
    :param claimed_at: Unix seconds; renewed while a claimant waits before sending.
    :param images: What landed.
    :param billed: Number of images paid for in this generation.
    :param billed_before: Number of images the same task instance has paid for in earlier generations.
    :param cost: What this generation cost; ``None`` if that is not known.
    :param cost_before: What the same task instance has paid for earlier generations; ``None`` if that is not known.
    :param estimate: What it was expected to cost at most when it was claimed; ``None`` if that was not known.
    :param currency: What these are in.
    :param failure: Why it failed, or was refused for now; of a submitted one, why what the gateway has cannot be
        landed.
    :param account: A short digest by which the account that is billed is known again.
    :param write_id: Of the last write, by which its author knows it for their own.
    """

    # A record outlives upgrades and roll-backs: fields of a newer release are ignored, and fields that were added later
    # have a default, because records of an older one lack them.
    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    state: State
    key: str
    generation: int
    item: int
    fingerprint: str
    gateway: str
    base_url: str = ""
    trace_id: str
    attempt: Attempt
    claimed_at: float
    updated_at: float
    task_id: str | None = None
    images: tuple[LandedImage, ...] = ()
    failure: TaskFailure | None = None
    billed: int = 0
    billed_before: int = 0
    usage: dict[str, JsonValue] = {}
    cost: Money | None = None
    cost_before: Money | None = None
    estimate: Money | None = None
    currency: str = ""
    account: str = ""
    write_id: str = ""

    def cost_in(self, currency: str) -> Cost:
        """Return what this generation cost, as far as it is known to be billed."""
        return self._cost(self.billed, self.cost, currency)

    def cost_before_in(self, currency: str) -> Cost:
        """Return what the same task instance has paid for earlier generations."""
        return self._cost(self.billed_before, self.cost_before, currency)

    def estimate_in(self, currency: str) -> Cost:
        """Return what this generation was expected to cost at most."""
        return self._cost(1, self.estimate, currency)

    def _cost(self, billed: int, amount: Decimal | None, currency: str) -> Cost:
        if not billed:
            return NOTHING
        # The connection's currency may have been changed since; a sum over two of them would be wrong.
        return Cost.of(amount) if self.currency == currency else UNKNOWN


@dataclass(frozen=True)
class Entry:
    """A record as it stands in S3.

    :param record: What it says.
    :param etag: Its version, which an update must match.
    :param is_new: Whether this process has just created it.
    :param age: Seconds since its last write when it was read, by S3's own clock.
    """

    record: LedgerRecord
    etag: str
    is_new: bool = False
    age: float = 0.0


@dataclass(frozen=True)
class LedgerKey:
    """Place of the records of one call.

    :param scope: Whose it is: a task instance's, or everybody's.
    :param item: Position of the call's first image among the images asked for.
    :param fingerprint: What the image is decided by.
    """

    scope: str
    item: int
    fingerprint: str

    @classmethod
    def of(cls, attempt: Attempt, reuse: Reuse, item: int, fingerprint: str) -> LedgerKey:
        """Return the key under which an attempt finds what it may reuse."""
        if reuse == "always":
            return cls(SHARED_SCOPE, item, fingerprint)
        owner: list[Any] = [*attempt.instance]
        if reuse == "never":
            # Still a key and not a random one: a worker that is killed finds its own request again within the try.
            owner += [attempt.try_number, *([attempt.row] if attempt.row else [])]
        return cls(hashlib.sha256(json.dumps(owner).encode()).hexdigest()[:32], item, fingerprint)

    def __str__(self) -> str:
        return f"{self.scope}/{self.item:04d}-{self.fingerprint}"
