"""What is known to be wrong for a model is refused in one line before it is paid."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_imagegen.catalog import MODELS
from tests.examples import examples
from tests.unit.known_models import DALL_ES, GPT_IMAGES, NANO_BANANAS, UNKNOWN, assert_refused, refusal_of

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
EDGES = st.integers(1, 300).map(lambda sixteenth: 16 * sixteenth) | st.integers(1, 5_000)


class TestPrompt:
    @pytest.mark.parametrize(
        ("model", "limit"),
        [("dall-e-2", 1_000), ("dall-e-3", 4_000), *((name, 32_000) for name in GPT_IMAGES)],
    )
    def test_has_a_longest_length(self, model: str, limit: int) -> None:
        assert refusal_of(model, prompt="p" * limit) is None
        words = f"takes at most {limit} characters, not {limit + 1}"
        assert_refused(model, {"prompt": "p" * (limit + 1)}, "prompt", words)

    def test_refusal_does_not_repeat_a_long_one(self) -> None:
        assert len(str(refusal_of("dall-e-2", prompt="p" * 100_000))) < 400

    @pytest.mark.sampled
    @pytest.mark.parametrize("model", [*NANO_BANANAS, *UNKNOWN])
    def test_of_any_length_passes_where_no_limit_is_known(self, model: str | None) -> None:
        assert refusal_of(model, prompt="p" * 40_000) is None


class TestRefusedValue:
    @pytest.mark.sampled
    @pytest.mark.parametrize(
        ("model", "field", "value", "words"),
        [
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
        ],
    )
    def test_is_named_with_what_is_allowed(self, model: str, field: str, value: str, words: str) -> None:
        assert_refused(model, {field: value}, field, words)

    @pytest.mark.sampled
    @pytest.mark.parametrize("model", GPT_IMAGES)
    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("quality", "hd", "takes auto, high, medium, low"),
            ("quality", "standard", "takes auto, high, medium, low"),
            ("style", "vivid", "it is for dall-e-3; leave it out with"),
            ("style", "never heard of", "it is for dall-e-3; leave it out with"),
            ("response_format", "url", "it is for dall-e-2, dall-e-3; leave it out with"),
            ("response_format", "b64_json", "it is for dall-e-2, dall-e-3; leave it out with"),
        ],
    )
    def test_belongs_to_dall_e_and_not_to_gpt_image(self, model: str, field: str, value: str, words: str) -> None:
        assert_refused(model, {field: value}, field, words)

    @pytest.mark.sampled
    @pytest.mark.parametrize("model", DALL_ES)
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("background", "transparent"),
            ("background", "opaque"),
            ("moderation", "low"),
            ("output_format", "jpeg"),
            ("output_format", "webp"),
            ("output_compression", 50),
            ("stream", True),
            ("partial_images", 1),
        ],
    )
    def test_belongs_to_gpt_image_and_not_to_dall_e(self, model: str, field: str, value: object) -> None:
        assert_refused(model, {field: value}, field, f"chatgpt-image-latest; leave it out with {model}")


class TestSizeOfTheGptImage2Family:
    @pytest.mark.sampled
    @pytest.mark.parametrize("model", ["gpt-image-2", "gpt-image-2-2026-04-01", "gpt-image-2.5-foo", "x/gpt-image-2.6"])
    @pytest.mark.parametrize(
        ("size", "broken"),
        [
            ("1000x1024", "gpt-image-2 wants both edges multiples of 16"),
            ("1024x1000", "gpt-image-2 wants both edges multiples of 16"),
            ("3856x2048", "gpt-image-2 wants no edge above 3840 pixels"),
            ("2048x3856", "gpt-image-2 wants no edge above 3840 pixels"),
            ("1616x528", "gpt-image-2 wants a ratio within 1:3 to 3:1"),
            ("528x1616", "gpt-image-2 wants a ratio within 1:3 to 3:1"),
            ("512x512", "gpt-image-2 wants 655360 to 8294400 pixels in all"),
            ("3840x2176", "gpt-image-2 wants 655360 to 8294400 pixels in all"),
            ("large", "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto"),
            ("1024", "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto"),
            ("1024×1024", "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto"),
            ("1024x1024\n", "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto"),
            ("-16x1024", "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto"),
            ("0x0", "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto"),
            ("9" * 5000 + "x16", "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto"),
            ("", "gpt-image-2 wants WIDTHxHEIGHT in pixels, or auto"),
        ],
    )
    def test_is_refused_with_the_demand_that_it_breaks(self, model: str, size: str, broken: str) -> None:
        refusal = refusal_of(model, size=size)
        assert refusal is not None
        assert refusal.allowed == broken
        assert len(str(refusal).splitlines()) == 1

    def test_is_refused_with_all_demands_that_it_breaks(self) -> None:
        refusal = refusal_of("gpt-image-2", size="5000x1000")
        assert refusal is not None
        for words in ("multiples of 16", "no edge above 3840", "a ratio within 1:3"):
            assert words in refusal.allowed
        assert "pixels in all" not in refusal.allowed

    @pytest.mark.sampled
    @pytest.mark.parametrize("size", ["auto", *PRESETS_OF_GPT_IMAGE_2, "1024x640", "3840x1280", "1280x3840"])
    def test_passes_up_to_the_very_edge(self, size: str) -> None:
        assert refusal_of("gpt-image-2", size=size) is None

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
    @pytest.mark.sampled
    @pytest.mark.parametrize("model", [*GPT_IMAGES, *UNKNOWN])
    @pytest.mark.parametrize("output_format", ["jpeg"])
    def test_is_refused_where_the_format_has_none(self, model: str | None, output_format: str) -> None:
        fields = {"background": "transparent", "output_format": output_format}
        assert_refused(model, fields, "background", "it needs output_format png or webp, not jpeg")

    @pytest.mark.sampled
    @pytest.mark.parametrize("model", GPT_IMAGES)
    @pytest.mark.parametrize("fields", [{}, {"output_format": "png"}, {"output_format": "webp"}])
    def test_passes_with_png_webp_and_the_default_which_is_png(self, model: str, fields: dict[str, str]) -> None:
        assert refusal_of(model, background="transparent", **fields) is None

    @pytest.mark.parametrize("background", ["opaque", "auto"])
    def test_is_not_missed_by_jpeg(self, background: str) -> None:
        assert refusal_of("gpt-image-2", background=background, output_format="jpeg") is None


class TestCompression:
    @pytest.mark.sampled
    @pytest.mark.parametrize("model", GPT_IMAGES)
    @pytest.mark.parametrize("fields", [{}, {"output_format": "png"}])
    def test_is_refused_for_png(self, model: str, fields: dict[str, str]) -> None:
        words = "it needs output_format jpeg or webp"
        assert_refused(model, {"output_compression": 80, **fields}, "output_compression", words)

    @pytest.mark.sampled
    @pytest.mark.parametrize("model", GPT_IMAGES)
    @pytest.mark.parametrize("output_format", ["jpeg", "webp"])
    @pytest.mark.parametrize("compression", [0, 80, 100])
    def test_passes_for_jpeg_and_webp(self, model: str, output_format: str, compression: int) -> None:
        assert refusal_of(model, output_format=output_format, output_compression=compression) is None

    @pytest.mark.parametrize("model", [*GPT_IMAGES, *DALL_ES])
    def test_of_100_says_nothing_and_passes(self, model: str) -> None:
        assert refusal_of(model, output_compression=100) is None

    @pytest.mark.parametrize("model", UNKNOWN)
    def test_passes_for_a_model_whose_default_format_is_not_known(self, model: str | None) -> None:
        assert refusal_of(model, output_compression=50) is None

    def test_passes_for_a_format_that_is_not_known(self) -> None:
        assert refusal_of("gpt-image-2", output_format="avif", output_compression=50) is None


class TestStreaming:
    @pytest.mark.sampled
    @pytest.mark.parametrize("model", [*GPT_IMAGES, *NANO_BANANAS, *UNKNOWN])
    @pytest.mark.parametrize("fields", [{}, {"stream": False}])
    def test_previews_are_refused_without_it(self, model: str | None, fields: dict[str, bool]) -> None:
        assert_refused(model, {"partial_images": 2, **fields}, "partial_images", "it needs stream=True")

    @pytest.mark.sampled
    @pytest.mark.parametrize("model", [*GPT_IMAGES, *UNKNOWN])
    @pytest.mark.parametrize("fields", [{}, {"partial_images": 0}, {"partial_images": 3}])
    def test_passes_with_and_without_previews(self, model: str | None, fields: dict[str, int]) -> None:
        assert refusal_of(model, stream=True, **fields) is None

    @pytest.mark.sampled
    @pytest.mark.parametrize("model", [*GPT_IMAGES, *DALL_ES, *UNKNOWN])
    def test_that_is_not_asked_for_passes(self, model: str | None) -> None:
        assert refusal_of(model, stream=False, partial_images=0) is None
