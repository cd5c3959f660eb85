"""A task that was deferred before an upgrade continues after it: trigger arguments of earlier versions still work.

The files in tests/public/trigger_kwargs are what those versions serialised; they are never changed.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from airflow_provider_imagegen.schemas import Manifest, Submission
from airflow_provider_imagegen.triggers.imagegen import ImageTasksTrigger
from tests.failures.conftest import Harness, first_event
from tests.public.files import TRIGGER_KWARGS

FORMATS = sorted(TRIGGER_KWARGS.glob("*.json"))


def as_written_then(now: Any, then: Any) -> Any:
    """Return what is said now in the fields of an earlier version."""
    if isinstance(then, dict):
        return {name: as_written_then(now[name], then[name]) for name in then if name in now}
    if isinstance(then, list):
        return [as_written_then(item, then[0]) for item in now] if then else now
    return now


@pytest.fixture(params=FORMATS, ids=lambda path: path.stem)
def then(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments of an earlier version."""
    stored: dict[str, Any] = json.loads(request.param.read_text())
    return stored


@pytest.fixture
def deferred(harness: Harness, short_grace: Any, connections: None, then: dict[str, Any]) -> dict[str, Any]:
    """A task that was deferred by that version."""
    short_grace(0.0)
    harness.emulator.hold()
    now = harness.submitted().model_dump(mode="json")
    submission = {**as_written_then(now, then["submission"]), "landed": [], "failures": []}
    return {**then, "submission": submission, "not_before": 0.0, "poll_interval": 0.1}


class TestArgumentsOfAnEarlierVersion:
    def test_are_read_whole(self, then: dict[str, Any]) -> None:
        submission = Submission.model_validate(then["submission"])
        assert as_written_then(submission.model_dump(mode="json"), then["submission"]) == then["submission"]

    def test_make_a_trigger_that_waits_and_a_worker_that_lands(
        self, harness: Harness, deferred: dict[str, Any]
    ) -> None:
        event = asyncio.run(first_event(ImageTasksTrigger(**deferred), harness.emulator))
        assert event["status"] == "done"
        submission = Submission.model_validate(event["submission"])
        manifest = asyncio.run(harness.work().resume(submission, gave_up=False))
        assert isinstance(manifest, Manifest)
        assert harness.is_landed(manifest)
        assert (harness.submits, harness.billed) == (1, 1)

    def test_make_a_trigger_that_can_be_killed(self, harness: Harness, deferred: dict[str, Any]) -> None:
        asyncio.run(ImageTasksTrigger(**deferred).on_kill())
        assert harness.submits == 1


LEFT_OUT = {"model"}
"""Arguments that no version needs: they had a default, and are ignored since nothing depends on them."""


class TestFormats:
    def test_are_some(self) -> None:
        assert {"without-hold", "without-model"} <= {path.stem for path in FORMATS}

    def test_are_all_of_arguments_that_are_still_written(self, then: dict[str, Any]) -> None:
        trigger = ImageTasksTrigger(**then)
        assert then.keys() - LEFT_OUT <= trigger.serialize()[1].keys()
