"""A batch from its rows to its summary: concurrency limit, rate limit, names, and independent rows."""

from __future__ import annotations

import re
import threading
from collections import Counter
from datetime import UTC, datetime

import httpx
import pytest
from aiolimiter import AsyncLimiter

from airflow_provider_imagegen.engine.batch.limits import LOST_IN_A_ROW
from airflow_provider_imagegen.engine.batch.progress import Counts
from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    IncompleteBatch,
    InvalidRows,
    ModerationBlocked,
    OutOfBalance,
    PartialDelivery,
    RequestRefused,
    UploadFailed,
)
from airflow_provider_imagegen.failpoints import Failpoint, observe
from airflow_provider_imagegen.gateways import registered_gateways
from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway
from airflow_provider_imagegen.schemas import ImageRequest, LandedImage
from tests.batch.conftest import BatchHarness, keys, prompts
from tests.conftest import BUCKET
from tests.failures.conftest import DEADLINE, released_when
from tests.stack.waiting import HANG

SOME_TIME = 0.1
"""Seconds an image takes where several are to be at work at once; how many are is never judged by it."""


class TestManyRows:
    @pytest.mark.parametrize("rows", [50, pytest.param(200, marks=pytest.mark.full)])
    def test_land_within_ten_places_and_are_billed_once(self, harness: BatchHarness, rows: int) -> None:
        harness.emulator.change(latency=SOME_TIME)
        with released_when(harness.emulator, lambda now: now["in_flight"] == 10):
            summary = harness.run(prompts(rows), max_in_flight=10)
        totals = harness.emulator.totals()
        assert totals["peak_in_flight"] == 10
        assert (totals["submits"], totals["billed_images"]) == (rows, rows)
        assert (summary.rows, summary.landed, summary.images, summary.billed, summary.reused) == (rows,) * 4 + (0,)
        assert harness.names() == [f"{number:05}.png" for number in range(rows)]
        assert [line["row"] for line in harness.lines()] == list(range(rows))


class TestConcurrencyLimit:
    def test_rows_of_several_calls_take_several(self, harness: BatchHarness) -> None:
        harness.emulator.change(latency=SOME_TIME)
        rows = [{"prompt": prompt, "model": "dall-e-3", "n": 3} for prompt in prompts(4)]
        summary = harness.run(rows, max_in_flight=4)
        assert (summary.landed, summary.images) == (4, 12)
        assert harness.emulator.totals()["peak_in_flight"] <= 4

    def test_one_row_may_need_more_than_there_are(self, harness: BatchHarness) -> None:
        harness.emulator.change(latency=SOME_TIME)
        summary = harness.run([{"prompt": "a kite", "model": "dall-e-3", "n": 5}], max_in_flight=2)
        assert summary.images == 5
        assert harness.emulator.totals()["peak_in_flight"] <= 2

    def test_gateway_with_fewer_is_asked_again(self, harness: BatchHarness) -> None:
        harness.emulator.change(max_in_flight=2)
        with released_when(harness.emulator, lambda now: now["refused"] > 0):
            summary = harness.run(prompts(12), max_in_flight=4)
        totals = harness.emulator.totals()
        assert (summary.landed, totals["billed_images"], totals["peak_in_flight"]) == (12, 12, 2)
        assert totals["refused"] > 0

    def test_many_rows_of_several_calls_do_not_wait_for_each_other(self, harness: BatchHarness) -> None:
        rows = [{"prompt": prompts(1)[0], "model": "dall-e-3", "key": f"k{number}", "n": 3} for number in range(4)]
        rows += [{"prompt": prompt, "model": "dall-e-3", "n": 2} for prompt in prompts(4, "a barn")]
        summary = harness.run(rows, max_in_flight=3)
        assert (summary.landed, summary.images, summary.billed) == (8, 20, 11)


class CountingLimiter(AsyncLimiter):
    """Counts whom it lets pass."""

    passed = 0

    async def acquire(self, amount: float = 1) -> None:
        await super().acquire(amount)
        self.passed += 1


@pytest.fixture
def limiters(monkeypatch: pytest.MonkeyPatch) -> list[CountingLimiter]:
    """Count the rate limiters of the running batches."""
    made: list[CountingLimiter] = []

    def make(max_rate: float, time_period: float) -> CountingLimiter:
        made.append(CountingLimiter(max_rate, time_period))
        return made[-1]

    monkeypatch.setattr("airflow_provider_imagegen.engine.batch.run.AsyncLimiter", make)
    return made


class TestRateLimit:
    def test_requests_follow_each_other_evenly(self, harness: BatchHarness, limiters: list[CountingLimiter]) -> None:
        harness.run(prompts(7), requests_per_minute=600)
        (limiter,) = limiters
        assert (limiter.max_rate, limiter.time_period) == (1, 0.1)
        assert limiter.passed == harness.submits == 7

    def test_a_retry_skips_landed_rows_at_full_speed(
        self, harness: BatchHarness, limiters: list[CountingLimiter]
    ) -> None:
        harness.run(prompts(20))
        summary = harness.run(prompts(20), try_number=2, requests_per_minute=6)
        assert (summary.reused, summary.billed) == (20, 20)
        (limiter,) = limiters
        assert (limiter.time_period, limiter.passed) == (10, 0)


class TestNames:
    def test_follow_keys_and_counts(self, harness: BatchHarness) -> None:
        rows = [
            {"prompt": "a kite", "key": "kites/red"},
            {"prompt": "two owls", "key": "owls", "n": 2},
            "a boat",
        ]
        harness.run(rows)
        assert harness.names() == ["00002.png", "kites/red.png", "owls-0.png", "owls-1.png"]
        assert keys(harness.lines()) == ["kites/red", "owls", "00002"]

    def test_objects_tell_their_own_row(self, harness: BatchHarness) -> None:
        rows = [{"prompt": "a kite", "key": "a"}, {"prompt": "a kite", "key": "b", "model": "gpt-image-1-mini"}]
        harness.run(rows)
        heads = [harness.s3.head_object(Bucket=BUCKET, Key=f"{harness.prefix}/{key}.png") for key in "ab"]
        assert [head["Metadata"]["model"] for head in heads] == ["gpt-image-1", "gpt-image-1-mini"]
        assert [head["Metadata"]["fingerprint"] for head in heads] == [line["fingerprint"] for line in harness.lines()]


class TestRowsEndForThemselves:
    ROWS = ("a kite", "[[moderation]] a boat", "an owl", "a barn", "a lamp")

    def run(self, harness: BatchHarness, **ask: object) -> None:
        harness.emulator.arm("submit", "refuse", code="bad_request", status=400, prompt="an owl", times=None)
        harness.emulator.arm("submit", "fail", prompt="a barn", times=None)
        harness.run(self.ROWS, **ask)

    def test_independently_of_the_others(self, harness: BatchHarness) -> None:
        with pytest.raises(PartialDelivery, match=r"2 of 5 rows landed") as caught:
            self.run(harness)
        assert harness.statuses() == ["landed", "failed", "failed", "failed", "landed"]
        codes = [line.get("code") for line in harness.lines()]
        assert codes == [None, "moderation_blocked", "bad_request", "api_error", None]
        assert f"s3://{BUCKET}/{harness.prefix}/manifest.jsonl" in str(caught.value)
        assert harness.billed == 2

    def test_every_line_has_every_field_and_a_time(self, harness: BatchHarness) -> None:
        self.run(harness, on_partial="accept")
        for line in harness.lines():
            assert line.keys() == RowResult.model_fields.keys()
            assert datetime.fromisoformat(line["created_at"]).tzinfo == UTC
            assert all(image.keys() == LandedImage.model_fields.keys() for image in line["images"])

    def test_are_enough_where_asked_to(self, harness: BatchHarness) -> None:
        self.run(harness, on_partial="accept")
        assert harness.statuses().count("landed") == 2

    def test_that_no_retry_can_fix_fail_the_task_permanently(self, harness: BatchHarness) -> None:
        with pytest.raises(IncompleteBatch, match="1 of 2 rows landed"):
            harness.run(["a kite", "[[moderation]]"])

    def test_refused_by_the_content_policy_can_be_skipped(self, harness: BatchHarness) -> None:
        summary = harness.run(["a kite", "[[moderation]]"], on_moderation="skip")
        assert (summary.landed, summary.failed, summary.failed_by_code) == (1, 1, {"moderation_blocked": 1})

    def test_all_refused_by_the_content_policy_leave_nothing(self, harness: BatchHarness) -> None:
        with pytest.raises(ModerationBlocked):
            harness.run(["[[moderation]] a", "[[moderation]] b"], on_moderation="skip")

    def test_refused_by_the_content_policy_are_remembered_by_later_runs(self, harness: BatchHarness) -> None:
        harness.policy = Policy(reuse="always", remember_refusals=HANG)
        harness.run(["a kite", "[[moderation]]"], on_moderation="skip")
        submits = harness.submits
        first = harness.lines()[1]
        again = harness.run(["a kite", "[[moderation]]", "an owl"], on_moderation="skip", dag_id="tonight")
        assert (again.landed, again.reused, again.failed_by_code) == (2, 1, {"moderation_blocked": 1})
        assert harness.submits == submits + 1
        assert first["message"].removeprefix("the gateway gave up: ") in harness.lines()[1]["message"]
        harness.run(["a kite", "[[moderation]]"], on_moderation="skip", dag_id="tonight", epoch=1)
        assert harness.submits == submits + 2

    def test_retry_does_only_what_is_missing(self, harness: BatchHarness) -> None:
        with pytest.raises(PartialDelivery):
            self.run(harness)
        harness.emulator.disarm()
        submits = harness.submits
        rows = [prompt.removeprefix("[[moderation]] ") for prompt in self.ROWS]
        summary = harness.run(rows, try_number=2)
        assert (summary.landed, summary.reused, summary.billed) == (5, 2, 5)
        assert harness.submits - submits == 3
        assert harness.billed == 5


class TestOrderOfRowsChangedBeforeTheRetry:
    def test_costs_nothing(self, harness: BatchHarness) -> None:
        rows = [{"prompt": prompt, "key": f"k{number}"} for number, prompt in enumerate(prompts(10))]
        harness.run(rows)
        summary = harness.run(rows[::-1], try_number=2)
        assert (summary.landed, summary.reused, harness.billed) == (10, 10, 10)


class TestDuplicates:
    ROWS = tuple({"prompt": "a kite" if number % 2 else "an owl", "key": f"k{number}"} for number in range(12))

    def test_are_paid_once(self, harness: BatchHarness) -> None:
        with released_when(harness.emulator, lambda now: now["in_flight"] == 2):
            summary = harness.run(self.ROWS)
        assert (harness.submits, harness.billed) == (2, 2)
        assert (summary.landed, summary.images, summary.billed, summary.reused) == (12, 12, 2, 10)
        assert harness.names() == sorted(f"k{number}.png" for number in range(12))

    def test_are_reported_as_paid_once_by_the_retry_too(self, harness: BatchHarness) -> None:
        harness.run(self.ROWS)
        summary = harness.run(self.ROWS, try_number=2)
        assert (summary.billed, summary.reused, harness.billed) == (2, 12, 2)

    def test_are_all_paid_where_nothing_is_to_be_reused(self, harness: BatchHarness) -> None:
        harness.policy = Policy(reuse="never")
        summary = harness.run(self.ROWS)
        assert (harness.submits, harness.billed, summary.billed, summary.reused) == (12, 12, 12, 0)

    def test_are_not_offered_again_once_the_content_policy_refused_one(self, harness: BatchHarness) -> None:
        harness.emulator.arm("submit", "refuse", code="moderation_blocked", status=400, times=None)
        rows = [{"prompt": "a kite", "key": f"k{number}"} for number in range(5)]
        with pytest.raises(IncompleteBatch):
            harness.run(rows)
        assert harness.emulator.totals()["refused"] == 1
        assert harness.statuses() == ["failed"] * 5

    def test_are_sent_again_after_a_failed_leader(self, harness: BatchHarness) -> None:
        harness.emulator.arm("submit", "fail", times=1)
        rows = [{"prompt": "a kite", "key": f"k{number}"} for number in range(4)]
        summary = harness.run(rows, on_partial="accept")
        assert (summary.landed, summary.failed, harness.billed) == (3, 1, 1)


class TestRowsOfOnePromptAndDifferentCounts:
    def test_pay_once_for_every_image_they_share(self, harness: BatchHarness) -> None:
        rows = [
            {"prompt": "a kite", "model": "dall-e-3", "key": f"k{number}", "n": count}
            for number, count in enumerate((1, 3, 2, 3))
        ]
        summary = harness.run(rows, max_in_flight=4)
        assert (harness.submits, harness.billed, summary.billed) == (3, 3, 3)
        assert (summary.landed, summary.images, summary.reused) == (4, 9, 6)


class TestWrongRows:
    ROWS = ("a kite", {"prompt": ""}, {"prompt": "x", "size": "a lot", "nonsense": 1}, {"prompt": "a", "n": 99})

    def test_are_all_reported_before_anything_is_sent(self, harness: BatchHarness) -> None:
        with pytest.raises(InvalidRows) as caught:
            harness.run(self.ROWS)
        assert [row.number for row in caught.value.rows] == [1, 2, 3]
        assert harness.submits == 0

    def test_are_left_out_where_asked_to(self, harness: BatchHarness) -> None:
        summary = harness.run(self.ROWS, on_invalid="skip")
        assert (summary.rows, summary.landed, summary.skipped) == (4, 1, 3)
        assert harness.statuses() == ["landed", "skipped", "skipped", "skipped"]

    def test_are_an_error_where_nothing_is_left(self, harness: BatchHarness) -> None:
        with pytest.raises(InvalidRows):
            harness.run(self.ROWS[1:], on_invalid="skip")

    def test_callback_of_a_single_row_is_one(self, harness: BatchHarness) -> None:
        with pytest.raises(InvalidRows, match="callback_url") as caught:
            harness.run([{"prompt": "a kite", "callback_url": "https://hook.example/s3cret"}])
        assert "s3cret" not in str(caught.value)


class TestNoRows:
    def test_are_no_error(self, harness: BatchHarness) -> None:
        summary = harness.run([])
        assert (summary.rows, summary.landed, harness.lines()) == (0, 0, [])


class TestWhatConcernsAllRows:
    def test_an_empty_account_is_reported_once_not_a_hundred_times(self, harness: BatchHarness) -> None:
        harness.emulator.arm("submit", "refuse", code="used_up", times=None)
        with pytest.raises(OutOfBalance, match="0 of 100 rows landed"):
            harness.run(prompts(100), max_in_flight=5)
        assert harness.emulator.totals()["refused"] <= 10
        assert harness.statuses() == ["failed"] * 100

    def test_a_refused_token_is_reported_once(self, harness: BatchHarness) -> None:
        harness.emulator.arm("submit", "refuse", code="invalid_token", status=401, times=None)
        with pytest.raises(AuthenticationError):
            harness.run(prompts(50), max_in_flight=5)
        assert harness.emulator.totals()["refused"] <= 10

    def test_a_forbidden_model_is_not_asked_for_a_hundred_times(self, harness: BatchHarness) -> None:
        harness.emulator.arm("submit", "refuse", code="not_verified", status=403, times=None)
        with pytest.raises(RequestRefused, match="0 of 100 rows landed"):
            harness.run(prompts(100), max_in_flight=5)
        assert harness.emulator.totals()["refused"] <= LOST_IN_A_ROW + 10

    def test_images_that_do_not_arrive_are_not_paid_for_repeatedly(self, harness: BatchHarness) -> None:
        harness.emulator.arm("result", "html", times=None)
        with pytest.raises(UploadFailed, match="in a row were paid for and did not arrive"):
            harness.run(prompts(100), max_in_flight=5)
        assert harness.billed < 100
        harness.emulator.disarm()
        summary = harness.run(prompts(100), try_number=2)
        assert (summary.landed, summary.billed, harness.billed) == (100, 100, 100)


class TestDefect:
    def test_in_a_row_that_was_not_claimed_says_that_nothing_was_billed(
        self, harness: BatchHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        planned: Counter[str] = Counter()

        class BrokenGateway(AceDataCloudGateway):
            """Fails at one row as it is planned for its submit, at another one as its request is built."""

            def images_per_call(self, request: ImageRequest) -> int:
                planned[request.prompt] += 1
                # Planned before: to find duplicates, and to take slots.
                if request.prompt == "early" and planned["early"] == 3:
                    raise KeyError("size")
                return super().images_per_call(request)

            def submit(self, request: ImageRequest, trace_id: str) -> httpx.Request:
                if request.prompt == "late":
                    raise KeyError("size")
                return super().submit(request, trace_id)

        monkeypatch.setitem(registered_gateways(), "acedatacloud", BrokenGateway)
        harness.run(["fine", "early", "late"], on_partial="accept")
        assert harness.statuses() == ["landed", "failed", "unknown"]


class TestDeadline:
    def test_ends_what_runs_and_what_was_not_sent(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        with pytest.raises(PartialDelivery, match="0 of 9 rows"):
            harness.run(prompts(9), max_in_flight=3, timeout=DEADLINE)
        assert harness.submits == 3
        assert harness.statuses() == ["unknown"] * 3 + ["failed"] * 6
        assert [line["message"] for line in harness.lines()[3:]] == ["the deadline passed before it was sent"] * 6

    def test_retry_attaches_to_what_runs(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        with pytest.raises(PartialDelivery):
            harness.run(prompts(6), max_in_flight=3, timeout=DEADLINE)
        assert harness.emulator.release() == 3
        summary = harness.run(prompts(6), max_in_flight=3, try_number=2)
        assert (summary.landed, harness.submits, harness.billed) == (6, 6, 6)


class TestGatewayWithoutTasks:
    def test_lands_each_as_it_comes(self, harness: BatchHarness) -> None:
        harness.use("openai", "/openai-api")
        harness.emulator.change(latency=SOME_TIME)
        with released_when(harness.emulator, lambda now: now["in_flight"] == 10):
            summary = harness.run(prompts(40), max_in_flight=10, deferrable=True)
        totals = harness.emulator.totals()
        assert (summary.landed, summary.billed, totals["billed_images"]) == (40, 40, 40)
        assert totals["peak_in_flight"] == 10


class TestProgress:
    def test_is_shown_in_words_at_the_end(self, harness: BatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        # Lines before the end come by the clock.
        monkeypatch.setattr("airflow_provider_imagegen.engine.batch.progress.SECONDS_BETWEEN_LINES", HANG)
        harness.run(["a kite", "[[moderation]]"], on_partial="accept")
        assert str(harness.reported[-1]).startswith("1/2 landed · 0 landing · 0 in flight · 1 failed · ")
        assert len(harness.reported) == 1

    def test_is_shown_now_and_then_with_the_time_that_is_left(
        self, harness: BatchHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_imagegen.engine.batch.progress.SECONDS_BETWEEN_LINES", 0.1)

        def in_the_middle() -> list[Counts]:
            now = (10, 0, 5)
            return [one for one in harness.reported if (one.landed, one.landing, one.in_flight) == now]

        with released_when(harness.emulator, lambda _: bool(in_the_middle()), after=10):
            harness.run(prompts(30), max_in_flight=5)
        landed = [counts.landed for counts in harness.reported]
        assert landed == sorted(landed)
        assert landed[-1] == 30
        assert all(counts.in_flight <= 5 for counts in harness.reported)
        line = str(in_the_middle()[-1])
        assert re.fullmatch(
            r"10/30 landed · 0 landing · 5 in flight · 0 failed · [\d.]+/s · about [\d.]+ (s|min|h) left", line
        )

    def test_counts_rows_that_are_landing(self, harness: BatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_imagegen.engine.batch.progress.SECONDS_BETWEEN_LINES", 0.1)
        shown = threading.Event()

        def hold(which: Failpoint, moment: str) -> None:
            if (which, moment) == (Failpoint.PUT_IMAGE, "before"):
                assert shown.wait(HANG)

        async def report(counts: Counts) -> None:
            harness.reported.append(counts)
            if (counts.landing, counts.in_flight) == (3, 0):
                shown.set()

        monkeypatch.setattr(harness, "_report", report)
        end = observe(hold)
        try:
            # A row of several images counts once, in every state.
            harness.run([*prompts(2), {"prompt": "a kite", "model": "dall-e-3", "n": 3}])
        finally:
            end()
        assert all(one.landed + one.landing + one.in_flight + one.failed <= 3 for one in harness.reported)
        assert harness.reported[-1].landed == 3

    @pytest.mark.parametrize(
        ("counts", "left"),
        [
            (Counts(9, in_flight=9), None),
            (Counts(9, landed=1, in_flight=8, seconds_each=20.0), 10.0),
            (Counts(1000, landed=350, in_flight=50, seconds_each=10.0), 125.0),
            (Counts(9, landed=9, seconds_each=20.0), None),
        ],
    )
    def test_tells_the_time_that_is_left_by_what_is_at_work(self, counts: Counts, left: float | None) -> None:
        assert counts.seconds_left == left
