"""Fixtures of the gallery tests."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.gallery.scene import Scene

pytest.register_assert_rewrite("tests.gallery.whole")


@pytest.fixture
def viewer(scene: Scene) -> Iterator[httpx.Client]:
    with scene.client("viewer") as client:
        yield client


@pytest.fixture(scope="module")
def long_batch(scene: Scene) -> Scene:
    """A batch of many rows."""
    scene.put_long_batch()
    return scene
