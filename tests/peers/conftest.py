"""Images and connections of the peer tests; the heavy peers join in only when asked to."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from tests.integration.conftest import set_connection

# LiteLLM's proxy is half a gigabyte: `make peers` sets this, `make test` does not.
collect_ignore = [] if os.environ.get("HEAVY_PEERS") else ["heavy"]

Connect = Callable[..., ImageGenHook]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "heavy: installs hundreds of megabytes; runs with HEAVY_PEERS=1")


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Make a hook whose connection stands in the environment: host, token, extra fields."""

    def hook(host: str, token: str, **extra: Any) -> ImageGenHook:
        set_connection(monkeypatch, "imagegen_peer", conn_type="imagegen", host=host, password=token, extra=extra)
        return ImageGenHook("imagegen_peer")

    return hook


@pytest.fixture
def image() -> bytes:
    """A small PNG."""
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64), "teal").save(buffer, "PNG")
    return buffer.getvalue()
