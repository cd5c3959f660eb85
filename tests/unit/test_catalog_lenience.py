"""Unknown values are passed on, so that new features of a vendor work."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_imagegen.catalog.models import MODELS, check
from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.schemas import ImageRequest
from tests.examples import examples
from tests.unit.known_models import DALL_ES, EVOLVING, GPT_IMAGES, NANO_BANANAS, UNKNOWN, refusal_of, refused

NAMES = [model.name for model in MODELS]


class TestWhatPasses:
    def test_every_value_in_the_table(self) -> None:
        listed = [
            (model.name, {field: value})
            for model in MODELS
            for field, values in model.choices.items()
            for value in (values if isinstance(values, tuple) else ())
        ]
        assert listed
        assert [refusal for model, fields in listed for refusal in refused([model], fields)] == []

    def test_unknown_value_on_a_model_that_evolves(self) -> None:
        values = {
            "quality": ("xhigh", "max"),
            "output_format": ("gif", "svg"),
            "background": ("chequered",),
            "moderation": ("strict",),
        }
        assert refused(EVOLVING, *({field: value} for field, unheard in values.items() for value in unheard)) == []

    def test_unknown_size_on_a_model_that_evolves(self) -> None:
        assert refused(["gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest"], {"size": "4096x4096"}) == []

    def test_anything_on_an_unknown_model(self) -> None:
        choices = ("size", "quality", "style", "background", "moderation", "output_format", "response_format")
        odd = dict.fromkeys(choices, "odd")
        assert refused(UNKNOWN, {"n": 10, "output_compression": 1, "stream": True, "partial_images": 3, **odd}) == []

    def test_what_nano_banana_ignores(self) -> None:
        ignored = {
            "quality": "hd",
            "style": "vivid",
            "response_format": "url",
            "background": "transparent",
            "output_format": "jpeg",
            "output_compression": 50,
            "size": "auto",
        }
        assert refused(NANO_BANANAS, ignored) == []

    def test_more_images_than_one_call_makes(self) -> None:
        assert refused(NAMES, *({"n": n} for n in (1, 2, 10))) == []

    def test_model_that_its_vendor_shut_down(self) -> None:
        assert refused(model.name for model in MODELS if model.shut_down) == []

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

    def test_documented_default_on_an_older_model(self) -> None:
        assert refused(DALL_ES, *({field: "auto"} for field in ("size", "quality", "background", "moderation"))) == []


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
    @settings(max_examples=examples(500))
    @given(REQUESTS)
    def test_passes_or_is_refused_in_one_line_that_names_a_field_and_its_value(self, request: ImageRequest) -> None:
        try:
            check(request)
        except InvalidRequest as refusal:
            assert refusal.value == getattr(request, refusal.field)
            assert refusal.value is not None
            assert len(str(refusal).splitlines()) == 1
            assert refusal.allowed
