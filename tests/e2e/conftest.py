"""Where the DAGs of the end-to-end tests are."""

from __future__ import annotations

from pathlib import Path

DAGS = Path(__file__).parent / "dags"
