"""The gallery as Airflow's API server mounts it: built at the first request.

Airflow imports plugins in workers, triggerers and schedulers too, where this must cost nothing.
"""

from __future__ import annotations

from airflow_provider_imagegen.gallery.addresses import PREFIX
from airflow_provider_imagegen.gallery.asgi import HOST, Application, Receive, Scope, Send


class Gallery:
    """An ASGI application."""

    def __init__(self) -> None:
        self._application: Application | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if self._application is None:
            from airflow_provider_imagegen.gallery.application import create_application

            self._application = create_application()
        # Starlette puts the innermost application there next.
        scope[HOST] = (scope.get("app"), scope.get("root_path", "").removesuffix(PREFIX))
        await self._application(scope, receive, send)
