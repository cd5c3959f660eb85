"""The painter is deterministic and respects size and format; its cache draws once and is limited."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image

from airflow_provider_imagegen.emulator.gallery import Gallery
from airflow_provider_imagegen.emulator.misbehaviour import bomb
from airflow_provider_imagegen.emulator.painter import Drawing, noise_png, paint


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


class TestPainter:
    def test_the_same_words_make_the_same_bytes(self) -> None:
        assert paint(Drawing("a red teapot", (128, 128))) == paint(Drawing("a red teapot", (128, 128)))

    @pytest.mark.parametrize(
        "other",
        [
            Drawing("a blue teapot", (128, 128)),
            Drawing("a red teapot", (128, 128), number=1),
            Drawing("a red teapot", (128, 128), salt="another source image"),
            Drawing("a red teapot", (128, 128), draft=2.0),
        ],
        ids=["words", "number", "sources", "draft"],
    )
    def test_anything_else_makes_another_image(self, other: Drawing) -> None:
        assert paint(other) != paint(Drawing("a red teapot", (128, 128)))

    @pytest.mark.parametrize("size", [(16, 16), (256, 256), (1792, 1024), (100, 1000)])
    def test_every_size_is_drawn(self, size: tuple[int, int]) -> None:
        assert opened(paint(Drawing("a red teapot", size))).size == size

    @pytest.mark.parametrize("prompt", ["", "一只可爱的小猫", "🦦" * 50, "x" * 32_000, "\x00\n\t", "a b " * 5_000])
    def test_every_text_can_be_written(self, prompt: str) -> None:
        assert opened(paint(Drawing(prompt, (96, 96)))).size == (96, 96)

    def test_a_transparent_image_has_clear_corners_and_a_solid_middle(self) -> None:
        alpha = opened(paint(Drawing("a logo", (256, 256), transparent=True))).getchannel("A")
        assert (alpha.getpixel((0, 0)), alpha.getpixel((128, 128))) == (0, 255)

    def test_more_compression_makes_smaller_files(self) -> None:
        sizes = [len(paint(Drawing("a", (256, 256), "jpeg", compression=level))) for level in (10, 90)]
        assert sizes[0] < sizes[1]


class TestNoise:
    @pytest.mark.parametrize("weight", [200, 201, 5_000, 3_000_000])
    def test_it_has_exactly_the_requested_size_and_can_be_opened(self, weight: int) -> None:
        data = noise_png(weight)
        assert len(data) == weight
        assert opened(data).format == "PNG"

    def test_no_png_is_that_small(self) -> None:
        with pytest.raises(ValueError, match="at least 200"):
            noise_png(20)


def test_the_bomb_is_small_and_promises_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert len(bomb()) < 10_000
    assert Image.open(io.BytesIO(bomb())).size == (60_000, 60_000)


class TestGallery:
    def test_those_who_ask_at_once_wait_for_one_drawing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn: list[Drawing] = []

        def draw(drawing: Drawing) -> bytes:
            drawn.append(drawing)
            return b"image"

        monkeypatch.setattr("airflow_provider_imagegen.emulator.gallery.paint", draw)

        async def ask_often() -> list[bytes]:
            gallery = Gallery(100)
            return await asyncio.gather(*(gallery.show(Drawing("a")) for _ in range(20)))

        assert asyncio.run(ask_often()) == [b"image"] * 20
        assert len(drawn) == 1

    def test_the_oldest_are_forgotten_beyond_the_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn: list[str] = []

        def draw(drawing: Drawing) -> bytes:
            drawn.append(drawing.prompt)
            return bytes(40)

        monkeypatch.setattr("airflow_provider_imagegen.emulator.gallery.paint", draw)

        async def ask() -> None:
            gallery = Gallery(100)
            for prompt in "abaca":
                await gallery.show(Drawing(prompt))
            await gallery.show(Drawing("b"))

        asyncio.run(ask())
        assert drawn == ["a", "b", "c", "b"]
