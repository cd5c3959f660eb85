"""Texts that fit where room is bounded: into an XCom, whatever their alphabet.

The summary of a batch and rehearsals are made of such.
"""

from __future__ import annotations

import json


def short_in_json(text: str, limit: int) -> str:
    """Return a text that takes at most so many bytes in JSON, whatever its alphabet."""
    if len(json.dumps(text)) <= limit:
        return text
    text = text[:limit]
    while len(json.dumps(f"{text}…")) > limit:
        text = text[: len(text) - max(1, (len(json.dumps(text)) - limit) // 12)]
    return f"{text}…"
