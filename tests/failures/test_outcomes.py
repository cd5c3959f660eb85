"""Rows 22 to 26 and 30 to 33: what a gateway makes of it, and what the ledger makes of that."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any

import pytest

from airflow_provider_imagegen.effects import Effect
from airflow_provider_imagegen.exceptions import (
    DestinationError,
    GenerationFailed,
    LedgerCorrupt,
    ModerationBlocked,
    PartialDelivery,
)
from airflow_provider_imagegen.ledger import Ledger
from airflow_provider_imagegen.operators.work import Work
from airflow_provider_imagegen.resume import Policy
from airflow_provider_imagegen.schemas import Manifest, Submission
from tests.conftest import BUCKET
from tests.failures.conftest import Laboratory, killed_at, released_after_look_ups
from tests.stack.objectstore import ObjectStore


class TestFewerImagesThanAsked:
    def test_fail_and_a_retry_draws_only_what_is_missing(self, laboratory: Laboratory) -> None:
        laboratory.emulator.arm("submit", "fail", code="api_error", after=1, times=1)
        with pytest.raises(PartialDelivery, match="2 of 3 images landed"):
            laboratory.attempt(n=3)
        manifest = laboratory.attempt(try_number=2, n=3)
        assert laboratory.is_landed(manifest)
        assert (manifest.delivered, manifest.billed, manifest.reused) == (3, 3, 2)
        assert (laboratory.submits, laboratory.billed) == (4, 3)

    def test_are_counted_where_accepted(self, laboratory: Laboratory) -> None:
        laboratory.emulator.arm("submit", "fail", code="api_error", times=1)
        manifest = laboratory.attempt(n=2, on_partial="accept")
        assert (manifest.requested, manifest.delivered, manifest.billed) == (2, 1, 1)
        assert [(missing.code, missing.billed) for missing in manifest.failures] == [("api_error", "no")]


class TestModeration:
    def test_is_permanent_and_unbilled(self, laboratory: Laboratory) -> None:
        with pytest.raises(ModerationBlocked, match="billed: no"):
            laboratory.attempt(prompt="[[moderation]]")
        assert laboratory.billed == 0

    def test_of_one_picture_stops_the_retries_of_all(self, laboratory: Laboratory) -> None:
        laboratory.emulator.arm("submit", "moderation", after=1, times=1)
        with pytest.raises(ModerationBlocked):
            laboratory.attempt(n=2)
        assert laboratory.billed == 1


class TestGenerationFailedForGood:
    def test_next_try_is_a_new_generation_with_a_new_trace_id(self, laboratory: Laboratory) -> None:
        laboratory.emulator.arm("submit", "fail", code="api_error", times=1)
        with pytest.raises(GenerationFailed):
            laboratory.attempt()
        manifest = laboratory.attempt(try_number=2)
        first, second = (entry.record for entry in laboratory.entries())
        assert (first.state, first.generation, second.state, second.generation) == ("failed", 1, "landed", 2)
        assert first.trace_id != second.trace_id
        assert (laboratory.billed, manifest.billed) == (1, 1)

    def test_is_never_stuck_on_it(self, laboratory: Laboratory) -> None:
        laboratory.emulator.arm("submit", "fail", code="api_error", times=4)
        for try_number in range(1, 5):
            with pytest.raises(GenerationFailed):
                laboratory.attempt(try_number=try_number)
        assert laboratory.is_landed(laboratory.attempt(try_number=5))
        assert laboratory.billed == 1


def resumed(work: Work, submission: Submission) -> Manifest:
    """Resume a try whose task is done."""
    result = asyncio.run(work.resume(submission, gave_up=False))
    assert isinstance(result, Manifest)
    return result


class TestClearedWhileDeferred:
    @pytest.mark.parametrize("on_clear", ["reuse", "regenerate"])
    def test_new_try_attaches(self, laboratory: Laboratory, short_grace: Any, on_clear: Any) -> None:
        laboratory.policy = Policy(on_clear=on_clear)
        short_grace(0.0)
        laboratory.emulator.hold()
        laboratory.submitted()
        with released_after_look_ups(laboratory.emulator):
            manifest = laboratory.attempt(try_number=2, epoch=1)
        assert laboratory.is_landed(manifest)
        assert laboratory.submits == 1

    @pytest.mark.parametrize("cleared_one_resumes", [False, True])
    def test_what_its_first_try_lands_after_all_is_not_drawn_anew_by_a_retry(
        self, laboratory: Laboratory, short_grace: Any, cleared_one_resumes: bool
    ) -> None:
        laboratory.policy = Policy(on_clear="regenerate")
        short_grace(0.0)
        laboratory.emulator.hold()
        zombie = laboratory.submitted()
        cleared = laboratory.submitted(try_number=2, epoch=1)
        assert laboratory.emulator.release() == 1
        assert resumed(laboratory.work(), zombie).delivered == 1
        if cleared_one_resumes:
            assert resumed(laboratory.work(try_number=2, epoch=1), cleared).delivered == 1
        assert laboratory.is_landed(laboratory.attempt(try_number=3, epoch=1))
        assert laboratory.submits == 1

    def test_what_its_first_try_had_just_sent_is_its_own_from_now_on(
        self, laboratory: Laboratory, short_grace: Any
    ) -> None:
        laboratory.policy = Policy(on_clear="regenerate")
        short_grace(0.0)
        laboratory.emulator.hold()
        with killed_at(Effect.SUBMIT, "after"):
            laboratory.submitted()
        assert laboratory.submitted(try_number=2, epoch=1).open
        (entry,) = laboratory.entries()
        assert (entry.record.state, entry.record.attempt.epoch, laboratory.submits) == ("submitted", 1, 1)


class TestClearedAfterSuccess:
    def test_same_images_and_nothing_billed(self, laboratory: Laboratory) -> None:
        laboratory.draw()
        first = laboratory.attempt(n=2)
        again = laboratory.attempt(try_number=2, epoch=1, n=2)
        assert [image.sha256 for image in again.images] == [image.sha256 for image in first.images]
        assert (again.reused, again.billed, laboratory.submits) == (2, 2, 2)

    def test_regenerate_pays_once_for_new_ones(self, laboratory: Laboratory) -> None:
        laboratory.draw()
        laboratory.policy = Policy(on_clear="regenerate")
        first = laboratory.attempt()
        again = laboratory.attempt(try_number=2, epoch=1)
        retried = laboratory.attempt(try_number=3, epoch=1)
        assert first.images[0].sha256 != again.images[0].sha256 == retried.images[0].sha256
        assert (laboratory.submits, again.billed, retried.billed) == (2, 2, 2)

    def test_images_deleted_meanwhile_are_drawn_anew(
        self, laboratory: Laboratory, caplog: pytest.LogCaptureFixture
    ) -> None:
        image = laboratory.attempt().images[0]
        laboratory.s3.delete_object(Bucket=image.bucket, Key=image.key)
        assert laboratory.is_landed(laboratory.attempt(try_number=2, epoch=1))
        assert laboratory.submits == 2
        assert "is not in S3: drawing it anew" in caplog.text


class TestReuse:
    def test_always_serves_other_dags_from_what_is_paid(self, laboratory: Laboratory) -> None:
        laboratory.draw()
        laboratory.policy = Policy(reuse="always")
        first = laboratory.attempt(n=2)
        other = laboratory.attempt(n=2, dag_id="another")
        assert laboratory.is_landed(other)
        assert (other.billed, other.reused, laboratory.submits) == (0, 2, 2)
        assert [image.sha256 for image in other.images] == [image.sha256 for image in first.images]
        assert {image.key for image in other.images}.isdisjoint({image.key for image in first.images})

    def test_never_pays_in_every_try(self, laboratory: Laboratory) -> None:
        laboratory.policy = Policy(reuse="never")
        laboratory.attempt()
        laboratory.attempt(try_number=2)
        assert laboratory.submits == 2

    def test_task_keeps_dags_apart(self, laboratory: Laboratory) -> None:
        laboratory.attempt()
        laboratory.attempt(dag_id="another")
        assert laboratory.submits == 2


class TestPromptThatDiffersBetweenTries:
    def test_is_drawn_and_warned_about_with_both_fingerprints(
        self, laboratory: Laboratory, caplog: pytest.LogCaptureFixture
    ) -> None:
        laboratory.attempt(prompt="at 12:00:01")
        with caplog.at_level(logging.WARNING):
            laboratory.attempt(try_number=2, prompt="at 12:00:02")
        fingerprints = {entry.record.fingerprint[:12] for entry in laboratory.entries()}
        assert len(fingerprints) == 2
        assert all(fingerprint in caplog.text for fingerprint in fingerprints)


class TestRecordThatCannotBeRead:
    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"state": "landed"}', b"\xff\xfe"])
    def test_is_an_error_and_nothing_is_sent(self, laboratory: Laboratory, body: bytes) -> None:
        laboratory.attempt()
        listed = laboratory.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{laboratory.ledger.prefix}/")["Contents"]
        (key,) = [entry["Key"] for entry in listed if entry["Key"].endswith(".json")]
        laboratory.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        with pytest.raises(LedgerCorrupt, match="cannot be understood"):
            laboratory.attempt(try_number=2)
        assert laboratory.submits == 1


class TestStoreWithoutConditionalWrites:
    def test_is_noticed_once_named_and_still_reuses(
        self, laboratory: Laboratory, object_store: ObjectStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        def forget_condition(request: Any, **_: Any) -> None:
            for header in ("If-None-Match", "If-Match"):
                if header in request.headers:
                    del request.headers[header]

        laboratory.s3 = object_store.client()
        laboratory.s3.meta.events.register("before-sign.s3.PutObject", forget_condition)
        laboratory.attempt()
        manifest = laboratory.attempt(try_number=2)
        assert manifest.reused == 1
        assert laboratory.submits == 1
        assert caplog.text.count("ignores conditional writes") == 1


class TestBucketThatCannotBeWritten:
    @pytest.mark.parametrize("overrides", [{"aws_secret_access_key": "wrong"}, {"aws_access_key_id": "nobody"}])
    def test_is_noticed_before_anything_is_paid(
        self, laboratory: Laboratory, object_store: ObjectStore, overrides: dict[str, str]
    ) -> None:
        laboratory.s3 = object_store.client(**overrides)
        with pytest.raises(DestinationError, match="billed: no"):
            laboratory.attempt()
        assert laboratory.submits == 0

    def test_is_noticed_when_it_is_not_there(self, laboratory: Laboratory) -> None:
        work = laboratory.work()
        elsewhere = dataclasses.replace(work, ledger=Ledger(laboratory.s3, "no-such-bucket", "l"))
        with pytest.raises(DestinationError, match="there is no such bucket"):
            asyncio.run(elsewhere.begin())
        assert laboratory.submits == 0
