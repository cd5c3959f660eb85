"""The plugin through which Airflow finds what the provider adds to the UI.

Imported by every Airflow process, so the gallery behind it is built when it is first asked for.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_imagegen.gallery.addresses import PREFIX, RUN_TAB, newest_page
from airflow_provider_imagegen.gallery.lazy import Gallery
from airflow_provider_imagegen.gallery.settings import is_enabled

# Relative to the UI's base, so that they are right behind a path prefix too.
_HERE = PREFIX.lstrip("/")
_VIEW = {"name": "Images", "icon": f"{_HERE}/static/icon.svg", "icon_dark_mode": f"{_HERE}/static/icon-dark.svg"}
_NEWEST = {
    **_VIEW,
    "href": newest_page().lstrip("/"),
    "destination": "nav",
    "category": "browse",
    "url_route": "imagegen-newest",
}
# On runs and not on tasks: before Airflow 3.4 a tab for tasks shows on every task of every DAG.
_RUN = {
    **_VIEW,
    "href": f"{_HERE}/dags/{{DAG_ID}}/runs/{{RUN_ID}}",
    "destination": "dag_run",
    "url_route": RUN_TAB,
}
_APPS: list[Any] = [{"app": Gallery(), "url_prefix": PREFIX, "name": "Image gallery"}]
_VIEWS: list[Any] = [_NEWEST, _RUN]


class ImageGenPlugin(AirflowPlugin):
    """Registers the gallery: an application in the API server, a page in the navigation and a tab on every run.

    Registers nothing where ``[imagegen] gallery`` is off.
    """

    name = "imagegen"
    fastapi_apps = _APPS if is_enabled() else []
    external_views = _VIEWS if is_enabled() else []
