"""A batch of thousands logs its rows in summary: what single images log is suppressed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import airflow_provider_imagegen
from airflow_provider_imagegen.engine.batch.progress import suppress_item_logs

PACKAGE = Path(airflow_provider_imagegen.__file__).parent


def loggers_of_single_images() -> list[str]:
    """Return the loggers of all modules that log what happens to one image, by its number."""
    modules = [path for path in PACKAGE.rglob("*.py") if "mage %d" in path.read_text()]
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in modules]


class TestLogsOfSingleImages:
    def test_are_suppressed_while_a_batch_runs_and_shown_again_after_it(self, caplog: pytest.LogCaptureFixture) -> None:
        names = loggers_of_single_images()
        assert len(names) >= 5
        with caplog.at_level(logging.INFO):
            with suppress_item_logs():
                for name in names:
                    logging.getLogger(name).info("inside %s", name)
            assert caplog.messages == []
            for name in names:
                logging.getLogger(name).info("after %s", name)
        assert caplog.messages == [f"after {name}" for name in names]
