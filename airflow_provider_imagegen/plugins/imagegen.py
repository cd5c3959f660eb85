"""The plugin through which Airflow finds what the provider adds to the UI."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowPlugin


class ImageGenPlugin(AirflowPlugin):
    """Registers the provider with Airflow's plugin manager."""

    name = "imagegen"
