"""The cache of recently read values."""

from __future__ import annotations

from airflow_provider_imagegen.gallery.cache import Memory


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TestMemory:
    def test_forgets_after_its_time(self) -> None:
        clock = Clock()
        memory = Memory[str, int](10, 30, clock)
        assert memory.put("a", 1) == 1
        clock.now += 30
        assert memory.get("a") == 1
        clock.now += 0.1
        assert memory.get("a") is None

    def test_forgets_what_was_used_longest_ago(self) -> None:
        memory = Memory[str, int](2, 30)
        memory.put("a", 1)
        memory.put("b", 2)
        memory.get("a")
        memory.put("c", 3)
        assert (memory.get("a"), memory.get("b"), memory.get("c")) == (1, None, 3)
