"""The folder of the DAGs of the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

DAGS = Path(__file__).parent / "dags"
