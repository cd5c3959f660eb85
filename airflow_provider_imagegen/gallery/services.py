"""What the routes share: one of each in every process of the API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from airflow_provider_imagegen.gallery.reading import Reader
from airflow_provider_imagegen.gallery.serve import Delivery
from airflow_provider_imagegen.gallery.store import Store


@dataclass(frozen=True)
class Services:
    """What the routes share.

    :param redirects: Whether browsers fetch images from S3 themselves.
    """

    store: Store
    reader: Reader
    delivery: Delivery
    redirects: bool


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]
