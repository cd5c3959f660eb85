"""A local gateway that draws real images, keeps the bill, and misbehaves on request.

An independent implementation of the protocols: it imports nothing of the provider, and the provider nothing of it.
``python -m airflow_provider_imagegen.emulator`` runs it; tests use :class:`RunningEmulator`.
"""

from __future__ import annotations

from airflow_provider_imagegen.emulator.app import create_app
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.emulator.settings import DialectName, EmulatorSettings, Latency, LognormalLatency

__all__ = ["DialectName", "EmulatorSettings", "Latency", "LognormalLatency", "RunningEmulator", "create_app"]
