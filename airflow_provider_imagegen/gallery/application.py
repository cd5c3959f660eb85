"""The gallery's web application; ``lazy`` builds it when the API server gets the first request for it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders

from airflow_provider_imagegen.gallery import pages, routes
from airflow_provider_imagegen.gallery.access import REQUIRED
from airflow_provider_imagegen.gallery.asgi import Application, Receive, Scope, Send
from airflow_provider_imagegen.gallery.reading import Reader
from airflow_provider_imagegen.gallery.serve import Delivery
from airflow_provider_imagegen.gallery.services import Services
from airflow_provider_imagegen.gallery.settings import GallerySettings
from airflow_provider_imagegen.gallery.store import Store

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}


def create_application() -> FastAPI:
    """Build the application; every route of it asks for permission."""
    settings = GallerySettings.configured()
    store = Store(settings.aws_conn_id)
    application = FastAPI(
        title="Gallery of generated images",
        dependencies=REQUIRED,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    application.state.services = Services(
        store=store,
        reader=Reader(store),
        delivery=Delivery(store, settings),
        redirects=settings.redirects,
    )
    application.include_router(pages.router)
    application.include_router(routes.router)
    application.add_middleware(CarefulHeaders)
    return application


class CarefulHeaders:
    """Adds to every response what keeps browsers careful, where the route has not said something else.

    :param app: What is behind it.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
