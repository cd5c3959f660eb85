"""Values that are invalid for a model are refused in one line before anything is paid."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_imagegen.catalog.models import MODELS
from tests.examples import examples
from tests.unit.known_models import (
    DALL_ES,
    GPT_IMAGES,
    NANO_BANANAS,
    UNKNOWN,
    not_refused_as_expected,
    refusal_of,
    refused,
)

PRESETS_OF_GPT_IMAGE_2 = [
    "1024x1024",
    "1536x1024",
    "1024x1536",
    "1792x1024",
    "1024x1792",
    "2048x2048",
    "2048x1536",
    "1536x2048",
    "2048x1152",
    "1152x2048",
    "2880x2880",
    "3264x2448",
    "2448x3264",
    "3840x2160",
    "2160x3840",
]
SIZES_THAT_BREAK_A_RULE = {
    "1000x1024": "gpt-image-2 wants both edges multiples of 16",
    "1024x1000": "gpt-image-2 wants both edges multiples of 16",
    "3856x2048": "gpt-image-2 wants no edge above 3840 pixels",
    "2048x3856": "gpt-image-2 wants no edge above 3840 pixels",
    "1616x528": "gpt-image-2 wants a ratio within 1:3 to 3:1",
    "528x1616": "gpt-image-2 wants a ratio within 1:3 to 3:1",
    "512x512": "gpt-image-2 wants 655360 to 8294400 pixels in all",
    "3840x2176": "gpt-image-2 wants 655360 to 8294400 pixels in all",
    "large": "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto",
    "1024": "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto",
    "1024×1024": "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto",
    "1024x1024\n": "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto",
    "-16x1024": "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto",
    "0x0": "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto",
    "9" * 5000 + "x16": "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto",
    "": "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto",
}
EDGES = st.integers(1, 300).map(lambda sixteenth: 16 * sixteenth) | st.integers(1, 5_000)


class TestPrompt:
    LIMITS: ClassVar = {"dall-e-2": 1_000, "dall-e-3": 4_000, **dict.fromkeys(GPT_IMAGES, 32_000)}

    def test_has_a_longest_length(self) -> None:
        for model, limit in self.LIMITS.items():
            assert refused([model], {"prompt": "p" * limit}) == []
            words = f"takes at most {limit} characters, not {limit + 1}"
            assert not_refused_as_expected([(model, {"prompt": "p" * (limit + 1)}, "prompt", words)]) == []

    def test_refusal_does_not_repeat_a_long_one(self) -> None:
        assert len(str(refusal_of("dall-e-2", prompt="p" * 100_000))) < 400

    def test_of_any_length_passes_where_no_limit_is_known(self) -> None:
        assert refused([*NANO_BANANAS, *UNKNOWN], {"prompt": "p" * 40_000}) == []


REFUSED_VALUES = [
    ("dall-e-2", "size", "1792x1024", "dall-e-2 takes 256x256, 512x512, 1024x1024"),
    ("dall-e-2", "size", "640x480", "dall-e-2 takes 256x256"),
    ("dall-e-2", "quality", "hd", "dall-e-2 takes standard"),
    ("dall-e-2", "quality", "never heard of", "dall-e-2 takes standard"),
    ("dall-e-2", "style", "vivid", "it is for dall-e-3; leave it out with dall-e-2"),
    ("dall-e-2", "response_format", "webp", "dall-e-2 takes url, b64_json"),
    ("dall-e-3", "size", "512x512", "dall-e-3 takes 1024x1024, 1792x1024, 1024x1792"),
    ("dall-e-3", "quality", "high", "dall-e-3 takes hd, standard"),
    ("dall-e-3", "style", "baroque", "dall-e-3 takes vivid, natural"),
    ("dall-e-3", "response_format", "webp", "dall-e-3 takes url, b64_json"),
    ("gpt-image-1", "size", "1792x1024", "gpt-image-1 takes auto, 1024x1024, 1536x1024, 1024x1536"),
    ("gpt-image-1", "size", "4096x4096", "gpt-image-1 takes auto, 1024x1024"),
    ("gpt-image-1", "quality", "xhigh", "gpt-image-1 takes auto, high, medium, low"),
    ("gpt-image-1", "background", "chequered", "gpt-image-1 takes transparent, opaque, auto"),
    ("gpt-image-1", "moderation", "strict", "gpt-image-1 takes low, auto"),
    ("gpt-image-1", "output_format", "gif", "gpt-image-1 takes png, jpeg, webp"),
    ("openai/gpt-image-1-2025-04-23", "quality", "xhigh", "gpt-image-1 takes auto, high, medium, low"),
    ("gpt-image-1-mini", "size", "1792x1024", "gpt-image-1-mini takes auto, 1024x1024"),
    ("gpt-image-1.5", "size", "256x256", "gpt-image-1.5 takes auto, 1024x1024"),
    ("gpt-image-1.5", "size", "3840x2160", "gpt-image-1.5 takes auto, 1024x1024"),
]
ONLY_FOR_DALL_E = [
    ("quality", "hd", "takes auto, high, medium, low"),
    ("quality", "standard", "takes auto, high, medium, low"),
    ("style", "vivid", "it is for dall-e-3; leave it out with"),
    ("style", "never heard of", "it is for dall-e-3; leave it out with"),
    ("response_format", "url", "it is for dall-e-2, dall-e-3; leave it out with"),
    ("response_format", "b64_json", "it is for dall-e-2, dall-e-3; leave it out with"),
]
ONLY_FOR_GPT_IMAGE: list[tuple[str, object]] = [
    ("background", "transparent"),
    ("background", "opaque"),
    ("moderation", "low"),
    ("output_format", "jpeg"),
    ("output_format", "webp"),
    ("output_compression", 50),
    ("stream", True),
    ("partial_images", 1),
]


class TestRefusedValue:
    def test_is_named_with_what_is_allowed(self) -> None:
        cases = [(model, {field: value}, field, words) for model, field, value, words in REFUSED_VALUES]
        assert not_refused_as_expected(cases) == []

    def test_belongs_to_dall_e_and_not_to_gpt_image(self) -> None:
        every = product(GPT_IMAGES, ONLY_FOR_DALL_E)
        cases = [(model, {field: value}, field, words) for model, (field, value, words) in every]
        assert not_refused_as_expected(cases) == []

    def test_belongs_to_gpt_image_and_not_to_dall_e(self) -> None:
        every = product(DALL_ES, ONLY_FOR_GPT_IMAGE)
        words = "chatgpt-image-latest; leave it out with"
        cases = [(model, {field: value}, field, f"{words} {model}") for model, (field, value) in every]
        assert not_refused_as_expected(cases) == []


class TestSizeOfTheGptImage2Family:
    def test_is_refused_with_the_demand_that_it_breaks(self) -> None:
        for model in ("gpt-image-2", "gpt-image-2-2026-04-01", "gpt-image-2.5-foo", "x/gpt-image-2.6"):
            refusals = {size: refusal_of(model, size=size) for size in SIZES_THAT_BREAK_A_RULE}
            broken = {size: refusal and refusal.allowed for size, refusal in refusals.items()}
            assert broken == SIZES_THAT_BREAK_A_RULE, model
            assert all(len(str(refusal).splitlines()) == 1 for refusal in refusals.values())

    def test_is_refused_with_all_demands_that_it_breaks(self) -> None:
        refusal = refusal_of("gpt-image-2", size="5000x1000")
        assert refusal is not None
        for words in ("multiples of 16", "no edge above 3840", "a ratio within 1:3"):
            assert words in refusal.allowed
        assert "pixels in all" not in refusal.allowed

    def test_passes_up_to_the_very_edge(self) -> None:
        sizes = ["auto", *PRESETS_OF_GPT_IMAGE_2, "1024x640", "3840x1280", "1280x3840"]
        assert refused(["gpt-image-2"], *({"size": size} for size in sizes)) == []

    @settings(max_examples=examples(1_000))
    @given(EDGES, EDGES)
    def test_passes_exactly_when_it_obeys_the_rule(self, width: int, height: int) -> None:
        obeys = (
            (width | height) & 15 == 0
            and width <= 3840
            and height <= 3840
            and width / height <= 3
            and height / width <= 3
            and 655_360 <= width * height <= 8_294_400
        )
        assert (refusal_of("gpt-image-2", size=f"{width}x{height}") is None) is obeys

    @given(st.text() | st.from_regex(r"\A-?[0-9]{1,12}x[0-9]{1,12}\Z"), st.sampled_from([m.name for m in MODELS]))
    def test_any_text_passes_or_is_refused_in_one_line(self, size: str, model: str) -> None:
        refusal = refusal_of(model, size=size)
        if refusal is not None:
            assert refusal.field == "size"
            assert len(str(refusal).splitlines()) == 1


class TestTransparency:
    def test_is_refused_where_the_format_has_none(self) -> None:
        fields = {"background": "transparent", "output_format": "jpeg"}
        words = "it needs output_format png or webp, not jpeg"
        assert not_refused_as_expected((model, fields, "background", words) for model in [*GPT_IMAGES, *UNKNOWN]) == []

    def test_passes_with_png_webp_and_the_default_which_is_png(self) -> None:
        formats: list[dict[str, str]] = [{}, {"output_format": "png"}, {"output_format": "webp"}]
        assert refused(GPT_IMAGES, *({"background": "transparent", **fields} for fields in formats)) == []

    def test_is_not_missed_by_jpeg(self) -> None:
        backgrounds = ({"background": background, "output_format": "jpeg"} for background in ("opaque", "auto"))
        assert refused(["gpt-image-2"], *backgrounds) == []


class TestCompression:
    def test_is_refused_for_png(self) -> None:
        words = "it needs output_format jpeg or webp"
        formats: list[dict[str, str]] = [{}, {"output_format": "png"}]
        cases = [
            (model, {"output_compression": 80, **fields}, "output_compression", words)
            for model, fields in product(GPT_IMAGES, formats)
        ]
        assert not_refused_as_expected(cases) == []

    def test_passes_for_jpeg_and_webp(self) -> None:
        every = product(("jpeg", "webp"), (0, 80, 100))
        requests = ({"output_format": kind, "output_compression": compression} for kind, compression in every)
        assert refused(GPT_IMAGES, *requests) == []

    def test_of_100_says_nothing_and_passes(self) -> None:
        assert refused([*GPT_IMAGES, *DALL_ES], {"output_compression": 100}) == []

    def test_passes_for_a_model_whose_default_format_is_not_known(self) -> None:
        assert refused(UNKNOWN, {"output_compression": 50}) == []

    def test_passes_for_a_format_that_is_not_known(self) -> None:
        assert refusal_of("gpt-image-2", output_format="avif", output_compression=50) is None


class TestStreaming:
    def test_previews_are_refused_without_it(self) -> None:
        every = product([*GPT_IMAGES, *NANO_BANANAS, *UNKNOWN], ({}, {"stream": False}))
        words = "it needs stream=True"
        cases = [(model, {"partial_images": 2, **fields}, "partial_images", words) for model, fields in every]
        assert not_refused_as_expected(cases) == []

    def test_passes_with_and_without_previews(self) -> None:
        previews: list[dict[str, int]] = [{}, {"partial_images": 0}, {"partial_images": 3}]
        assert refused([*GPT_IMAGES, *UNKNOWN], *({"stream": True, **fields} for fields in previews)) == []

    def test_that_is_not_requested_passes(self) -> None:
        assert refused([*GPT_IMAGES, *DALL_ES, *UNKNOWN], {"stream": False, "partial_images": 0}) == []
