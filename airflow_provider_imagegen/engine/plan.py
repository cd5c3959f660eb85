"""From one request to the calls it takes, and what each of them is known by; pure decisions, no I/O."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from airflow_provider_imagegen.catalog import models as catalog
from airflow_provider_imagegen.engine.sources import check_sources
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest


@dataclass(frozen=True)
class Call:
    """One call to the gateway.

    :param index: Position of its first image among the images asked for.
    :param request: What the call says; its ``n`` is what one call can make.
    """

    index: int
    request: ImageRequest

    @property
    def count(self) -> int:
        """Number of images it asks for."""
        return self.request.n

    @property
    def indices(self) -> range:
        """Positions of its images among the images asked for."""
        return range(self.index, self.index + self.count)


def check(request: ImageRequest, gateway: Gateway) -> None:
    """Refuse what model or gateway are known not to do, before anything is paid.

    :raises InvalidRequest: Naming field, value, and what is allowed.
    """
    catalog.check(request)
    if isinstance(request, EditRequest):
        check_sources(request)
    gateway.check(request)


def plan(request: ImageRequest, gateway: Gateway) -> tuple[Call, ...]:
    """Split a request into calls that the gateway honours in full."""
    step = gateway.images_per_call(request)
    return tuple(Call(index, _with_count(request, min(step, request.n - index))) for index in range(0, request.n, step))


def fingerprint(request: ImageRequest, gateway: Gateway) -> str:
    """Return the SHA-256 of everything that decides what the image is: gateway, address, parameters."""
    url = gateway.edit_url if isinstance(request, EditRequest) else gateway.submit_url
    identity = {"gateway": gateway.name, "url": url, "parameters": request.asked()}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _with_count(request: ImageRequest, count: int) -> ImageRequest:
    """Return the request for ``count`` images, naming ``n`` only where the user did or must."""
    if count == request.n:
        return request
    fields = {name: getattr(request, name) for name in request.model_fields_set - {"n"}}
    return type(request)(**fields, n=count) if count > 1 else type(request)(**fields)
