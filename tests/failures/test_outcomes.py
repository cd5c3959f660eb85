"""Rows 22 to 26 and 30 to 33: outcomes of the gateway, and how the ledger handles them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any

import pytest

from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.engine.run import GenerateRun
from airflow_provider_imagegen.exceptions import (
    DestinationError,
    GenerationFailed,
    LedgerCorrupt,
    ModerationBlocked,
    PartialDelivery,
)
from airflow_provider_imagegen.failpoints import Failpoint
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import Manifest, Submission
from tests.conftest import BUCKET
from tests.failures.conftest import Harness, killed_at, released_after_look_ups
from tests.stack.object_store import ObjectStore


class TestFewerImagesThanAsked:
    def test_fail_and_a_retry_generates_only_the_missing_ones(self, harness: Harness) -> None:
        harness.emulator.arm("submit", "fail", code="api_error", after=1, times=1)
        with pytest.raises(PartialDelivery, match="2 of 3 images landed"):
            harness.attempt(n=3)
        manifest = harness.attempt(try_number=2, n=3)
        assert harness.is_landed(manifest)
        assert (manifest.delivered, manifest.billed, manifest.reused) == (3, 3, 2)
        assert (harness.submits, harness.billed) == (4, 3)

    def test_are_counted_where_accepted(self, harness: Harness) -> None:
        harness.emulator.arm("submit", "fail", code="api_error", times=1)
        manifest = harness.attempt(n=2, on_partial="accept")
        assert (manifest.requested, manifest.delivered, manifest.billed) == (2, 1, 1)
        assert [(missing.code, missing.billed) for missing in manifest.failures] == [("api_error", "no")]


class TestModeration:
    def test_is_permanent_and_unbilled(self, harness: Harness) -> None:
        with pytest.raises(ModerationBlocked, match="billed: no"):
            harness.attempt(prompt="[[moderation]]")
        assert harness.billed == 0

    def test_of_one_image_stops_the_retries_of_all(self, harness: Harness) -> None:
        harness.emulator.arm("submit", "moderation", after=1, times=1)
        with pytest.raises(ModerationBlocked):
            harness.attempt(n=2)
        assert harness.billed == 1


class TestGenerationFailedForGood:
    def test_next_try_is_a_new_generation_with_a_new_trace_id(self, harness: Harness) -> None:
        harness.emulator.arm("submit", "fail", code="api_error", times=1)
        with pytest.raises(GenerationFailed):
            harness.attempt()
        manifest = harness.attempt(try_number=2)
        first, second = (entry.record for entry in harness.entries())
        assert (first.state, first.generation, second.state, second.generation) == ("failed", 1, "landed", 2)
        assert first.trace_id != second.trace_id
        assert (harness.billed, manifest.billed) == (1, 1)

    def test_is_never_stuck_on_it(self, harness: Harness) -> None:
        harness.emulator.arm("submit", "fail", code="api_error", times=4)
        for try_number in range(1, 5):
            with pytest.raises(GenerationFailed):
                harness.attempt(try_number=try_number)
        assert harness.is_landed(harness.attempt(try_number=5))
        assert harness.billed == 1


def resumed(work: GenerateRun, submission: Submission) -> Manifest:
    """Resume a try whose task is done."""
    result = asyncio.run(work.resume(submission, gave_up=False))
    assert isinstance(result, Manifest)
    return result


class TestClearedWhileDeferred:
    @pytest.mark.parametrize("on_clear", ["reuse", "regenerate"])
    def test_new_try_attaches(self, harness: Harness, short_grace: Any, on_clear: Any) -> None:
        harness.policy = Policy(on_clear=on_clear)
        short_grace(0.0)
        harness.emulator.hold()
        harness.submitted()
        with released_after_look_ups(harness.emulator):
            manifest = harness.attempt(try_number=2, epoch=1)
        assert harness.is_landed(manifest)
        assert harness.submits == 1

    @pytest.mark.parametrize("cleared_one_resumes", [False, True])
    def test_an_image_that_its_first_try_still_lands_is_not_generated_again_by_a_retry(
        self, harness: Harness, short_grace: Any, cleared_one_resumes: bool
    ) -> None:
        harness.policy = Policy(on_clear="regenerate")
        short_grace(0.0)
        harness.emulator.hold()
        zombie = harness.submitted()
        cleared = harness.submitted(try_number=2, epoch=1)
        assert harness.emulator.release() == 1
        assert resumed(harness.work(), zombie).delivered == 1
        if cleared_one_resumes:
            assert resumed(harness.work(try_number=2, epoch=1), cleared).delivered == 1
        assert harness.is_landed(harness.attempt(try_number=3, epoch=1))
        assert harness.submits == 1

    def test_what_its_first_try_had_just_sent_is_its_own_from_now_on(self, harness: Harness, short_grace: Any) -> None:
        harness.policy = Policy(on_clear="regenerate")
        short_grace(0.0)
        harness.emulator.hold()
        with killed_at(Failpoint.SUBMIT, "after"):
            harness.submitted()
        assert harness.submitted(try_number=2, epoch=1).open
        (entry,) = harness.entries()
        assert (entry.record.state, entry.record.attempt.epoch, harness.submits) == ("submitted", 1, 1)


class TestClearedAfterSuccess:
    def test_same_images_and_nothing_billed(self, harness: Harness) -> None:
        harness.draw()
        first = harness.attempt(n=2)
        again = harness.attempt(try_number=2, epoch=1, n=2)
        assert [image.sha256 for image in again.images] == [image.sha256 for image in first.images]
        assert (again.reused, again.billed, harness.submits) == (2, 2, 2)

    def test_regenerate_pays_once_for_new_ones(self, harness: Harness) -> None:
        harness.draw()
        harness.policy = Policy(on_clear="regenerate")
        first = harness.attempt()
        again = harness.attempt(try_number=2, epoch=1)
        retried = harness.attempt(try_number=3, epoch=1)
        assert first.images[0].sha256 != again.images[0].sha256 == retried.images[0].sha256
        assert (harness.submits, again.billed, retried.billed) == (2, 2, 2)

    def test_images_deleted_meanwhile_are_generated_again(
        self, harness: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        image = harness.attempt().images[0]
        harness.s3.delete_object(Bucket=image.bucket, Key=image.key)
        assert harness.is_landed(harness.attempt(try_number=2, epoch=1))
        assert harness.submits == 2
        assert "is not in S3: generating it again" in caplog.text


class TestReuse:
    def test_always_serves_other_dags_from_what_is_paid(self, harness: Harness) -> None:
        harness.draw()
        harness.policy = Policy(reuse="always")
        first = harness.attempt(n=2)
        other = harness.attempt(n=2, dag_id="another")
        assert harness.is_landed(other)
        assert (other.billed, other.reused, harness.submits) == (0, 2, 2)
        assert [image.sha256 for image in other.images] == [image.sha256 for image in first.images]
        assert {image.key for image in other.images}.isdisjoint({image.key for image in first.images})

    def test_never_pays_in_every_try(self, harness: Harness) -> None:
        harness.policy = Policy(reuse="never")
        harness.attempt()
        harness.attempt(try_number=2)
        assert harness.submits == 2

    def test_task_keeps_dags_apart(self, harness: Harness) -> None:
        harness.attempt()
        harness.attempt(dag_id="another")
        assert harness.submits == 2


class TestPromptThatDiffersBetweenTries:
    def test_is_generated_and_warned_about_with_both_fingerprints(
        self, harness: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        harness.attempt(prompt="at 12:00:01")
        with caplog.at_level(logging.WARNING):
            harness.attempt(try_number=2, prompt="at 12:00:02")
        fingerprints = {entry.record.fingerprint[:12] for entry in harness.entries()}
        assert len(fingerprints) == 2
        assert all(fingerprint in caplog.text for fingerprint in fingerprints)


class TestAddressThatDiffersBetweenRuns:
    @pytest.fixture(autouse=True)
    def _reusing(self, harness: Harness) -> None:
        harness.policy = Policy(reuse="always")

    def move(self, harness: Harness, **changes: Any) -> None:
        """Spell the gateway's host in another way."""
        base_url = harness.settings.base_url.replace("127.0.0.1", "localhost")
        changes |= {"base_url": base_url, "private_result_hosts": ("127.0.0.1",)}
        harness.settings = dataclasses.replace(harness.settings, **changes)

    def test_is_paid_once_where_the_account_is_named(self, harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
        harness.settings = dataclasses.replace(harness.settings, account="shop")
        harness.attempt()
        self.move(harness)
        again = harness.attempt(dag_id="another")
        assert (again.reused, again.billed, harness.submits) == (1, 0, 1)
        assert "another address" not in caplog.text

    def test_attaches_to_what_is_in_flight_where_the_old_address_names_the_account(self, harness: Harness) -> None:
        with killed_at(Failpoint.SUBMIT, "after"):
            harness.attempt()
        harness.age_claims()
        self.move(harness, account=harness.settings.base_url)
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1

    def test_is_paid_again_and_warned_about_where_it_is_not(
        self, harness: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        harness.attempt()
        harness.attempt(prompt="something else", try_number=2)
        assert caplog.text.count("is paid for") == 0
        self.move(harness)
        harness.attempt(dag_id="another")
        assert harness.submits == 3
        assert "was requested at another base URL" in caplog.text


class TestRecordThatCannotBeRead:
    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"state": "landed"}', b"\xff\xfe"])
    def test_is_an_error_and_nothing_is_sent(self, harness: Harness, body: bytes) -> None:
        harness.attempt()
        listed = harness.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{harness.ledger.prefix}/")["Contents"]
        (key,) = [entry["Key"] for entry in listed if entry["Key"].endswith(".json")]
        harness.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        with pytest.raises(LedgerCorrupt, match="cannot be understood"):
            harness.attempt(try_number=2)
        assert harness.submits == 1


class TestStoreWithoutConditionalWrites:
    def test_is_noticed_once_named_and_still_reuses(
        self, harness: Harness, object_store: ObjectStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        def forget_condition(request: Any, **_: Any) -> None:
            for header in ("If-None-Match", "If-Match"):
                if header in request.headers:
                    del request.headers[header]

        harness.s3 = object_store.client()
        harness.s3.meta.events.register("before-sign.s3.PutObject", forget_condition)
        harness.attempt()
        manifest = harness.attempt(try_number=2)
        assert manifest.reused == 1
        assert harness.submits == 1
        assert caplog.text.count("ignores conditional writes") == 1


class TestBucketThatCannotBeWritten:
    @pytest.mark.parametrize("overrides", [{"aws_secret_access_key": "wrong"}, {"aws_access_key_id": "nobody"}])
    def test_is_noticed_before_anything_is_paid(
        self, harness: Harness, object_store: ObjectStore, overrides: dict[str, str]
    ) -> None:
        harness.s3 = object_store.client(**overrides)
        with pytest.raises(DestinationError, match="billed: no"):
            harness.attempt()
        assert harness.submits == 0

    def test_is_noticed_when_it_is_not_there(self, harness: Harness) -> None:
        work = harness.work()
        elsewhere = dataclasses.replace(work, ledger=Ledger(harness.s3, "no-such-bucket", "l"))
        with pytest.raises(DestinationError, match="there is no such bucket"):
            asyncio.run(elsewhere.begin())
        assert harness.submits == 0
