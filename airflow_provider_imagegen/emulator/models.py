"""What the models do, as far as a gateway shows it: how many images per call, which pixels."""

from __future__ import annotations

import hashlib
import re

LARGEST_EDGE = 4096
SIZES_FOR_AUTO = ((1024, 1024), (1536, 1024), (1024, 1536))
PROMPT_LIMITS = {"dall-e-2": 1_000, "dall-e-3": 4_000}
PROMPT_LIMIT = 32_000
EDGES_BY_RESOLUTION = {"1K": 1024, "2K": 2048, "4K": 4096}


def is_nano_banana(model: str) -> bool:
    """Tell Google's family, which ignores most parameters on the OpenAI path."""
    return model.startswith("nano-banana")


def is_dall_e(model: str) -> bool:
    """Tell the older OpenAI family, which takes ``response_format``."""
    return model.startswith("dall-e")


def prompt_limit(model: str) -> int:
    """Return how many characters a prompt may have."""
    return PROMPT_LIMITS.get(model, PROMPT_LIMIT)


def parse_size(size: str) -> tuple[int, int] | None:
    """Read ``1536x1024``; none when the text is not a size this emulator draws."""
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", size)
    if not match:
        return None
    width, height = int(match[1]), int(match[2])
    return (width, height) if max(width, height) <= LARGEST_EDGE else None


def pick_size(prompt: str) -> tuple[int, int]:
    """Choose the size for ``auto``, the same for the same prompt."""
    return SIZES_FOR_AUTO[hashlib.sha256(prompt.encode()).digest()[10] % len(SIZES_FOR_AUTO)]


def size_for_ratio(aspect_ratio: str, resolution: str) -> tuple[int, int] | None:
    """Return the pixels for an aspect ratio such as ``16:9`` at ``1K``, ``2K`` or ``4K``."""
    match = re.fullmatch(r"(\d{1,2}):(\d{1,2})", aspect_ratio)
    edge = EDGES_BY_RESOLUTION.get(resolution)
    if not match or edge is None:
        return None
    wide, tall = max(1, int(match[1])), max(1, int(match[2]))
    longest = max(wide, tall)
    return max(64, round(edge * wide / longest)), max(64, round(edge * tall / longest))
