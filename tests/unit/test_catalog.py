"""What is known to be wrong for a model is refused in one line before it is paid; everything else passes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_imagegen import catalog
from airflow_provider_imagegen.catalog import MODELS, check, images_per_call, known_model, shut_down
from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.schemas import ImageRequest

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
COMMAND = "python -m airflow_provider_imagegen.catalog"
START, END = "<!-- models: start -->\n", "<!-- models: end -->\n"

GPT_IMAGES = [
    "gpt-image-1",
    "gpt-image-1-mini",
    "gpt-image-1.5",
    "gpt-image-2",
    "gpt-image-2.6-fast",
    "chatgpt-image-latest",
]
EVOLVING = [name for name in GPT_IMAGES if name != "gpt-image-1"]
DALL_ES = ["dall-e-2", "dall-e-3"]
NANO_BANANAS = ["nano-banana", "nano-banana-2", "nano-banana-pro"]
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
UNKNOWN = [None, "", "flux-1.1-pro", "gpt-image-10", "gpt-image-3", "dall-e-4", "my/own/", "gpt-image-1-turbo"]


def refusal_of(model: str | None, **fields: Any) -> InvalidRequest | None:
    try:
        check(ImageRequest(model=model, **{"prompt": "p", **fields}))
    except InvalidRequest as refusal:
        return refusal
    return None


def assert_refused(model: str | None, fields: dict[str, Any], field: str, words: str) -> None:
    refusal = refusal_of(model, **fields)
    assert refusal is not None
    assert refusal.field == field
    assert refusal.value == fields[field]
    assert f"{field}=" in str(refusal)
    assert words in refusal.allowed
    assert len(str(refusal).splitlines()) == 1
    assert refusal.billed == "no"


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

    @pytest.mark.parametrize("model", [*NANO_BANANAS, *UNKNOWN])
    def test_of_any_length_passes_where_no_limit_is_known(self, model: str | None) -> None:
        assert refusal_of(model, prompt="p" * 40_000) is None


class TestRefusedValue:
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

    @pytest.mark.parametrize("size", ["auto", *PRESETS_OF_GPT_IMAGE_2, "1024x640", "3840x1280", "1280x3840"])
    def test_passes_up_to_the_very_edge(self, size: str) -> None:
        assert refusal_of("gpt-image-2", size=size) is None

    @settings(max_examples=1_000)
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
    @pytest.mark.parametrize("model", [*GPT_IMAGES, *UNKNOWN])
    @pytest.mark.parametrize("output_format", ["jpeg"])
    def test_is_refused_where_the_format_has_none(self, model: str | None, output_format: str) -> None:
        fields = {"background": "transparent", "output_format": output_format}
        assert_refused(model, fields, "background", "it needs output_format png or webp, not jpeg")

    @pytest.mark.parametrize("model", GPT_IMAGES)
    @pytest.mark.parametrize("fields", [{}, {"output_format": "png"}, {"output_format": "webp"}])
    def test_passes_with_png_webp_and_the_default_which_is_png(self, model: str, fields: dict[str, str]) -> None:
        assert refusal_of(model, background="transparent", **fields) is None

    @pytest.mark.parametrize("background", ["opaque", "auto"])
    def test_is_not_missed_by_jpeg(self, background: str) -> None:
        assert refusal_of("gpt-image-2", background=background, output_format="jpeg") is None


class TestCompression:
    @pytest.mark.parametrize("model", GPT_IMAGES)
    @pytest.mark.parametrize("fields", [{}, {"output_format": "png"}])
    def test_is_refused_for_png(self, model: str, fields: dict[str, str]) -> None:
        words = "it needs output_format jpeg or webp"
        assert_refused(model, {"output_compression": 80, **fields}, "output_compression", words)

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
    @pytest.mark.parametrize("model", [*GPT_IMAGES, *NANO_BANANAS, *UNKNOWN])
    @pytest.mark.parametrize("fields", [{}, {"stream": False}])
    def test_previews_are_refused_without_it(self, model: str | None, fields: dict[str, bool]) -> None:
        assert_refused(model, {"partial_images": 2, **fields}, "partial_images", "it needs stream=True")

    @pytest.mark.parametrize("model", [*GPT_IMAGES, *UNKNOWN])
    @pytest.mark.parametrize("fields", [{}, {"partial_images": 0}, {"partial_images": 3}])
    def test_passes_with_and_without_previews(self, model: str | None, fields: dict[str, int]) -> None:
        assert refusal_of(model, stream=True, **fields) is None

    @pytest.mark.parametrize("model", [*GPT_IMAGES, *DALL_ES, *UNKNOWN])
    def test_that_is_not_asked_for_passes(self, model: str | None) -> None:
        assert refusal_of(model, stream=False, partial_images=0) is None


class TestWhatPasses:
    @pytest.mark.parametrize("model", [model.name for model in MODELS])
    def test_every_value_in_the_table(self, model: str) -> None:
        known = known_model(model)
        assert known is not None
        for field, values in known.choices.items():
            for value in () if isinstance(values, catalog.SizeRule) else values:
                assert refusal_of(model, **{field: value}) is None

    @pytest.mark.parametrize("model", EVOLVING)
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("quality", "xhigh"),
            ("quality", "max"),
            ("output_format", "gif"),
            ("output_format", "svg"),
            ("background", "chequered"),
            ("moderation", "strict"),
        ],
    )
    def test_value_nobody_has_heard_of_on_a_model_that_evolves(self, model: str, field: str, value: str) -> None:
        assert refusal_of(model, **{field: value}) is None

    @pytest.mark.parametrize("model", ["gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest"])
    def test_size_nobody_has_heard_of_on_a_model_that_evolves(self, model: str) -> None:
        assert refusal_of(model, size="4096x4096") is None

    @pytest.mark.parametrize("model", UNKNOWN)
    def test_anything_on_an_unknown_model(self, model: str | None) -> None:
        choices = ("size", "quality", "style", "background", "moderation", "output_format", "response_format")
        odd = dict.fromkeys(choices, "odd")
        assert refusal_of(model, n=10, output_compression=1, stream=True, partial_images=3, **odd) is None

    @pytest.mark.parametrize("model", NANO_BANANAS)
    def test_what_nano_banana_ignores(self, model: str) -> None:
        ignored = {
            "quality": "hd",
            "style": "vivid",
            "response_format": "url",
            "background": "transparent",
            "output_format": "jpeg",
        }
        assert refusal_of(model, output_compression=50, size="auto", **ignored) is None

    @pytest.mark.parametrize("model", [model.name for model in MODELS])
    @pytest.mark.parametrize("n", [1, 2, 10])
    def test_more_images_than_one_call_makes(self, model: str, n: int) -> None:
        assert refusal_of(model, n=n) is None

    @pytest.mark.parametrize("model", [model.name for model in MODELS if model.shut_down])
    def test_model_that_its_vendor_shut_down(self, model: str) -> None:
        assert refusal_of(model) is None

    def test_sample_of_ace_data_clouds_page(self) -> None:
        sample = {
            "background": "auto",
            "moderation": "auto",
            "n": 1,
            "output_compression": 100,
            "output_format": "png",
            "partial_images": 0,
            "size": "1024x1024",
            "quality": "auto",
            "response_format": "url",
            "style": "vivid",
            "callback_url": "https://hook.example/",
        }
        assert refusal_of("dall-e-3", **sample) is None

    @pytest.mark.parametrize("model", DALL_ES)
    @pytest.mark.parametrize("field", ["size", "quality", "background", "moderation"])
    def test_documented_default_on_an_older_model(self, model: str, field: str) -> None:
        assert refusal_of(model, **{field: "auto"}) is None


class TestModelsName:
    @pytest.mark.parametrize(
        ("name", "known"),
        [
            ("gpt-image-1", "gpt-image-1"),
            ("openai/gpt-image-1", "gpt-image-1"),
            ("azure/eu/gpt-image-1", "gpt-image-1"),
            ("gpt-image-1-2025-04-23", "gpt-image-1"),
            ("gpt-image-1@20250423", "gpt-image-1"),
            ("gpt-image-1:latest", "gpt-image-1"),
            ("gpt-image-1-mini", "gpt-image-1-mini"),
            ("openai/gpt-image-1-mini-2025-10-06", "gpt-image-1-mini"),
            ("gpt-image-1.5", "gpt-image-1.5"),
            ("gpt-image-1.5-2025-12-16", "gpt-image-1.5"),
            ("gpt-image-2", "gpt-image-2"),
            ("gpt-image-2-2026-04-01", "gpt-image-2"),
            ("gpt-image-2.5", "gpt-image-2"),
            ("gpt-image-2.5-foo", "gpt-image-2"),
            ("gpt-image-2.6-2026-09-01", "gpt-image-2"),
            ("chatgpt-image-latest", "chatgpt-image-latest"),
            ("dall-e-3", "dall-e-3"),
            ("openai/dall-e-2", "dall-e-2"),
            ("nano-banana", "nano-banana"),
            ("nano-banana-2", "nano-banana-2"),
            ("google/nano-banana-pro", "nano-banana-pro"),
            ("nano-banana-pro-preview", "nano-banana-pro"),
            ("nano-banana-3", "nano-banana"),
            ("gpt-image-10", None),
            ("gpt-image-1.55", None),
            ("gpt-image-1-minion", None),
            ("gpt-image-1-turbo", None),
            ("gpt-image-20", None),
            ("gpt-image-2.5foo", None),
            ("gpt-image-2.", None),
            ("gpt-image", None),
            ("my-gpt-image-1", None),
            ("gpt-image-1/", None),
            ("gpt-image-1/edit", None),
            ("dall-e-30", None),
            ("nano-bananas", None),
            ("", None),
            (None, None),
        ],
    )
    def test_is_looked_up_by_its_longest_known_beginning(self, name: str | None, known: str | None) -> None:
        found = known_model(name)
        assert (found and found.name) == known

    @pytest.mark.parametrize(
        ("name", "count"),
        [
            ("dall-e-2", 10),
            ("dall-e-3", 1),
            *((name, 10) for name in GPT_IMAGES),
            *((name, 1) for name in (*NANO_BANANAS, *UNKNOWN)),
        ],
    )
    def test_tells_how_many_images_one_call_makes(self, name: str | None, count: int) -> None:
        assert images_per_call(name) == count

    @pytest.mark.parametrize(
        ("name", "month"),
        [
            ("dall-e-2", "2026-05"),
            ("openai/dall-e-3", "2026-05"),
            ("gpt-image-1-2025-04-23", "2026-10"),
            ("gpt-image-1-mini", None),
            ("gpt-image-1.5", None),
            ("gpt-image-2", None),
            ("nano-banana", None),
            ("gpt-image-10", None),
            (None, None),
        ],
    )
    def test_tells_when_its_vendor_shut_it_down(self, name: str | None, month: str | None) -> None:
        assert shut_down(name) == month


def words_for(field: str) -> st.SearchStrategy[str | None]:
    lists = [model.choices.get(field, ()) for model in MODELS]
    listed = {value for values in lists if isinstance(values, tuple) for value in values}
    return st.none() | st.sampled_from([*sorted(listed), "auto", "jpg", "3840x2160"]) | st.text(max_size=12)


REQUESTS = st.builds(
    ImageRequest,
    prompt=st.sampled_from(["p", "p" * 1_001, "p" * 4_001, "p" * 32_001]),
    model=st.none() | st.sampled_from([*GPT_IMAGES, *DALL_ES, *NANO_BANANAS]) | st.text(max_size=20),
    n=st.integers(1, 10),
    size=words_for("size"),
    quality=words_for("quality"),
    style=words_for("style"),
    background=words_for("background"),
    moderation=words_for("moderation"),
    output_format=words_for("output_format"),
    output_compression=st.none() | st.integers(0, 100),
    partial_images=st.none() | st.integers(0, 3),
    response_format=words_for("response_format"),
    stream=st.none() | st.booleans(),
    extra=st.dictionaries(
        st.sampled_from(["seed", "steps", "else"]),
        st.none() | st.booleans() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
        max_size=2,
    ),
)


class TestAnyRequest:
    @settings(max_examples=2_000)
    @given(REQUESTS)
    def test_passes_or_is_refused_in_one_line_that_names_a_field_and_its_value(self, request: ImageRequest) -> None:
        try:
            check(request)
        except InvalidRequest as refusal:
            assert refusal.value == getattr(request, refusal.field)
            assert refusal.value is not None
            assert len(str(refusal).splitlines()) == 1
            assert refusal.allowed


class TestTable:
    def test_in_the_docs_is_the_generated_one(self) -> None:
        written = DOCS.read_text(encoding="utf-8").partition(START)[2].partition(END)[0].strip()
        advice = f"docs/models.md is not what the catalog says: put the output of `{COMMAND}` between its markers"
        assert written == catalog.table().strip(), advice

    def test_has_a_row_of_equal_width_for_every_model(self) -> None:
        head, line, *rows = catalog.table().splitlines()
        assert {row.count(" | ") for row in (line, *rows)} == {head.count(" | ")}
        assert [row.split("`")[1] for row in rows] == [model.name for model in MODELS]

    @pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
    def test_is_printed_by_the_module(self, capsys: pytest.CaptureFixture[str]) -> None:
        runpy.run_module("airflow_provider_imagegen.catalog", run_name="__main__")
        assert capsys.readouterr().out == catalog.table()
