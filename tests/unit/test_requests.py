"""A request is refused in one line that names field, value and what is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.schemas import ImageRequest


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
            ({"prompt": "p", "seed": 1}, "seed=1 is not allowed: known parameters are prompt, model"),
        ],
    )
    def test_name_field_value_and_what_is_allowed(self, fields: dict[str, object], words: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            ImageRequest.checked(fields)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.billed == "no"

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


class TestPromptInLogs:
    @given(st.text(min_size=1).filter(str.strip))
    def test_is_one_line_of_at_most_80_characters(self, prompt: str) -> None:
        shown = ImageRequest(prompt=prompt).shown_prompt()
        assert len(shown) <= 80
        assert len(shown.splitlines()) <= 1
