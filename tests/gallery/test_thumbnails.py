"""Thumbnails are created once, and their cache is limited."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from airflow_provider_imagegen.gallery.shrinking import SIDE, NoThumbnail, shrunk
from airflow_provider_imagegen.gallery.thumbnails import ThumbnailCache


def image_path(kind: str = "PNG", size: tuple[int, int] = (1536, 1024), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 128 if mode in {"L", "P", "I;16"} else "teal").save(file, kind)
    return file.getvalue()


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


class TestSmallVersion:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
    def test_keeps_the_proportions(self, kind: str) -> None:
        with Image.open(io.BytesIO(shrunk(image_path(kind)))) as small:
            assert (small.format, small.size) == ("WEBP", (SIDE, SIDE * 2 // 3))

    @pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "I;16", "1"])
    def test_is_made_of_any_colours(self, mode: str) -> None:
        with Image.open(io.BytesIO(shrunk(image_path(mode=mode)))) as small:
            assert small.mode in {"RGB", "RGBA"}

    def test_keeps_transparency(self) -> None:
        file = io.BytesIO()
        Image.new("RGBA", (900, 900), (255, 0, 0, 0)).save(file, "PNG")
        with Image.open(io.BytesIO(shrunk(file.getvalue()))) as small:
            assert small.convert("RGBA").getpixel((5, 5))[3] == 0

    def test_does_not_enlarge(self) -> None:
        with Image.open(io.BytesIO(shrunk(image_path(size=(40, 30))))) as small:
            assert small.size == (40, 30)

    @pytest.mark.parametrize("content", [b"", b"<svg/>", b"\x89PNG\r\n\x1a\n", image_path()[:200]])
    def test_is_not_made_of_what_is_no_image(self, content: bytes) -> None:
        with pytest.raises(NoThumbnail):
            shrunk(content)

    def test_is_not_made_of_too_many_pixels(self) -> None:
        with pytest.raises(NoThumbnail, match="limit: 40000000 pixels"):
            shrunk(image_path(size=(8000, 5001), mode="1"))


class TestCache:
    def test_returns_stored_thumbnails(self, tmp_path: Path) -> None:
        cache = ThumbnailCache(tmp_path / "new", 1000)
        cache.put(digest(1), b"one")
        assert cache.get(digest(1)) == b"one"
        assert cache.get(digest(2)) is None
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700

    def test_is_shared_by_servers(self, tmp_path: Path) -> None:
        ThumbnailCache(tmp_path, 1000).put(digest(1), b"one")
        assert ThumbnailCache(tmp_path, 1000).get(digest(1)) == b"one"

    def test_forgets_what_was_used_longest_ago(self, tmp_path: Path) -> None:
        cache = ThumbnailCache(tmp_path, 1000)
        for number in range(9):
            cache.put(digest(number), bytes(100))
            os.utime(next(tmp_path.rglob(f"{digest(number)}*")), (number, number))
        assert cache.get(digest(0)) is not None
        for number in range(9, 12):
            cache.put(digest(number), bytes(100))
        kept = [number for number in range(12) if cache.get(digest(number)) is not None]
        assert 0 in kept
        assert 1 not in kept
        assert kept[-3:] == [9, 10, 11]
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.webp")) <= 1000

    @pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, f"{digest(1)}\n"])
    def test_takes_digests_only(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match="is not a SHA-256"):
            ThumbnailCache(tmp_path, 1000).get(name)

    def test_trusts_no_directory_in_which_others_can_write(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        (shared / digest(1)[:2]).mkdir()
        (shared / digest(1)[:2] / f"{digest(1)}-{SIDE}.webp").write_bytes(b"not ours")
        with caplog.at_level(logging.WARNING):
            assert ThumbnailCache(shared, 1000).get(digest(1)) is None
        assert "other users can write to it" in caplog.text

    def test_follows_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        ThumbnailCache(tmp_path / "link", 1000).put(digest(1), b"one")
        assert not list((tmp_path / "elsewhere").iterdir())

    def test_does_without_a_disk_that_takes_nothing(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        cache = ThumbnailCache(tmp_path / "cache", 1000)
        (tmp_path / "cache").rmdir()
        (tmp_path / "cache").write_text("in the way")
        cache.put(digest(1), b"one")
        assert "Cannot write a thumbnail" in caplog.text
        assert cache.get(digest(1)) is None
