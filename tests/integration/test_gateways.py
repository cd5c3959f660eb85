"""Every gateway through hook and operator, against the emulator's own dialect of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from airflow_provider_imagegen.catalog.models import MODELS
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.engine.sources import read_sources
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    GenerationFailed,
    InvalidRequest,
    ModerationBlocked,
    OutcomeUnknown,
    OutOfBalance,
    RateLimited,
    RequestRefused,
)
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from airflow_provider_imagegen.operators.imagegen import EditImageOperator
from tests.conftest import BUCKET
from tests.integration.conftest import Outcome, released_when, set_connection
from tests.stack.object_store import ObjectStore
from tests.stack.waiting import HANG, scaled

pytestmark = pytest.mark.usefixtures("connections", "small_images")

PREFIXES = {"acedatacloud": "", "nano_banana": "", "openai": "/openai-api", "apigo": "/apigo"}
SYNCHRONOUS = ["openai", "apigo"]
RunTask = Callable[..., Outcome]


@pytest.fixture
def connect(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Point the default connection at one of the emulator's dialects."""

    def point(gateway: str, **extra: Any) -> None:
        set_connection(
            monkeypatch,
            "imagegen_default",
            conn_type="imagegen",
            host=f"{emulator.base_url}{PREFIXES[gateway]}",
            password=emulator.token,
            extra={"gateway": gateway, **extra},
        )

    return point


def png(size: tuple[int, int] = (64, 64), mode: str = "RGBA") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


class TestHookGenerates:
    @pytest.mark.parametrize("gateway", PREFIXES)
    def test_with_every_gateway(self, connect: Callable[..., None], gateway: str) -> None:
        connect(gateway)
        model = "nano-banana" if gateway == "nano_banana" else "gpt-image-1"
        (output,) = ImageGenHook().generate(prompt="a red kite", model=model, poll_interval=0.1)
        assert output.url or (output.content or b"").startswith(b"\x89PNG")

    @pytest.mark.parametrize("gateway", PREFIXES)
    def test_on_an_event_loop_too(self, connect: Callable[..., None], gateway: str) -> None:
        import asyncio

        connect(gateway)
        model = "nano-banana" if gateway == "nano_banana" else "gpt-image-2"
        outputs = asyncio.run(ImageGenHook().agenerate(prompt="a red kite", model=model, n=2, poll_interval=0.1))
        assert len(outputs) == 2

    @pytest.mark.parametrize("gateway", SYNCHRONOUS)
    @pytest.mark.parametrize("response_format", ["url", "b64_json"])
    def test_takes_either_form_of_response(
        self, connect: Callable[..., None], gateway: str, response_format: str
    ) -> None:
        connect(gateway)
        (output,) = ImageGenHook().generate(
            prompt="a red kite", model="dall-e-3", response_format=response_format, poll_interval=0.1
        )
        assert (output.content is None) == (response_format == "url")

    def test_four_images_are_four_calls_where_a_call_makes_one(
        self, connect: Callable[..., None], emulator: RunningEmulator
    ) -> None:
        connect("acedatacloud")
        outputs = ImageGenHook().generate(prompt="a red kite", model="gpt-image-1", n=4, poll_interval=0.1)
        assert len(outputs) == 4
        assert emulator.totals()["submits"] == emulator.totals()["billed_images"] == 4

    @pytest.mark.parametrize("gateway", PREFIXES)
    def test_probe_is_free_and_proves_the_token(
        self, connect: Callable[..., None], emulator: RunningEmulator, gateway: str
    ) -> None:
        connect(gateway)
        assert ImageGenHook().test_connection()[0] is True
        emulator.change(token="rotated-token")
        assert ImageGenHook().test_connection()[0] is False
        assert emulator.totals()["submits"] == 0


class TestHookEdits:
    @pytest.mark.parametrize("gateway", ["acedatacloud", "openai", "apigo"])
    def test_bytes_with_a_mask(self, connect: Callable[..., None], gateway: str) -> None:
        connect(gateway)
        outputs = ImageGenHook().edit(
            prompt="more wind", model="gpt-image-1", images=[png(), png()], mask=png(), poll_interval=0.1
        )
        assert len(outputs) == 1

    def test_a_jpeg_that_holds_two_images(self, connect: Callable[..., None]) -> None:
        connect("openai")
        content = io.BytesIO()
        Image.new("RGB", (64, 64)).save(content, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))])
        (source,) = read_sources([content.getvalue()], "images", None, lambda bucket, key: b"")
        assert (source.name, source.content_type) == ("image.jpeg", "image/jpeg")
        (output,) = ImageGenHook().edit(prompt="more wind", model="gpt-image-1", images=[content.getvalue()])
        assert output.content

    @pytest.mark.parametrize("gateway", PREFIXES)
    async def test_addresses(self, connect: Callable[..., None], gateway: str) -> None:
        connect(gateway)
        model = "nano-banana" if gateway == "nano_banana" else "gpt-image-1"
        outputs = await ImageGenHook().aedit(
            prompt="more wind", model=model, images=["https://example.com/a.png"], poll_interval=0.1
        )
        assert len(outputs) == 1

    @pytest.mark.parametrize(
        ("images", "mask", "model", "words"),
        [
            ([], None, "gpt-image-1", "images"),
            ([png()] * 17, None, "gpt-image-1", "images"),
            ("one.png", None, "gpt-image-1", "a list of addresses"),
            ([b"no image"], None, "gpt-image-1", "a png, jpeg or webp image"),
            (["https://example.com/a.png", png()], None, "gpt-image-1", "all addresses, or all"),
            (["no-bucket.png"], None, "gpt-image-1", "s3://bucket/key"),
            ([png()], png((32, 32)), "gpt-image-1", "mask='32x32' is not allowed: the first image's size, 64x64"),
            ([png()], png(mode="RGB"), "gpt-image-1", "a png with an alpha channel"),
            ([png((64, 32))], None, "dall-e-2", "a square png"),
            ([png(), png()], None, "dall-e-2", "one image with dall-e-2"),
        ],
    )
    def test_refuses_wrong_sources_before_paying(
        self, emulator: RunningEmulator, images: Any, mask: Any, model: str, words: str
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            ImageGenHook().edit(prompt="more wind", model=model, images=images, mask=mask)
        assert words in str(caught.value)
        assert emulator.totals()["submits"] == emulator.totals()["edits"] == 0


class TestOperatorGenerates:
    @pytest.mark.parametrize("gateway", SYNCHRONOUS)
    def test_in_the_worker_with_a_synchronous_gateway(
        self, run_task: RunTask, connect: Callable[..., None], gateway: str
    ) -> None:
        connect(gateway)
        outcome = run_task(model="gpt-image-2", n=2, size="1024x1024")
        assert outcome.state == "success"
        assert [image["index"] for image in outcome.manifest["images"]] == [0, 1]
        assert outcome.manifest["usage"]["total_tokens"] > 0
        assert (outcome.manifest["gateway"], outcome.manifest["billed"]) == (gateway, 2)
        assert f"The response of {gateway} contains the image, so this task occupies its worker slot" in outcome.log

    @pytest.mark.parametrize("gateway", SYNCHRONOUS)
    def test_four_side_by_side_where_a_call_makes_one(
        self, run_task: RunTask, connect: Callable[..., None], emulator: RunningEmulator, gateway: str
    ) -> None:
        connect(gateway)
        with released_when(emulator, lambda totals: totals["in_flight"] >= 4, "four side by side"):
            outcome = run_task(model="dall-e-3", n=4)
        assert [image["index"] for image in outcome.manifest["images"]] == [0, 1, 2, 3]
        assert emulator.totals()["peak_in_flight"] == 4

    def test_no_more_at_once_than_the_connection_allows(
        self, run_task: RunTask, connect: Callable[..., None], emulator: RunningEmulator
    ) -> None:
        connect("openai", max_in_flight=2)
        with released_when(emulator, lambda totals: totals["in_flight"] >= 2, "two side by side"):
            outcome = run_task(model="dall-e-3", n=4)
        assert outcome.manifest["delivered"] == 4
        assert emulator.totals()["peak_in_flight"] == 2

    def test_nano_banana_natively(self, run_task: RunTask, connect: Callable[..., None]) -> None:
        connect("nano_banana")
        outcome = run_task(model="nano-banana-pro", n=3, extra={"aspect_ratio": "16:9", "resolution": "1K"})
        assert outcome.manifest["delivered"] == 3

    def test_callback_is_requested_and_polling_continues(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        outcome = run_task(callback_url="http://127.0.0.1:9/hook?secret=canary")
        assert outcome.state == "success"
        assert "canary" not in outcome.log


class TestStreaming:
    @pytest.mark.parametrize("gateway", SYNCHRONOUS)
    def test_lands_the_image_and_its_previews(
        self, run_task: RunTask, connect: Callable[..., None], object_store: ObjectStore, gateway: str
    ) -> None:
        connect(gateway)
        outcome = run_task(stream=True, partial_images=2, land_previews=True, s3_key=f"streams/{gateway}")
        assert outcome.state == "success"
        listed = object_store.client().list_objects_v2(Bucket=BUCKET, Prefix=f"streams/{gateway}/")["Contents"]
        names = {entry["Key"].rpartition("/")[2] for entry in listed}
        assert names == {"0.png", "0.preview-0.png", "0.preview-1.png", "manifest.json"}

    def test_previews_stay_away_unless_requested(
        self, run_task: RunTask, connect: Callable[..., None], object_store: ObjectStore
    ) -> None:
        connect("openai")
        run_task(stream=True, partial_images=1, s3_key="streams/quiet")
        listed = object_store.client().list_objects_v2(Bucket=BUCKET, Prefix="streams/quiet/")["Contents"]
        assert len(listed) == 2

    @pytest.mark.parametrize("kind", ["stall", "cut", "drop"])
    def test_a_stream_without_its_end_is_an_unknown_outcome(
        self, connect: Callable[..., None], emulator: RunningEmulator, kind: str
    ) -> None:
        # Only silence is a matter of time.
        connect("openai", timeout=scaled(1.0) if kind == "stall" else HANG)
        emulator.arm("submit", kind)
        with pytest.raises(OutcomeUnknown) as caught:
            ImageGenHook().generate(prompt="a red kite", model="gpt-image-1", stream=True, partial_images=1)
        assert caught.value.billed == "unknown"
        assert emulator.totals()["submits"] == 1

    def test_is_refused_where_the_gateway_cannot(self, emulator: RunningEmulator) -> None:
        with pytest.raises(InvalidRequest, match="acedatacloud does not support stream=True"):
            ImageGenHook().generate(prompt="a red kite", model="gpt-image-1", stream=True)
        assert emulator.totals()["submits"] == 0


class TestEditOperator:
    @pytest.mark.parametrize("gateway", ["acedatacloud", "openai", "apigo"])
    def test_edits_images_in_s3(
        self, run_task: RunTask, connect: Callable[..., None], object_store: ObjectStore, gateway: str
    ) -> None:
        connect(gateway)
        s3 = object_store.client()
        for key in ("sources/a.png", "sources/b.png", "sources/mask.png"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=png())
        outcome = run_task(
            EditImageOperator,
            images=["sources/a.png", f"s3://{BUCKET}/sources/b.png"],
            mask="sources/mask.png",
            input_fidelity="high",
        )
        assert outcome.state == "success"
        assert outcome.manifest["delivered"] == 1

    def test_a_source_that_is_not_there_costs_nothing(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        outcome = run_task(EditImageOperator, images=["sources/nowhere.png"])
        assert outcome.state == "failed"
        assert f"s3://{BUCKET}/sources/nowhere.png cannot be read" in outcome.log
        assert emulator.totals()["edits"] == 0


class TestShortfall:
    def test_fails_by_default_and_names_what_landed(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "fewer", images=2)
        outcome = run_task(model="dall-e-2", size="512x512", n=3)
        assert outcome.state == "failed"
        assert "2 of 3 images landed" in outcome.log

    def test_is_counted_where_it_is_accepted(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "fewer", images=2)
        manifest = run_task(model="dall-e-2", size="512x512", n=3, on_partial="accept").manifest
        assert (manifest["requested"], manifest["delivered"], manifest["billed"]) == (3, 2, 2)
        assert [missing["index"] for missing in manifest["failures"]] == [2]

    def test_one_refused_call_does_not_cost_the_others(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "fail", code="api_error", after=1, times=1)
        manifest = run_task(n=3, on_partial="accept").manifest
        assert (manifest["delivered"], manifest["billed"]) == (2, 2)
        assert [missing["code"] for missing in manifest["failures"]] == ["api_error"]


class TestErrors:
    @pytest.mark.sampled
    @pytest.mark.parametrize(
        ("code", "status", "kind"),
        [
            ("bad_request", 400, RequestRefused),
            ("no_token", 400, AuthenticationError),
            ("token_mismatched", 401, AuthenticationError),
            ("invalid_token", 401, AuthenticationError),
            ("token_expired", 401, AuthenticationError),
            ("authentication_failed", 401, AuthenticationError),
            ("api_not_implemented", 400, RequestRefused),
            ("no_api", 404, RequestRefused),
            ("disabled", 403, RequestRefused),
            ("forbidden", 403, RequestRefused),
            ("used_up", 403, OutOfBalance),
            ("request_too_large", 413, RequestRefused),
            ("too_many_requests", 429, RateLimited),
            ("rate_limited", 429, RateLimited),
            ("api_error", 500, OutcomeUnknown),
            ("timeout", 504, OutcomeUnknown),
        ],
    )
    def test_of_a_submit(self, emulator: RunningEmulator, code: str, status: int, kind: type) -> None:
        emulator.arm("submit", "refuse", code=code, status=status)
        with pytest.raises(kind) as caught:
            ImageGenHook().generate(prompt="a red kite", model="gpt-image-1")
        assert (caught.value.gateway, caught.value.code, caught.value.status) == ("acedatacloud", code, status)
        assert emulator.totals()["billed_images"] == 0

    def test_of_a_task(self, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "fail", code="api_error", message="GPU fell over")
        with pytest.raises(GenerationFailed, match="GPU fell over") as caught:
            ImageGenHook().generate(prompt="a red kite", model="gpt-image-1", poll_interval=0.1)
        assert caught.value.task_id
        assert caught.value.billed == "no"

    @pytest.mark.parametrize("gateway", PREFIXES)
    def test_moderation_has_its_own_error(
        self, connect: Callable[..., None], emulator: RunningEmulator, gateway: str
    ) -> None:
        connect(gateway)
        model = "nano-banana" if gateway == "nano_banana" else "gpt-image-1"
        with pytest.raises(ModerationBlocked):
            ImageGenHook().generate(prompt="[[moderation]]", model=model, poll_interval=0.1)
        assert emulator.totals()["billed_images"] == 0

    @pytest.mark.sampled
    @pytest.mark.parametrize("gateway", PREFIXES)
    @pytest.mark.parametrize("kind", ["html", "truncated", "empty", "hollow", "wrong_types", "drop", "reset"])
    def test_a_response_without_content_is_an_unknown_outcome(
        self, connect: Callable[..., None], emulator: RunningEmulator, gateway: str, kind: str
    ) -> None:
        connect(gateway)
        emulator.arm("submit", kind)
        model = "nano-banana" if gateway == "nano_banana" else "gpt-image-1"
        with pytest.raises(OutcomeUnknown) as caught:
            ImageGenHook().generate(prompt="a red kite", model=model)
        assert caught.value.billed == "unknown"
        assert emulator.totals()["submits"] == 1

    def test_a_task_gateway_behind_an_openai_connection_is_named(
        self, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_connection(
            monkeypatch,
            "imagegen_default",
            conn_type="imagegen",
            host=emulator.base_url,
            password=emulator.token,
            extra={"gateway": "openai"},
        )
        with pytest.raises(OutcomeUnknown, match="Set the connection's extra gateway to acedatacloud") as caught:
            ImageGenHook().generate(prompt="a red kite", model="gpt-image-1", extra={"async": True})
        assert caught.value.billed == "unknown"


WRONG_VALUES: dict[str, list[Any]] = {
    "prompt": ["p" * 40_000],
    "size": ["17x17", "256x256", "1792x1024", "3856x2048", "4096x256"],
    "quality": ["hd", "standard", "high", "nonsense"],
    "style": ["vivid"],
    "background": ["transparent"],
    "moderation": ["low"],
    "output_format": ["webp", "nonsense"],
    "output_compression": [50],
    "response_format": ["url", "b64_json"],
    "stream": [True],
    "partial_images": [1],
}


class TestCatalogRefusals:
    @pytest.mark.parametrize("gateway", ["acedatacloud", "openai"])
    def test_are_never_billed(self, connect: Callable[..., None], emulator: RunningEmulator, gateway: str) -> None:
        connect(gateway)
        hook = ImageGenHook()
        refused = set()
        candidates = [
            {"prompt": "a red kite", "model": model.name, field: value}
            for model in MODELS
            for field, values in WRONG_VALUES.items()
            for value in values
        ]
        candidates += [
            {"prompt": "p", "model": "gpt-image-2", "background": "transparent", "output_format": "jpeg"},
            {"prompt": "p", "model": "any", "background": "transparent", "output_format": "jpeg"},
        ]
        for fields in candidates:
            before = emulator.totals()["submits"]
            try:
                hook.submit(**fields)
            except InvalidRequest as refusal:
                refused.add(refusal.field)
                assert emulator.totals()["submits"] == before
            except (RequestRefused, OutcomeUnknown):
                # Not known to be wrong here, but the emulator knows better.
                assert emulator.totals()["billed_images"] <= emulator.totals()["submits"]
        assert refused >= set(WRONG_VALUES)
