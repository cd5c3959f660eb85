"""Images are decoded in a process of their own, with limits that no image can exceed."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image

from airflow_provider_imagegen.gallery.decoder import MEMORY_BYTES, Decoder
from airflow_provider_imagegen.gallery.shrinking import SIDE, NoThumbnail
from tests.fuzz.corpus import scanned_again
from tests.stack.waiting import wait_until


def saved(kind: str, size: tuple[int, int] = (600, 400), **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(cpu_seconds=1)


class TestDecoder:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
    def test_makes_small_versions(self, decoder: Decoder, kind: str) -> None:
        with Image.open(io.BytesIO(decoder.shrunk(saved(kind)))) as small:
            assert (small.format, small.size) == ("WEBP", (SIDE, 320))

    def test_keeps_its_process_for_the_next_image(self, decoder: Decoder) -> None:
        decoder.shrunk(saved("PNG"))
        process_id = decoder.process_id
        for content in (b"", b"no image", saved("PNG")[:100]):
            with pytest.raises(NoThumbnail, match="cannot be decoded"):
                decoder.shrunk(content)
        decoder.shrunk(saved("JPEG"))
        assert decoder.process_id == process_id is not None

    def test_is_ended_by_an_image_that_takes_too_long_and_starts_again(self, decoder: Decoder) -> None:
        bomb = scanned_again(saved("JPEG", (3000, 3000), progressive=True), 2000)
        assert len(bomb) < 1_000_000
        with pytest.raises(NoThumbnail, match=f"too much time or memory .*{-signal.SIGXCPU}"):
            decoder.shrunk(bomb)
        assert decoder.process_id is None
        assert decoder.shrunk(saved("PNG"))

    @pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not limit address spaces")
    def test_takes_no_more_memory_than_it_may(self) -> None:
        small = Decoder(memory_bytes=MEMORY_BYTES // 8)
        image = saved("PNG", (5000, 4000))
        with pytest.raises(NoThumbnail, match="MemoryError"):
            small.shrunk(image)
        assert small.shrunk(saved("PNG"))

    def test_is_started_again_after_its_process_was_killed(self, decoder: Decoder) -> None:
        decoder.shrunk(saved("PNG"))
        process_id = decoder.process_id
        assert process_id is not None
        os.kill(process_id, signal.SIGKILL)
        wait_until(lambda: decoder.process_id is None, what="the end of the process")
        assert decoder.shrunk(saved("PNG"))
        assert decoder.process_id not in {None, process_id}

    @pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="shows the environment of processes")
    def test_knows_no_secrets(self, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
        own = Decoder()
        own.shrunk(saved("PNG"))
        assert b"sesame" not in Path(f"/proc/{own.process_id}/environ").read_bytes()
