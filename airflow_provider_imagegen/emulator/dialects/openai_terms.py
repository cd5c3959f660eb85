"""What stands around the images in an OpenAI answer: what was drawn, the tokens used, the headers."""

from __future__ import annotations

from typing import Any

from airflow_provider_imagegen.emulator.books import Task

TOKENS_BY_QUALITY = {"low": 272, "medium": 1056, "high": 4160, "xhigh": 6240, "max": 8320}
PIXELS_OF_TABLE = 1024 * 1024
TOKENS_PER_SOURCE = 323


def terms(task: Task, body: dict[str, Any]) -> dict[str, Any]:
    """Return background, format, quality and size as they were drawn, ``auto`` resolved."""
    if not task.drawings:
        return {}
    drawing = task.drawings[0]
    quality = body.get("quality", "auto")
    return {
        "background": "transparent" if drawing.transparent else "opaque",
        "output_format": drawing.format,
        "quality": "medium" if quality == "auto" else quality,
        "size": f"{drawing.width}x{drawing.height}",
    }


def usage(task: Task, body: dict[str, Any]) -> dict[str, Any]:
    """Return the token counts: prompt by length, images by quality and pixels."""
    quality = terms(task, body).get("quality", "medium")
    per_table = TOKENS_BY_QUALITY.get(quality, TOKENS_BY_QUALITY["medium"])
    output = sum(round(per_table * p.width * p.height / PIXELS_OF_TABLE) for p in task.drawings)
    text = max(1, len(task.prompt) // 4)
    image = TOKENS_PER_SOURCE if task.route == "edit" else 0
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"image_tokens": image, "text_tokens": text},
        "output_tokens": output,
        "total_tokens": text + image + output,
    }


def headers(request_id: str, seconds: float) -> dict[str, str]:
    """Return the headers that every response carries."""
    return {
        "x-request-id": f"req_{request_id}",
        "openai-processing-ms": str(round(seconds * 1000)),
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
    }
