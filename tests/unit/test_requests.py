"""A request is refused in one line that names field, value and what is allowed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.engine.plan import fingerprint
from airflow_provider_imagegen.engine.sources import name_sources, read_sources
from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest, ImageSource


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"prompt": ""}, "prompt='' is not allowed: a text that is not empty"),
            ({"prompt": "   "}, "prompt='   ' is not allowed: a text that is not empty"),
            ({}, "prompt=None is not allowed: a value is required"),
            ({"prompt": None}, "prompt=None is not allowed: a value is required"),
            ({"prompt": ["a"]}, "prompt=['a'] is not allowed"),
            ({"prompt": "p", "n": 0}, "n=0 is not allowed: a whole number from 1 to 10"),
            ({"prompt": "p", "n": 11}, "n=11 is not allowed: a whole number from 1 to 10"),
            ({"prompt": "p", "n": "many"}, "n='many' is not allowed"),
            ({"prompt": "p", "n": True}, "n=True is not allowed: a whole number from 1 to 10"),
            ({"prompt": "p", "output_compression": 101}, "output_compression=101 is not allowed"),
            ({"prompt": "p", "extra": {"n": 2}}, "pass n by name"),
            ({"prompt": "p", "extra": {"prompt": "q"}}, "pass prompt by name"),
            ({"prompt": "p", "extra": {"output_compression": 101}}, "output_compression=101 is not allowed"),
            ({"prompt": "p", "extra": {"callback_url": ["https://hook.example/"]}}, "pass callback_url by name"),
            ({"prompt": "p", "extra": ["size"]}, "extra='(hidden)' is not allowed"),
            ({"prompt": "p", "seed": 1}, "seed=1 is not allowed: known parameters are prompt, model"),
        ],
    )
    def test_name_field_value_and_what_is_allowed(self, fields: dict[str, object], words: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            ImageRequest.checked(fields)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.billed == "no"

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"prompt": "half \ud83d"}, "prompt"),
            ({"prompt": "p", "size": "\ud83d"}, "size"),
            ({"prompt": "p", "extra": {"style": "\udc00"}}, "style"),
            ({"prompt": "p", "extra": {"a": [{"b": "\ud83d"}]}}, "extra"),
            ({"prompt": "p", "extra": {"\ud83d": 1}}, "extra"),
            ({"prompt": "p", "callback_url": "https://h.example/\ud83d"}, "callback_url"),
        ],
    )
    def test_name_the_field_whose_text_utf8_cannot_hold(self, fields: dict[str, object], field: str) -> None:
        with pytest.raises(InvalidRequest, match="text that UTF-8 can hold") as caught:
            ImageRequest.checked(fields)
        assert caught.value.field == field
        assert str(caught.value).encode()

    def test_name_images_whose_address_utf8_cannot_hold(self) -> None:
        with pytest.raises(InvalidRequest, match=r"images=.* UTF-8"):
            read_sources(["https://h.example/\ud83d.png"], "images", "bucket", lambda *_: b"")
        with pytest.raises(InvalidRequest, match=r"images=.* UTF-8"):
            name_sources(["\ud83d.png"], "bucket")

    def test_never_show_the_callback_url(self) -> None:
        with pytest.raises(InvalidRequest) as caught:
            ImageRequest.checked({"prompt": "p", "callback_url": ["https://hook.example/?secret=1"]})
        assert "secret" not in str(caught.value)

    @given(
        st.dictionaries(st.sampled_from([*ImageRequest.model_fields, "else"]), st.none() | st.text() | st.integers())
    )
    def test_any_fields_make_a_request_or_one_refusal(self, fields: dict[str, object]) -> None:
        try:
            request = ImageRequest.checked(fields)
        except InvalidRequest as refusal:
            assert refusal.field
        else:
            assert request.prompt.strip()
            assert 1 <= request.n <= 10


class TestWhatIsSent:
    def test_is_only_what_was_set(self) -> None:
        request = ImageRequest.checked({"prompt": "p", "model": "m", "size": None})
        assert request.parameters() == {"prompt": "p", "model": "m"}

    def test_a_number_is_a_prompt_too(self) -> None:
        assert ImageRequest.checked({"prompt": 1984}).prompt == "1984"

    def test_a_templated_number_is_a_number(self) -> None:
        assert ImageRequest.checked({"prompt": "p", "n": "4"}).parameters()["n"] == 4


class LaterRequest(ImageRequest):
    """A request of a later release, in which one more parameter has a name."""

    seed: int | None = None


GATEWAYS = [
    gateway_for(GatewaySettings(base_url="https://a.example", token="sesame-token", gateway=name))
    for name in ("acedatacloud", "openai")
]
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["gpt-image-1", "unheard-of"]),
        "size": st.sampled_from(["1024x1024", "auto"]),
        "quality": st.text(max_size=5),
        "output_compression": st.integers(0, 100),
        "stream": st.booleans(),
        "async_": st.booleans(),
        "user": st.text(max_size=5),
        "callback_url": st.just("https://hook.example/done"),
        "seed": st.integers(),
        "mood": st.text(max_size=5),
    },
)
UNHEARD_OF = {"mood"}


class TestParametersInExtra:
    @given(parameters=PARAMETERS, in_extra=st.sets(st.sampled_from(["model", "size", "quality", "stream", "seed"])))
    def test_make_the_same_request_as_by_name(self, parameters: dict[str, object], in_extra: set[str]) -> None:
        def request(kind: type[ImageRequest], extra: set[str]) -> ImageRequest:
            further = {name: value for name, value in parameters.items() if name in extra}
            named = {name: value for name, value in parameters.items() if name not in extra}
            return kind.checked({"prompt": "p", **named, "extra": further})

        by_name = request(LaterRequest, UNHEARD_OF)
        before_it_had_a_name = request(ImageRequest, UNHEARD_OF | {"seed"})
        requests = [by_name, before_it_had_a_name, request(LaterRequest, UNHEARD_OF | in_extra)]
        for gateway in GATEWAYS:
            bodies = [json.loads(gateway.submit(one, "trace-1").content) for one in requests]
            assert bodies == [bodies[0]] * 3
            assert len({fingerprint(one, gateway) for one in requests}) == 1

    @given(named=st.sampled_from(["low", "high"]), extra=st.sampled_from(["low", "high", None]))
    def test_give_way_to_the_named_ones(self, named: str, extra: str | None) -> None:
        request = ImageRequest.checked({"prompt": "p", "quality": named, "extra": {"quality": extra, "mood": "calm"}})
        assert (request.quality, request.extra) == (named, {"mood": "calm"})

    def test_go_before_named_ones_that_are_not_set(self) -> None:
        assert ImageRequest(prompt="p", quality=None, extra={"quality": "low"}).parameters()["quality"] == "low"

    def test_of_an_edit_are_those_that_edits_have(self) -> None:
        images = (ImageSource(url="https://a.example/1.png"),)
        edit = EditRequest.checked({"prompt": "p", "images": images, "extra": {"input_fidelity": "high"}})
        assert edit.input_fidelity == "high"
        assert ImageRequest.checked({"prompt": "p", "extra": {"input_fidelity": "high"}}).extra != {}
        with pytest.raises(InvalidRequest, match="pass mask by name"):
            EditRequest.checked({"prompt": "p", "images": images, "extra": {"mask": "https://a.example/2.png"}})


class TestPromptInLogs:
    @given(st.text(min_size=1).filter(str.strip))
    def test_is_one_line_of_at_most_80_characters(self, prompt: str) -> None:
        shown = ImageRequest(prompt=prompt).shown_prompt()
        assert len(shown) <= 80
        assert len(shown.splitlines()) <= 1
