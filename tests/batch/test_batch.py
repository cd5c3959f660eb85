"""A batch from its rows to its summary: places, pace, names, and rows that end for themselves."""

from __future__ import annotations

import re

import pytest
from aiolimiter import AsyncLimiter

from airflow_provider_imagegen.batch.progress import Counts
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    IncompleteBatch,
    InvalidRows,
    ModerationBlocked,
    OutOfBalance,
    PartialDelivery,
    UploadFailed,
)
from airflow_provider_imagegen.resume import Policy
from tests.batch.conftest import BatchLaboratory, keys, prompts
from tests.conftest import BUCKET
from tests.failures.conftest import DEADLINE, released_when

SOME_TIME = 0.1
"""Seconds an image takes where several are to be at work at once; how many are is never judged by it."""


class TestManyRows:
    @pytest.mark.parametrize("rows", [50, pytest.param(200, marks=pytest.mark.full)])
    def test_land_within_ten_places_and_are_billed_once(self, laboratory: BatchLaboratory, rows: int) -> None:
        laboratory.emulator.change(latency=SOME_TIME)
        with released_when(laboratory.emulator, lambda now: now["in_flight"] == 10):
            summary = laboratory.run(prompts(rows), max_in_flight=10)
        totals = laboratory.emulator.totals()
        assert totals["peak_in_flight"] == 10
        assert (totals["submits"], totals["billed_images"]) == (rows, rows)
        assert (summary.rows, summary.landed, summary.images, summary.billed, summary.reused) == (rows,) * 4 + (0,)
        assert laboratory.names() == [f"{number:05}.png" for number in range(rows)]
        assert [line["row"] for line in laboratory.lines()] == list(range(rows))


class TestPlaces:
    def test_rows_of_several_calls_take_several(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.change(latency=SOME_TIME)
        rows = [{"prompt": prompt, "model": "dall-e-3", "n": 3} for prompt in prompts(4)]
        summary = laboratory.run(rows, max_in_flight=4)
        assert (summary.landed, summary.images) == (4, 12)
        assert laboratory.emulator.totals()["peak_in_flight"] <= 4

    def test_one_row_may_need_more_than_there_are(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.change(latency=SOME_TIME)
        summary = laboratory.run([{"prompt": "a kite", "model": "dall-e-3", "n": 5}], max_in_flight=2)
        assert summary.images == 5
        assert laboratory.emulator.totals()["peak_in_flight"] <= 2

    def test_gateway_with_fewer_is_asked_again(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.change(max_in_flight=2)
        with released_when(laboratory.emulator, lambda now: now["refused"] > 0):
            summary = laboratory.run(prompts(12), max_in_flight=4)
        totals = laboratory.emulator.totals()
        assert (summary.landed, totals["billed_images"], totals["peak_in_flight"]) == (12, 12, 2)
        assert totals["refused"] > 0


class CountingLimiter(AsyncLimiter):
    """Counts whom it lets pass."""

    passed = 0

    async def acquire(self, amount: float = 1) -> None:
        await super().acquire(amount)
        self.passed += 1


@pytest.fixture
def limiters(monkeypatch: pytest.MonkeyPatch) -> list[CountingLimiter]:
    """What keeps the pace of the batches that run."""
    made: list[CountingLimiter] = []

    def make(max_rate: float, time_period: float) -> CountingLimiter:
        made.append(CountingLimiter(max_rate, time_period))
        return made[-1]

    monkeypatch.setattr("airflow_provider_imagegen.operators.batch_work.AsyncLimiter", make)
    return made


class TestPace:
    def test_requests_follow_each_other_evenly(
        self, laboratory: BatchLaboratory, limiters: list[CountingLimiter]
    ) -> None:
        laboratory.run(prompts(7), requests_per_minute=600)
        (limiter,) = limiters
        assert (limiter.max_rate, limiter.time_period) == (1, 0.1)
        assert limiter.passed == laboratory.submits == 7

    def test_a_retry_walks_over_what_is_there_at_full_speed(
        self, laboratory: BatchLaboratory, limiters: list[CountingLimiter]
    ) -> None:
        laboratory.run(prompts(20))
        summary = laboratory.run(prompts(20), try_number=2, requests_per_minute=6)
        assert (summary.reused, summary.billed) == (20, 20)
        (limiter,) = limiters
        assert (limiter.time_period, limiter.passed) == (10, 0)


class TestNames:
    def test_follow_keys_and_counts(self, laboratory: BatchLaboratory) -> None:
        rows = [
            {"prompt": "a kite", "key": "kites/red"},
            {"prompt": "two owls", "key": "owls", "n": 2},
            "a boat",
        ]
        laboratory.run(rows)
        assert laboratory.names() == ["00002.png", "kites/red.png", "owls-0.png", "owls-1.png"]
        assert keys(laboratory.lines()) == ["kites/red", "owls", "00002"]

    def test_objects_tell_their_own_row(self, laboratory: BatchLaboratory) -> None:
        rows = [{"prompt": "a kite", "key": "a"}, {"prompt": "a kite", "key": "b", "model": "gpt-image-1-mini"}]
        laboratory.run(rows)
        heads = [laboratory.s3.head_object(Bucket=BUCKET, Key=f"{laboratory.prefix}/{key}.png") for key in "ab"]
        assert [head["Metadata"]["model"] for head in heads] == ["gpt-image-1", "gpt-image-1-mini"]
        assert [head["Metadata"]["fingerprint"] for head in heads] == [
            line["fingerprint"] for line in laboratory.lines()
        ]


class TestRowsEndForThemselves:
    ROWS = ("a kite", "[[moderation]] a boat", "an owl", "a barn", "a lamp")

    def run(self, laboratory: BatchLaboratory, **ask: object) -> None:
        laboratory.emulator.arm("submit", "refuse", code="bad_request", status=400, prompt="an owl", times=None)
        laboratory.emulator.arm("submit", "fail", prompt="a barn", times=None)
        laboratory.run(self.ROWS, **ask)

    def test_whatever_becomes_of_the_others(self, laboratory: BatchLaboratory) -> None:
        with pytest.raises(PartialDelivery, match=r"2 of 5 rows landed") as caught:
            self.run(laboratory)
        assert laboratory.statuses() == ["landed", "failed", "failed", "failed", "landed"]
        codes = [line.get("code") for line in laboratory.lines()]
        assert codes == [None, "moderation_blocked", "bad_request", "api_error", None]
        assert f"s3://{BUCKET}/{laboratory.prefix}/manifest.jsonl" in str(caught.value)
        assert laboratory.billed == 2

    def test_are_enough_where_asked_to(self, laboratory: BatchLaboratory) -> None:
        self.run(laboratory, on_partial="accept")
        assert laboratory.statuses().count("landed") == 2

    def test_that_no_retry_can_cure_end_the_task_for_good(self, laboratory: BatchLaboratory) -> None:
        with pytest.raises(IncompleteBatch, match="1 of 2 rows landed"):
            laboratory.run(["a kite", "[[moderation]]"])

    def test_refused_by_the_content_policy_may_be_left_out(self, laboratory: BatchLaboratory) -> None:
        summary = laboratory.run(["a kite", "[[moderation]]"], on_moderation="skip")
        assert (summary.landed, summary.failed, summary.failed_by_code) == (1, 1, {"moderation_blocked": 1})

    def test_all_refused_by_the_content_policy_leave_nothing(self, laboratory: BatchLaboratory) -> None:
        with pytest.raises(ModerationBlocked):
            laboratory.run(["[[moderation]] a", "[[moderation]] b"], on_moderation="skip")

    def test_retry_does_only_what_is_missing(self, laboratory: BatchLaboratory) -> None:
        with pytest.raises(PartialDelivery):
            self.run(laboratory)
        laboratory.emulator.disarm()
        submits = laboratory.submits
        rows = [prompt.removeprefix("[[moderation]] ") for prompt in self.ROWS]
        summary = laboratory.run(rows, try_number=2)
        assert (summary.landed, summary.reused, summary.billed) == (5, 2, 5)
        assert laboratory.submits - submits == 3
        assert laboratory.billed == 5


class TestOrderOfRowsChangedBeforeTheRetry:
    def test_costs_nothing(self, laboratory: BatchLaboratory) -> None:
        rows = [{"prompt": prompt, "key": f"k{number}"} for number, prompt in enumerate(prompts(10))]
        laboratory.run(rows)
        summary = laboratory.run(rows[::-1], try_number=2)
        assert (summary.landed, summary.reused, laboratory.billed) == (10, 10, 10)


class TestEqualRows:
    ROWS = tuple({"prompt": "a kite" if number % 2 else "an owl", "key": f"k{number}"} for number in range(12))

    def test_are_paid_once(self, laboratory: BatchLaboratory) -> None:
        with released_when(laboratory.emulator, lambda now: now["in_flight"] == 2):
            summary = laboratory.run(self.ROWS)
        assert (laboratory.submits, laboratory.billed) == (2, 2)
        assert (summary.landed, summary.images, summary.billed, summary.reused) == (12, 12, 2, 10)
        assert laboratory.names() == sorted(f"k{number}.png" for number in range(12))

    def test_are_told_as_paid_once_by_the_retry_too(self, laboratory: BatchLaboratory) -> None:
        laboratory.run(self.ROWS)
        summary = laboratory.run(self.ROWS, try_number=2)
        assert (summary.billed, summary.reused, laboratory.billed) == (2, 12, 2)

    def test_are_all_paid_where_nothing_is_to_be_reused(self, laboratory: BatchLaboratory) -> None:
        laboratory.policy = Policy(reuse="never")
        summary = laboratory.run(self.ROWS)
        assert (laboratory.submits, laboratory.billed, summary.billed, summary.reused) == (12, 12, 12, 0)

    def test_are_not_offered_again_once_the_content_policy_refused_one(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.arm("submit", "refuse", code="moderation_blocked", status=400, times=None)
        rows = [{"prompt": "a kite", "key": f"k{number}"} for number in range(5)]
        with pytest.raises(IncompleteBatch):
            laboratory.run(rows)
        assert laboratory.emulator.totals()["refused"] == 1
        assert laboratory.statuses() == ["failed"] * 5

    def test_take_over_from_a_leader_that_failed(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.arm("submit", "fail", times=1)
        rows = [{"prompt": "a kite", "key": f"k{number}"} for number in range(4)]
        summary = laboratory.run(rows, on_partial="accept")
        assert (summary.landed, summary.failed, laboratory.billed) == (3, 1, 1)


class TestWrongRows:
    ROWS = ("a kite", {"prompt": ""}, {"prompt": "x", "size": "a lot", "nonsense": 1}, {"prompt": "a", "n": 99})

    def test_are_all_told_before_anything_is_sent(self, laboratory: BatchLaboratory) -> None:
        with pytest.raises(InvalidRows) as caught:
            laboratory.run(self.ROWS)
        assert [row.number for row in caught.value.rows] == [1, 2, 3]
        assert laboratory.submits == 0

    def test_are_left_out_where_asked_to(self, laboratory: BatchLaboratory) -> None:
        summary = laboratory.run(self.ROWS, on_invalid="skip")
        assert (summary.rows, summary.landed, summary.skipped) == (4, 1, 3)
        assert laboratory.statuses() == ["landed", "skipped", "skipped", "skipped"]

    def test_are_an_error_where_nothing_is_left(self, laboratory: BatchLaboratory) -> None:
        with pytest.raises(InvalidRows):
            laboratory.run(self.ROWS[1:], on_invalid="skip")

    def test_callback_of_a_single_row_is_one(self, laboratory: BatchLaboratory) -> None:
        with pytest.raises(InvalidRows, match="callback_url") as caught:
            laboratory.run([{"prompt": "a kite", "callback_url": "https://hook.example/s3cret"}])
        assert "s3cret" not in str(caught.value)


class TestNoRows:
    def test_are_no_error(self, laboratory: BatchLaboratory) -> None:
        summary = laboratory.run([])
        assert (summary.rows, summary.landed, laboratory.lines()) == (0, 0, [])


class TestWhatConcernsAllRows:
    def test_an_empty_account_is_met_once_not_a_hundred_times(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.arm("submit", "refuse", code="used_up", times=None)
        with pytest.raises(OutOfBalance, match="0 of 100 rows landed"):
            laboratory.run(prompts(100), max_in_flight=5)
        assert laboratory.emulator.totals()["refused"] <= 10
        assert laboratory.statuses() == ["failed"] * 100

    def test_a_token_refused_is_too(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.arm("submit", "refuse", code="invalid_token", status=401, times=None)
        with pytest.raises(AuthenticationError):
            laboratory.run(prompts(50), max_in_flight=5)
        assert laboratory.emulator.totals()["refused"] <= 10

    def test_what_does_not_arrive_is_not_paid_for_again_and_again(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.arm("result", "html", times=None)
        with pytest.raises(UploadFailed, match="in a row were paid for and did not arrive"):
            laboratory.run(prompts(100), max_in_flight=5)
        assert laboratory.billed < 100
        laboratory.emulator.disarm()
        summary = laboratory.run(prompts(100), try_number=2)
        assert (summary.landed, summary.billed, laboratory.billed) == (100, 100, 100)


class TestDeadline:
    def test_ends_what_runs_and_what_was_not_sent(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.hold()
        with pytest.raises(PartialDelivery, match="0 of 9 rows"):
            laboratory.run(prompts(9), max_in_flight=3, timeout=DEADLINE)
        assert laboratory.submits == 3
        assert laboratory.statuses() == ["unknown"] * 3 + ["failed"] * 6
        assert [line["message"] for line in laboratory.lines()[3:]] == ["the deadline passed before it was sent"] * 6

    def test_retry_attaches_to_what_runs(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.hold()
        with pytest.raises(PartialDelivery):
            laboratory.run(prompts(6), max_in_flight=3, timeout=DEADLINE)
        assert laboratory.emulator.release() == 3
        summary = laboratory.run(prompts(6), max_in_flight=3, try_number=2)
        assert (summary.landed, laboratory.submits, laboratory.billed) == (6, 6, 6)


class TestGatewayWithoutTasks:
    def test_lands_each_as_it_comes(self, laboratory: BatchLaboratory) -> None:
        laboratory.use("openai", "/openai-api")
        laboratory.emulator.change(latency=SOME_TIME)
        with released_when(laboratory.emulator, lambda now: now["in_flight"] == 10):
            summary = laboratory.run(prompts(40), max_in_flight=10, deferrable=True)
        totals = laboratory.emulator.totals()
        assert (summary.landed, summary.billed, totals["billed_images"]) == (40, 40, 40)
        assert totals["peak_in_flight"] == 10


class TestProgress:
    def test_is_told_in_words_at_the_end(self, laboratory: BatchLaboratory) -> None:
        laboratory.run(["a kite", "[[moderation]]"], on_partial="accept")
        assert str(laboratory.told[-1]).startswith("1/2 landed · 0 in flight · 1 failed · ")
        assert len(laboratory.told) == 1

    def test_is_told_now_and_then_with_the_time_that_is_left(
        self, laboratory: BatchLaboratory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_imagegen.batch.progress.SECONDS_BETWEEN_LINES", 0.1)

        def in_the_middle() -> list[Counts]:
            return [counts for counts in laboratory.told if (counts.landed, counts.in_flight) == (10, 5)]

        with released_when(laboratory.emulator, lambda _: bool(in_the_middle()), after=10):
            laboratory.run(prompts(30), max_in_flight=5)
        landed = [counts.landed for counts in laboratory.told]
        assert landed == sorted(landed)
        assert landed[-1] == 30
        assert all(counts.in_flight <= 5 for counts in laboratory.told)
        (line,) = map(str, in_the_middle())
        assert re.fullmatch(r"10/30 landed · 5 in flight · 0 failed · [\d.]+/s · about [\d.]+ (s|min|h) left", line)
