"""The APIs of OpenAI and APIGo: synchronous, streaming, edits, and refusals in their format."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.emulator.conftest import PROMPT, Client
from tests.stack.waiting import HANG, scaled

GENERATE = "/openai-api/v1/images/generations"
EDIT = "/openai-api/v1/images/edits"
SIZE = "1024x1024"


def png(size: tuple[int, int] = (64, 64), mode: str = "RGBA") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def decoded(item: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(item["b64_json"])))


class TestGenerations:
    def test_the_gpt_image_family_returns_base64_and_usage(self, prompt_client: Client) -> None:
        response = prompt_client.post(
            GENERATE,
            prompt=PROMPT,
            model="gpt-image-1",
            size="1536x1024",
            quality="high",
            output_format="webp",
        )
        body = response.json()
        assert decoded(body["data"][0]).size == (1536, 1024)
        assert (body["size"], body["quality"], body["output_format"]) == ("1536x1024", "high", "webp")
        usage = body["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert set(usage["input_tokens_details"]) == {"text_tokens", "image_tokens"}
        assert response.headers["x-request-id"].startswith("req_")
        assert "x-ratelimit-remaining-requests" in response.headers

    def test_n_is_honoured_and_billed(self, prompt_client: Client) -> None:
        body = prompt_client.post(GENERATE, prompt=PROMPT, model="gpt-image-1", n=2, size=SIZE).json()
        assert len({item["b64_json"] for item in body["data"]}) == 2
        assert prompt_client.totals()["billed_images"] == 2

    @pytest.mark.parametrize("asked", [None, "url", "b64_json"])
    def test_dall_e_delivers_as_response_format_says(self, prompt_client: Client, asked: str | None) -> None:
        extra = {"response_format": asked} if asked else {}
        body = prompt_client.post(GENERATE, prompt=PROMPT, model="dall-e-3", size=SIZE, **extra).json()
        [item] = body["data"]
        assert ("b64_json" in item) == (asked == "b64_json")
        assert item["revised_prompt"] != PROMPT
        assert "usage" not in body

    def test_without_a_model_it_is_dall_e_2(self, prompt_client: Client) -> None:
        prompt_client.post(GENERATE, prompt=PROMPT, size="256x256")
        assert prompt_client.emulator.ledger()["rows"][0]["model"] == "dall-e-2"

    def test_an_unknown_model_with_unknown_values_passes(self, prompt_client: Client) -> None:
        response = prompt_client.post(
            GENERATE, prompt=PROMPT, model="tomorrow-1", quality="sublime", size="640x480", new_field=True
        )
        assert decoded(response.json()["data"][0]).size == (640, 480)

    def test_the_same_prompt_generates_the_same_image_at_every_vendor(self, prompt_client: Client) -> None:
        one = prompt_client.post(GENERATE, prompt=PROMPT, model="gpt-image-1", size=SIZE).json()
        other = prompt_client.post("/openai/images/generations", prompt=PROMPT, model="gpt-image-1", size=SIZE).json()
        assert base64.b64decode(one["data"][0]["b64_json"]) == httpx.get(other["data"][0]["url"]).content


class TestRefusals:
    @pytest.mark.sampled
    @pytest.mark.parametrize(
        ("wrong", "code", "param"),
        [
            ({"prompt": None}, "missing_required_parameter", "prompt"),
            ({"prompt": "x" * 32_001}, "string_above_max_length", "prompt"),
            ({"prompt": "x" * 4_001, "model": "dall-e-3"}, "string_above_max_length", "prompt"),
            ({"prompt": "x" * 1_001, "model": "dall-e-2"}, "string_above_max_length", "prompt"),
            ({"response_format": "url"}, "unknown_parameter", "response_format"),
            ({"style": "vivid"}, "unknown_parameter", "style"),
            ({"style": "wild", "model": "dall-e-3"}, "invalid_value", "style"),
            ({"background": "auto", "model": "dall-e-3"}, "unknown_parameter", "background"),
            ({"async": True}, "unknown_parameter", "async"),
            ({"trace_id": "ours"}, "unknown_parameter", "trace_id"),
            ({"size": "1792x1024"}, "invalid_value", "size"),
            ({"size": "17x17", "model": "gpt-image-2"}, "invalid_value", "size"),
            ({"size": "1000x1000", "model": "gpt-image-2"}, "invalid_value", "size"),
            ({"size": "3840x1024", "model": "gpt-image-2"}, "invalid_value", "size"),
            ({"size": "3856x2160", "model": "gpt-image-2"}, "invalid_value", "size"),
            ({"size": "640x640", "model": "gpt-image-2"}, "invalid_value", "size"),
            ({"quality": "hd"}, "invalid_value", "quality"),
            ({"n": 0}, "invalid_value", "n"),
            ({"n": 2, "model": "dall-e-3"}, "invalid_value", "n"),
            ({"n": "two"}, "invalid_type", "n"),
            ({"background": "transparent", "output_format": "jpeg"}, "invalid_value", "background"),
            ({"output_compression": 50}, "invalid_value", "output_compression"),
            ({"output_format": "bmp"}, "invalid_value", "output_format"),
            ({"moderation": "none"}, "invalid_value", "moderation"),
            ({"partial_images": 4}, "invalid_value", "partial_images"),
        ],
        ids=str,
    )
    def test_what_openai_refuses_is_refused_unbilled(
        self, prompt_client: Client, wrong: dict[str, Any], code: str, param: str
    ) -> None:
        body = {"prompt": PROMPT, "model": "gpt-image-1", **wrong}
        response = prompt_client.http.post(GENERATE, json=body)
        error = response.json()["error"]
        assert (response.status_code, error["type"]) == (400, "invalid_request_error")
        assert (error["code"], error["param"]) == (code, param)
        assert prompt_client.totals()["accepted"] == 0

    @pytest.mark.parametrize("size", ["1024x1024", "3840x2160", "1008x3024", "auto"])
    def test_gpt_image_2_takes_every_size_within_its_rule(self, prompt_client: Client, size: str) -> None:
        prompt_client.emulator.change(image_bytes=1000)
        response = prompt_client.post(GENERATE, prompt=PROMPT, model="gpt-image-2", size=size)
        assert response.status_code == 200, response.text

    def test_moderation_has_a_type_of_its_own_and_is_not_billed(self, prompt_client: Client) -> None:
        response = prompt_client.post(GENERATE, prompt="[[moderation]] a riot", model="gpt-image-1")
        error = response.json()["error"]
        assert (response.status_code, error["type"]) == (400, "image_generation_user_error")
        assert error["code"] == "moderation_blocked"
        assert prompt_client.totals()["billed_images"] == 0

    def test_a_wrong_token_is_an_invalid_api_key(self, prompt_client: Client) -> None:
        response = prompt_client.http.post(GENERATE, json={}, headers={"authorization": "Bearer wrong"})
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")

    @pytest.mark.parametrize(("code", "status"), [("rate_limited", 429), ("api_error", 500), ("used_up", 429)])
    def test_faults_are_worded_in_openais_shape(self, prompt_client: Client, code: str, status: int) -> None:
        prompt_client.emulator.arm("submit", "refuse", code=code, retry_after=1)
        response = prompt_client.post(GENERATE, prompt=PROMPT, model="gpt-image-1")
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        assert response.headers["retry-after"] == "1"


class TestStream:
    def events(self, client: Client, **body: Any) -> list[tuple[str, dict[str, Any]]]:
        response = client.post(GENERATE, prompt=PROMPT, model="gpt-image-1", size=SIZE, stream=True, **body)
        assert response.headers["content-type"].startswith("text/event-stream")
        blocks = [block.split("\n") for block in response.text.strip().split("\n\n")]
        return [(first.removeprefix("event: "), json.loads(second[6:])) for first, second in blocks]

    def test_partial_images_come_before_the_finished_one(self, prompt_client: Client) -> None:
        events = self.events(prompt_client, partial_images=2)
        assert [name for name, _ in events] == [
            "image_generation.partial_image",
            "image_generation.partial_image",
            "image_generation.completed",
        ]
        assert [data.get("partial_image_index") for _, data in events] == [0, 1, None]
        assert decoded(events[-1][1]).size == (1024, 1024)
        assert events[-1][1]["usage"]["total_tokens"] > 0

    def test_without_partial_images_there_is_one_event(self, prompt_client: Client) -> None:
        assert [name for name, _ in self.events(prompt_client)] == ["image_generation.completed"]
        assert prompt_client.totals()["billed_images"] == 1

    @pytest.mark.parametrize(("kind", "error"), [("stall", httpx.ReadTimeout), ("cut", httpx.RemoteProtocolError)])
    def test_a_stream_can_end_after_the_first_event(
        self, prompt_client: Client, kind: str, error: type[Exception]
    ) -> None:
        prompt_client.emulator.change(image_bytes=1000)
        prompt_client.emulator.arm("submit", kind)
        silence = httpx.Timeout(HANG, read=scaled(1.0) if kind == "stall" else HANG)
        body = {"prompt": PROMPT, "model": "gpt-image-1", "size": SIZE, "stream": True, "partial_images": 2}
        received: list[str] = []

        def listen() -> None:
            with prompt_client.http.stream("POST", GENERATE, json=body, timeout=silence) as response:
                received.extend(response.iter_text())

        with pytest.raises(error):
            listen()
        assert "".join(received).count("event: image_generation.partial_image") == 1
        assert prompt_client.totals()["billed_images"] == 1


class TestEdits:
    @pytest.mark.parametrize("name", ["image", "image[]"])
    def test_files_of_a_form(self, prompt_client: Client, name: str) -> None:
        prompt_client.emulator.change(image_bytes=1000)
        files = [(name, ("a.png", png())), (name, ("b.png", png())), ("mask", ("m.png", png()))]
        form = {"prompt": PROMPT, "model": "gpt-image-1", "size": SIZE, "n": "2"}
        body = prompt_client.http.post(EDIT, data=form, files=files).json()
        assert len(body["data"]) == 2
        assert body["usage"]["input_tokens_details"]["image_tokens"] > 0

    def test_links_of_a_json_body(self, prompt_client: Client) -> None:
        images = [{"image_url": "https://example.com/a.png"}, {"file_id": "file-1"}]
        response = prompt_client.post(EDIT, prompt=PROMPT, model="gpt-image-1", images=images, size=SIZE)
        assert decoded(response.json()["data"][0]).size == (1024, 1024)

    def test_other_sources_make_another_image(self, prompt_client: Client) -> None:
        drawings = set()
        for colour in ("RGB", "RGBA"):
            files = [("image", ("a.png", png(mode=colour)))]
            form = {"prompt": PROMPT, "model": "gpt-image-1", "size": SIZE}
            drawings.add(prompt_client.http.post(EDIT, data=form, files=files).json()["data"][0]["b64_json"])
        assert len(drawings) == 2

    @pytest.mark.parametrize("mask", [png((32, 32)), png(mode="RGB"), b"text"], ids=["size", "alpha", "text"])
    def test_a_mask_that_does_not_fit_is_refused(self, prompt_client: Client, mask: bytes) -> None:
        files = [("image", ("a.png", png())), ("mask", ("m.png", mask))]
        form = {"prompt": PROMPT, "model": "gpt-image-1"}
        assert prompt_client.http.post(EDIT, data=form, files=files).status_code == 400

    def test_an_edit_streams_events_of_its_own(self, prompt_client: Client) -> None:
        prompt_client.emulator.change(image_bytes=1000)
        form = {
            "prompt": PROMPT,
            "model": "gpt-image-1",
            "size": SIZE,
            "stream": "true",
            "partial_images": "1",
        }
        response = prompt_client.http.post(EDIT, data=form, files=[("image", ("a.png", png()))])
        assert "event: image_edit.partial_image" in response.text
        assert "event: image_edit.completed" in response.text


class TestApiGo:
    def test_every_model_delivers_by_url_with_usage(self, prompt_client: Client) -> None:
        body = prompt_client.post(
            "/apigo/v1/images/generations", prompt=PROMPT, model="gpt-image-1", size=SIZE, quality="high"
        ).json()
        assert {"created", "background", "output_format", "quality", "size", "data", "usage"} == set(body)
        assert httpx.get(body["data"][0]["url"]).content.startswith(b"\x89PNG")

    def test_only_the_prompt_is_required(self, prompt_client: Client) -> None:
        body = prompt_client.post("/apigo/v1/images/generations", prompt=PROMPT).json()
        assert body["data"][0]["url"]
