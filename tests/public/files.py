"""The files of the public API, and their comparison with the code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.public.compatibility import api_breaks, schema_breaks
from tests.public.surface import api, formats

HOME = Path(__file__).parent
API = HOME / "api.json"
TRIGGER_KWARGS = HOME / "trigger_kwargs"


def schema_file(name: str) -> Path:
    """
    Return the file of a format.

    :param name: of the format
    """
    return HOME / f"{name}.schema.json"


@cache
def current() -> dict[Path, Any]:
    """Return what every file should say. Not to be changed: it takes seconds, and is computed once."""
    return {API: api(), **{schema_file(name): schema for name, schema in formats().items()}}


def text_of(content: Any) -> str:
    """Return the text of a file."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def breaks() -> Iterator[str]:
    """Tell what is stored and not kept."""
    for path, now in current().items():
        if path.exists():
            stored = json.loads(path.read_text())
            found = api_breaks(stored, now) if path == API else schema_breaks(stored, now)
            yield from (f"{path.name}: {each}" for each in found)
