"""APIGo: OpenAI's parameters and shapes, except that every model delivers by temporary URL."""

from __future__ import annotations

from airflow_provider_imagegen.emulator.dialects.openai import OpenAI
from airflow_provider_imagegen.emulator.studio import Studio


def apigo(studio: Studio) -> OpenAI:
    """Return the dialect of APIGo."""
    return OpenAI(studio, name="apigo", delivery="url")
