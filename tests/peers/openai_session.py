"""One action of the openai client, printed as JSON: a script for whichever of its releases ``PYTHONPATH`` holds.

Run as ``python -S openai_session.py <act>``; the client reads address and key from the environment itself.
"""

import base64
import json
import sys
from typing import Any

import openai

ASKED: dict[str, Any] = {"prompt": "a lighthouse in a storm", "model": "gpt-image-1", "size": "1024x1024"}
# One transparent pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def generate(client: openai.OpenAI) -> dict[str, Any]:
    response = client.images.generate(**ASKED)
    return {"images": [_kind(image.b64_json) for image in response.data], "tokens": response.usage.total_tokens}


def stream(client: openai.OpenAI) -> dict[str, Any]:
    events = list(client.images.generate(**ASKED, stream=True, partial_images=2))
    return {"events": [event.type for event in events], "images": [_kind(event.b64_json) for event in events]}


def edit(client: openai.OpenAI) -> dict[str, Any]:
    source = ("pixel.png", PIXEL, "image/png")
    response = client.images.edit(**ASKED, image=[source, source])
    return {"images": [_kind(image.b64_json) for image in response.data]}


def stream_edit(client: openai.OpenAI) -> dict[str, Any]:
    events = list(client.images.edit(**ASKED, image=("pixel.png", PIXEL, "image/png"), stream=True, partial_images=1))
    return {"events": [event.type for event in events]}


def refusal(client: openai.OpenAI) -> dict[str, Any]:
    try:
        client.images.generate(**ASKED | {"prompt": "[[moderation]]"})
    except openai.BadRequestError as error:
        return {"code": error.code, "type": error.type, "request_id": error.request_id}
    return {}


def _kind(b64_json: str) -> str:
    return "png" if base64.b64decode(b64_json).startswith(b"\x89PNG") else "something else"


ACTS = {act.__name__: act for act in (generate, stream, edit, stream_edit, refusal)}

if __name__ == "__main__":
    print(json.dumps({"version": openai.__version__, **ACTS[sys.argv[1]](openai.OpenAI(max_retries=0))}))
