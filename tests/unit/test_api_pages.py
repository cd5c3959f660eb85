"""Every parameter and every response field of the vendors' pages, on the wire and back.

One class per page. What a test sends is what a user writes; what it reads is the page's own sample.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.engine.plan import check
from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest, ImageSource, ImageTask

TOKEN = "sesame-token"


def gateway(name: str, base_url: str = "https://api.example.com", **settings: Any) -> Gateway:
    return gateway_for(GatewaySettings(base_url=base_url, token=TOKEN, gateway=name, **settings))


def sent(speaker: Gateway, fields: dict[str, Any]) -> dict[str, Any]:
    """The JSON body of the paid call for what a user wrote; the page's own example must pass the checks."""
    request = ImageRequest.checked(fields)
    check(request, speaker)
    body: dict[str, Any] = json.loads(speaker.submit(request, "trace-1").content)
    return body


def answered(speaker: Gateway, document: dict[str, Any], **headers: str) -> ImageTask:
    return speaker.read_submitted(httpx.Response(200, json=document, headers=headers))


GPT_IMAGE = {"prompt": "A cute baby sea otter", "model": "gpt-image-1"}
DALL_E_3 = {"prompt": "A cute baby sea otter", "model": "dall-e-3"}
DALL_E_2 = {"prompt": "A cute baby sea otter", "model": "dall-e-2"}

# Parameter, value, and a request with which the pages allow it.
OPENAI_PARAMETERS: list[tuple[str, object, dict[str, Any]]] = [
    ("prompt", "一只可爱的小猫", GPT_IMAGE),
    ("model", "gpt-image-2", GPT_IMAGE),
    ("n", 2, DALL_E_2),
    ("size", "1536x1024", GPT_IMAGE),
    ("quality", "high", GPT_IMAGE),
    ("quality", "hd", DALL_E_3),
    ("style", "vivid", DALL_E_3),
    ("background", "transparent", GPT_IMAGE),
    ("moderation", "low", GPT_IMAGE),
    ("output_format", "webp", GPT_IMAGE),
    ("output_compression", 80, {**GPT_IMAGE, "output_format": "jpeg"}),
    ("response_format", "b64_json", DALL_E_2),
    ("user", "user-1234", GPT_IMAGE),
]
STREAMING_PARAMETERS: list[tuple[str, object, dict[str, Any]]] = [
    ("stream", True, GPT_IMAGE),
    ("partial_images", 2, {**GPT_IMAGE, "stream": True}),
]


class TestAceDataCloudImagesGenerations:
    """``POST /openai/images/generations`` and its alias ``/v1/images/generations``."""

    speaker = gateway("acedatacloud")

    def test_sends(self) -> None:
        parameters = [*OPENAI_PARAMETERS, ("callback_url", "https://hook.example/1", GPT_IMAGE)]
        requests = [{**fields, name: value} for name, value, fields in parameters]
        assert [sent(self.speaker, request) for request in requests] == [
            {**request, "async": True, "trace_id": "trace-1"} for request in requests
        ]

    def test_sends_async_false_when_asked_to(self) -> None:
        assert sent(self.speaker, {**GPT_IMAGE, "async_": False})["async"] is False

    def test_takes_previews_only_where_there_is_a_stream(self) -> None:
        """The page lists it, but only a stream has previews, and this API does not stream."""
        assert sent(self.speaker, {**GPT_IMAGE, "partial_images": 0})["partial_images"] == 0
        with pytest.raises(InvalidRequest, match="partial_images"):
            sent(self.speaker, {**GPT_IMAGE, "partial_images": 1})

    def test_sends_the_token_and_accepts_json(self) -> None:
        request = self.speaker.submit(ImageRequest(prompt="p"), "trace-1")
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.headers["accept"] == "application/json"
        assert str(request.url) == "https://api.example.com/openai/images/generations"

    def test_may_be_sent_to_the_alias(self) -> None:
        speaker = gateway("acedatacloud", submit_path="/v1/images/generations")
        assert str(speaker.submit(ImageRequest(prompt="p"), "t").url) == "https://api.example.com/v1/images/generations"

    def test_reads_the_task_id(self) -> None:
        task = answered(self.speaker, {"task_id": "t1", "trace_id": "tr1"})
        assert (task.state, task.task_id, task.trace_id) == ("running", "t1", "tr1")

    def test_reads_success_with_a_task_id(self) -> None:
        assert answered(self.speaker, {"success": True, "task_id": "t1"}).task_id == "t1"

    @pytest.mark.parametrize("field", ["url", "b64_json", "revised_prompt"])
    def test_reads_data(self, field: str) -> None:
        item = {"url": "https://cdn.example/1.png", field: "value"}
        (output,) = answered(self.speaker, {"data": [item], "created": 123}).outputs
        assert getattr(output, field) == "value"

    def test_reads_created(self) -> None:
        assert answered(self.speaker, {"data": [{"url": "u"}], "created": 123}).created == 123

    def test_prefers_data_over_the_task_id_beside_it(self) -> None:
        task = answered(self.speaker, {"data": [{"url": "u"}], "task_id": "t1", "trace_id": "tr1"})
        assert (task.state, task.task_id) == ("succeeded", "t1")

    def test_does_not_know_when_nano_banana_was_created(self) -> None:
        assert answered(self.speaker, {"data": [{"url": "u"}], "created": 0}).created is None

    def test_makes_one_image_a_call_but_for_dall_e_2(self) -> None:
        assert self.speaker.images_per_call(ImageRequest(prompt="p", model="gpt-image-1")) == 1
        assert self.speaker.images_per_call(ImageRequest(prompt="p", model="nano-banana")) == 1
        assert self.speaker.images_per_call(ImageRequest(prompt="p", model="dall-e-2")) == 10


class TestAceDataCloudTasks:
    """``POST /openai/tasks``."""

    speaker = gateway("acedatacloud")

    @pytest.mark.parametrize(
        ("keys", "by", "body"),
        [
            (["a"], "id", {"action": "retrieve_batch", "ids": ["a"], "limit": 1}),
            (["a"], "trace_id", {"action": "retrieve_batch", "trace_ids": ["a"], "limit": 1}),
            (["a", "b"], "id", {"action": "retrieve_batch", "ids": ["a", "b"], "limit": 2}),
            (["a", "b"], "trace_id", {"action": "retrieve_batch", "trace_ids": ["a", "b"], "limit": 2}),
        ],
    )
    def test_asks(self, keys: list[str], by: Any, body: dict[str, Any]) -> None:
        request = self.speaker.look_up(keys, by)
        assert json.loads(request.content) == body
        assert str(request.url) == "https://api.example.com/openai/tasks"

    def test_finds_by_trace_id(self) -> None:
        record = {"id": "t1", "trace_id": "tr1", "response": {"data": [{"url": "u"}]}, "finished_at": 1.0}
        answer = httpx.Response(200, json={"items": [record], "count": 1})
        tasks = self.speaker.read_looked_up(answer, ["tr1"], "trace_id")
        assert (tasks["tr1"].task_id, tasks["tr1"].state) == ("t1", "succeeded")

    def test_may_be_asked_under_another_path(self) -> None:
        speaker = gateway("acedatacloud", tasks_path="/v1/openai/tasks")
        assert str(speaker.look_up(["a"]).url) == "https://api.example.com/v1/openai/tasks"


class TestAceDataCloudImagesEdits:
    """``POST /openai/images/edits``."""

    speaker = gateway("acedatacloud")
    png = ImageSource(content=b"\x89PNG", name="a.png")

    @pytest.mark.parametrize(
        ("addresses", "image"), [(["https://a/1"], "https://a/1"), (["https://a/1", "https://a/2"], None)]
    )
    def test_sends_addresses_as_json(self, addresses: list[str], image: str | None) -> None:
        request = EditRequest(prompt="p", images=tuple(ImageSource(url=url) for url in addresses))
        body = json.loads(self.speaker.edit(request, "trace-1").content)
        assert body == {"prompt": "p", "image": image or addresses, "async": True, "trace_id": "trace-1"}

    def test_sends_bytes_as_multipart_with_async_as_text(self) -> None:
        request = self.speaker.edit(EditRequest(prompt="p", images=(self.png, self.png), mask=self.png), "trace-1")
        content = request.read()
        assert request.headers["content-type"].startswith("multipart/form-data")
        assert content.count(b'name="image"; filename="a.png"') == 2
        assert content.count(b'name="mask"; filename="a.png"') == 1
        assert b'name="async"\r\n\r\ntrue\r\n' in content

    def test_sends_input_fidelity(self) -> None:
        request = EditRequest(prompt="p", images=(ImageSource(url="https://a/1"),), input_fidelity="high")
        assert json.loads(self.speaker.edit(request, "t").content)["input_fidelity"] == "high"


class TestOpenAIImagesGenerations:
    """``POST /v1/images/generations`` at OpenAI: the plain page and the current one."""

    speaker = gateway("openai")

    def test_sends_what_was_set_and_nothing_else(self) -> None:
        requests = [{**fields, name: value} for name, value, fields in [*OPENAI_PARAMETERS, *STREAMING_PARAMETERS]]
        assert [sent(self.speaker, request) for request in requests] == requests

    def test_sends_the_token(self) -> None:
        request = self.speaker.submit(ImageRequest(prompt="p"), "trace-1")
        assert request.headers["authorization"] == f"Bearer {TOKEN}"

    @pytest.mark.parametrize("base_url", ["https://api.example.com", "https://api.example.com/v1"])
    def test_takes_the_base_url_with_or_without_the_version(self, base_url: str) -> None:
        speaker = gateway("openai", base_url)
        assert str(speaker.submit(ImageRequest(prompt="p"), "t").url) == "https://api.example.com/v1/images/generations"

    @pytest.mark.parametrize("name", ["callback_url", "async_"])
    def test_refuses_what_only_task_gateways_have(self, name: str) -> None:
        value = True if name == "async_" else "https://hook.example"
        with pytest.raises(InvalidRequest, match=name):
            sent(self.speaker, {**GPT_IMAGE, name: value})

    def test_reads_every_url(self) -> None:
        task = answered(self.speaker, {"created": 1589478378, "data": [{"url": "a"}, {"url": "b"}]})
        assert [output.url for output in task.outputs] == ["a", "b"]
        assert task.created == 1589478378

    def test_reads_usage_and_the_reported_parameters(self) -> None:
        usage = {"input_tokens": 15, "output_tokens": 1, "total_tokens": 16, "input_tokens_details": {}}
        reported = {"size": "1024x1024", "quality": "high", "background": "auto", "output_format": "png"}
        task = answered(self.speaker, {"data": [{"b64_json": "eA=="}], "usage": usage, **reported})
        assert (task.usage, task.reported) == (usage, reported)

    def test_makes_as_many_images_a_call_as_the_model_honours(self) -> None:
        assert self.speaker.images_per_call(ImageRequest(prompt="p", model="gpt-image-2")) == 10
        assert self.speaker.images_per_call(ImageRequest(prompt="p", model="dall-e-3")) == 1

    def test_reads_a_stream(self) -> None:
        partial = {"type": "image_generation.partial_image", "b64_json": "YQ==", "partial_image_index": 0}
        completed = {"type": "image_generation.completed", "b64_json": "Yg==", "created_at": 5, "usage": {"a": 1}}
        assert self.speaker.read_events([partial]) is None
        task = self.speaker.read_events([partial, completed])
        assert task is not None
        assert [output.b64_json for output in (*task.previews, *task.outputs)] == ["YQ==", "Yg=="]
        assert (task.created, task.usage) == (5, {"a": 1})


class TestOpenAIImagesEdits:
    """``POST /v1/images/edits`` at OpenAI."""

    speaker = gateway("openai")

    def test_sends_addresses_as_json(self) -> None:
        url = ImageSource(url="https://a/1")
        body = json.loads(self.speaker.edit(EditRequest(prompt="p", images=(url,), mask=url), "t").content)
        assert body == {
            "prompt": "p",
            "images": [{"image_url": "https://a/1"}],
            "mask": {"image_url": "https://a/1"},
        }

    def test_sends_bytes_as_multipart(self) -> None:
        png = ImageSource(content=b"\x89PNG", name="a.png")
        content = self.speaker.edit(EditRequest(prompt="p", n=2, images=(png, png)), "t").read()
        assert content.count(b'name="image[]"; filename="a.png"') == 2
        assert b'name="n"\r\n\r\n2\r\n' in content


class TestApiGoImagesGenerations:
    """``POST /v1/images/generations`` at APIGo, with the page's own sample answer."""

    speaker = gateway("apigo")
    sample: dict[str, Any] = {  # noqa: RUF012
        "created": 1589478378,
        "background": "auto",
        "output_format": "png",
        "quality": "high",
        "size": "1024x1024",
        "data": [{"url": "https://example.com/generated-image.png"}],
        "usage": {
            "input_tokens": 15,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 15},
            "output_tokens": 1,
            "total_tokens": 16,
        },
    }

    def test_sends_what_was_set_and_nothing_else(self) -> None:
        requests = [{**fields, name: value} for name, value, fields in [*OPENAI_PARAMETERS, *STREAMING_PARAMETERS]]
        assert [sent(self.speaker, request) for request in requests] == requests

    def test_needs_nothing_but_a_prompt(self) -> None:
        assert sent(self.speaker, {"prompt": "p"}) == {"prompt": "p"}

    @pytest.mark.parametrize("name", ["background", "output_format", "quality", "size"])
    def test_reads_the_reported_parameters(self, name: str) -> None:
        assert answered(self.speaker, self.sample).reported[name] == self.sample[name]

    def test_reads_data_created_and_usage(self) -> None:
        task = answered(self.speaker, self.sample)
        assert [output.url for output in task.outputs] == ["https://example.com/generated-image.png"]
        assert (task.created, task.usage) == (1589478378, self.sample["usage"])


class TestNanoBananaImages:
    """``POST /nano-banana/images``, the native endpoint."""

    speaker = gateway("nano_banana")

    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            pytest.param({}, {}, id="prompt"),
            pytest.param({"model": "nano-banana-pro"}, {"model": "nano-banana-pro"}, id="model"),
            pytest.param({"n": 4}, {"count": 4}, id="count"),
            pytest.param({"extra": {"aspect_ratio": "16:9"}}, {"aspect_ratio": "16:9"}, id="aspect_ratio"),
            pytest.param({"extra": {"resolution": "2K"}}, {"resolution": "2K"}, id="resolution"),
            pytest.param({"callback_url": "https://h/"}, {"callback_url": "https://h/"}, id="callback_url"),
        ],
    )
    def test_sends(self, fields: dict[str, Any], body: dict[str, Any]) -> None:
        constant = {"action": "generate", "prompt": "p", "async": True, "trace_id": "trace-1"}
        assert sent(self.speaker, {"prompt": "p", **fields}) == {**constant, **body}

    def test_sends_image_urls_to_edit(self) -> None:
        request = EditRequest(prompt="p", images=(ImageSource(url="https://a/1"), ImageSource(url="https://a/2")))
        body = json.loads(self.speaker.edit(request, "t").content)
        assert (body["action"], body["image_urls"]) == ("edit", ["https://a/1", "https://a/2"])

    @pytest.mark.parametrize(
        ("fields", "name"),
        [({"size": "1024x1024"}, "size"), ({"quality": "high"}, "quality"), ({"extra": {"resolution": "8K"}}, "extra")],
    )
    def test_refuses_what_the_endpoint_does_not_have(self, fields: dict[str, Any], name: str) -> None:
        with pytest.raises(InvalidRequest, match=name):
            sent(self.speaker, {"prompt": "p", **fields})

    def test_refuses_files_to_edit(self) -> None:
        with pytest.raises(InvalidRequest, match="takes no files"):
            self.speaker.check(EditRequest(prompt="p", images=(ImageSource(content=b"x"),)))

    def test_reads_image_url(self) -> None:
        record = {"id": "t", "response": {"data": [{"image_url": "u"}]}}
        task = self.speaker.read_looked_up(httpx.Response(200, json=record), ["t"])["t"]
        assert task.outputs[0].url == "u"

    def test_has_lookups_of_its_own(self) -> None:
        assert str(self.speaker.look_up(["t"]).url) == "https://api.example.com/nano-banana/tasks"
