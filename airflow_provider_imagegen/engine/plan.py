"""From one request to the calls it takes, and the ledger key of each: pure decisions, no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_imagegen.catalog import models as catalog
from airflow_provider_imagegen.engine.sources import check_sources
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.ledger.models import PARAMETERS_LENGTH, Attempt, LedgerKey, Reuse
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call to the gateway, its ledger key, and the position of its first image among those asked for."""

    key: LedgerKey
    index: int
    request: ImageRequest
    row: str = ""

    @property
    def count(self) -> int:
        """Number of images it asks for."""
        return self.request.n

    @property
    def indices(self) -> range:
        """Positions of its images among the images asked for."""
        return range(self.index, self.index + self.count)


def check(request: ImageRequest, gateway: Gateway) -> None:
    """Refuse what model or gateway are known not to do, before anything is paid."""
    catalog.check(request)
    if isinstance(request, EditRequest):
        check_sources(request)
    gateway.check(request)


def plan(
    request: ImageRequest, gateway: Gateway, attempt: Attempt, reuse: Reuse, row: str = ""
) -> tuple[PlannedCall, ...]:
    """Split a request into calls that the gateway honours in full, each with its ledger key."""
    if reuse == "never" and row:
        # Equal rows are then paid for one by one: only the row tells their keys apart.
        attempt = attempt.model_copy(update={"row": row})
    calls = []
    for index, part in split(request, gateway):
        # The one place where keys are made: a key computed differently elsewhere would pay for the same image again.
        key = LedgerKey.of(attempt, reuse, index, fingerprint(part, gateway))
        calls.append(PlannedCall(key, index, part, row))
    return tuple(calls)


def split(request: ImageRequest, gateway: Gateway) -> Iterator[tuple[int, ImageRequest]]:
    """Yield the requests that make up a request, each with the position of its first image."""
    step = gateway.images_per_call(request)
    for index in range(0, request.n, step):
        yield index, _with_count(request, min(step, request.n - index))


def fingerprint(request: ImageRequest, gateway: Gateway) -> str:
    """Return a hash of everything that decides the image: gateway, kind of call, parameters; and the address."""
    if account := gateway.settings.account:
        # The name stands for the base URL, so that one account may be reached at several.
        gateway = type(gateway)(replace(gateway.settings, base_url=account))
    call = "edit" if isinstance(request, EditRequest) else "generate"
    url = gateway.edit_url if call == "edit" else gateway.submit_url
    # The kind of call is part of it: some gateways have one address for both, and extra can hold the fields of an edit.
    asked = {"gateway": gateway.name, "call": call, "parameters": request.asked()}
    # So is the address: two deployments behind one gateway class may serve different models by one name. It comes
    # last, so that records of the same parameters at other addresses are next to each other.
    return _half_hash(asked) + _half_hash({"url": url})


def _half_hash(identity: dict[str, Any]) -> str:
    content = json.dumps(identity, sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha256(content).hexdigest()[:PARAMETERS_LENGTH]


def _with_count(request: ImageRequest, count: int) -> ImageRequest:
    """Return the request for ``count`` images, naming ``n`` only where the user did or must."""
    if count == request.n:
        return request
    fields = {name: getattr(request, name) for name in request.model_fields_set - {"n"}}
    return type(request)(**fields, n=count) if count > 1 else type(request)(**fields)
