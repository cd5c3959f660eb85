"""Prints the lowest series of every dependency that pyproject.toml allows, for ``make constraints AIRFLOW=lowest``.

Requires Python only. A resolver with a lowest-version strategy is greedy and may end above the lower bounds. With this
list it resolves exactly these versions, or fails if they are incompatible.
"""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

FOR_US = ("dev", "distributed", "docs")
"""Extras that only we install."""

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def lowest_series() -> list[str]:
    """Return a requirement for each dependency, optional ones of users included, such as ``httpx==0.28.*``."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    optional = [needs for extra, needs in project["optional-dependencies"].items() if extra not in FOR_US]
    return [_lowest(requirement) for requirement in chain(project["dependencies"], *optional)]


def _lowest(requirement: str) -> str:
    found = re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} in pyproject.toml names no lowest version")
    name, version = found.groups()
    return f"{name}=={version}.*"


if __name__ == "__main__":
    print(*lowest_series(), sep="\n")
