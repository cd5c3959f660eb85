"""The hook works with a third-party mock server of OpenAI's API."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from airflow_provider_imagegen.exceptions import AuthenticationError, RateLimited, RequestRefused
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from tests.peers.aimock import Aimock
from tests.peers.conftest import Connect

GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"
Visits = Callable[[], list[dict[str, Any]]]

ADDRESS = "https://images.example/otter.png"


def noise(edge: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((edge, edge), 64).save(buffer, "PNG")
    return buffer.getvalue()


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


OTTER, SECOND_OTTER, EDITED = noise(256), noise(192), noise(320)


FIXTURES = [
    {
        "match": {"endpoint": "image", "userMessage": "an otter"},
        "response": {"image": {"b64Json": encoded(OTTER), "revisedPrompt": "a brown otter"}},
    },
    {"match": {"endpoint": "image", "userMessage": "a linked otter"}, "response": {"image": {"url": ADDRESS}}},
    {
        "match": {"endpoint": "image", "userMessage": "two otters"},
        "response": {"images": [{"b64Json": encoded(OTTER)}, {"b64Json": encoded(SECOND_OTTER)}]},
    },
    {
        "match": {"endpoint": "image", "userMessage": "make it green"},
        "response": {"image": {"b64Json": encoded(EDITED)}},
    },
    {
        "match": {"endpoint": "image", "userMessage": "too many otters"},
        "response": {
            "error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"},
            "status": 429,
            "retryAfter": 7,
        },
    },
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aimock]:
    aimock = Aimock(tmp_path_factory.mktemp("aimock"), FIXTURES, token="sesame")
    aimock.start()
    yield aimock
    aimock.stop()


@pytest.fixture
def visitor(request: pytest.FixtureRequest) -> str:
    """The text by which the server recognizes the requests of this test."""
    return str(request.node.name)


@pytest.fixture
def hook(server: Aimock, connect: Connect, visitor: str) -> ImageGenHook:
    return connect(server.base_url, server.token, gateway="openai", headers={"X-Test-Id": visitor})


@pytest.fixture
def visits(server: Aimock, visitor: str) -> Callable[[], list[dict[str, Any]]]:
    """Tell what this test has asked the server for."""
    return lambda: server.journal(visitor)


class TestGenerations:
    def test_an_image_in_the_response_arrives_whole(self, hook: ImageGenHook, visits: Visits) -> None:
        (output,) = hook.generate(prompt="an otter", model="gpt-image-1")
        assert output.content == OTTER
        assert output.revised_prompt == "a brown otter"
        assert [visit["path"] for visit in visits()] == [GENERATIONS]

    def test_an_address_arrives(self, hook: ImageGenHook) -> None:
        assert [output.url for output in hook.generate(prompt="a linked otter")] == [ADDRESS]

    def test_two_images_arrive_in_order(self, hook: ImageGenHook) -> None:
        outputs = hook.generate(prompt="two otters", model="gpt-image-1", n=2)
        assert [output.content for output in outputs] == [OTTER, SECOND_OTTER]

    def test_the_request_carries_model_and_prompt(self, hook: ImageGenHook, visits: Visits) -> None:
        hook.generate(prompt="an otter", model="gpt-image-2")
        (visit,) = visits()
        assert visit["body"]["model"] == "gpt-image-2"
        assert visit["body"]["messages"][0]["content"] == "an otter"


class TestEdits:
    def test_bytes_are_sent_as_a_form(self, hook: ImageGenHook, visits: Visits, image: bytes) -> None:
        (output,) = hook.edit(images=[image], prompt="make it green", model="gpt-image-1")
        assert output.content == EDITED
        (visit,) = visits()
        assert visit["path"] == EDITS
        assert visit["headers"]["content-type"].startswith("multipart/form-data")
        assert visit["body"]["model"] == "gpt-image-1"

    def test_several_images_and_a_mask_go_along(self, hook: ImageGenHook, image: bytes) -> None:
        (output,) = hook.edit(images=[image, image], mask=image, prompt="make it green", model="gpt-image-1")
        assert output.content == EDITED


class TestRefusals:
    def test_retry_after_of_a_generation_reaches_the_error(self, hook: ImageGenHook, visits: Visits) -> None:
        with pytest.raises(RateLimited) as caught:
            hook.generate(prompt="too many otters", model="gpt-image-1")
        assert caught.value.retry_after == 7
        assert caught.value.billed == "no"
        assert caught.value.code == "rate_limit_exceeded"
        assert [visit["path"] for visit in visits()] == [GENERATIONS]

    def test_retry_after_of_an_edit_reaches_the_error(self, hook: ImageGenHook, visits: Visits, image: bytes) -> None:
        with pytest.raises(RateLimited) as caught:
            hook.edit(images=[image], prompt="too many otters", model="gpt-image-1")
        assert caught.value.retry_after == 7
        assert caught.value.billed == "no"
        assert [visit["path"] for visit in visits()] == [EDITS]

    def test_a_wrong_key_is_an_authentication_error(self, server: Aimock, connect: Connect) -> None:
        hook = connect(server.base_url, "open sesame!", gateway="openai")
        with pytest.raises(AuthenticationError) as caught:
            hook.generate(prompt="an otter", model="gpt-image-1")
        assert caught.value.billed == "no"
        assert "open sesame!" not in str(caught.value)

    def test_the_connection_test_pays_nothing(self, hook: ImageGenHook, visits: Visits) -> None:
        assert hook.test_connection()[0]
        assert visits() == []

    def test_an_unprescribed_prompt_is_an_error(self, hook: ImageGenHook) -> None:
        with pytest.raises(RequestRefused):
            hook.generate(prompt="a walrus", model="gpt-image-1")
