"""The summary of a batch: its size is limited, and it determines the error of the task."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.engine.batch.summary import Tally, error_for
from airflow_provider_imagegen.exceptions import ImageGenError, IncompleteBatch, OutOfBalance, PartialDelivery
from airflow_provider_imagegen.schemas import LandedImage
from airflow_provider_imagegen.schemas.batch import BatchSummary
from tests.examples import examples

XCOM_BYTES = 48 * 1024
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=400) | st.sampled_from(["😀" * 5000, "\x00" * 5000])
RESULTS = st.builds(
    RowResult,
    row=st.integers(0, 100_000),
    key=TEXTS,
    status=st.sampled_from(["failed", "unknown", "skipped"]),
    code=TEXTS,
    message=TEXTS,
    usage=st.dictionaries(TEXTS, st.integers(0, 10**12), max_size=8),
)


def result(row: int, status: Any = "landed", **fields: Any) -> RowResult:
    image = LandedImage(
        index=0, uri="", bucket="", key="", etag="", version_id=None, bytes=1, sha256="", content_type="image/png",
        width=1, height=1, task_id=None, trace_id=None, revised_prompt=None,
    )  # fmt: skip
    landed = {"images": (image,), "billed": 1} if status == "landed" else {}
    return RowResult(row=row, key=str(row), status=status, **(landed | fields))


def summed(*results: RowResult) -> tuple[BatchSummary, Tally]:
    tally = Tally()
    for one in results:
        tally.add(one)
    uri = "s3://" + "b" * 63 + "/" + "雪" * 300 + "/manifest.jsonl"
    place = {"manifest_uri": uri, "manifest_sha256": "ab" * 32}
    return tally.summary(gateway="acedatacloud", created_at="now", elapsed=1.0, currency="USD", **place), tally


def judged(*results: RowResult, **choices: Any) -> ImageGenError | None:
    summary, tally = summed(*results)
    usual: dict[str, Any] = {"on_partial": "fail", "on_moderation": "fail", "stopped_by": None}
    return error_for(summary, tally, **(usual | choices))


@settings(max_examples=examples(60))
@given(st.lists(RESULTS, min_size=60, max_size=120))
def test_fits_into_an_xcom_for_any_rows(results: list[RowResult]) -> None:
    summary, _ = summed(*results)
    assert len(json.dumps(summary.model_dump(mode="json"))) < XCOM_BYTES
    wrong = [one for one in results if one.status != "skipped"]
    assert sum(summary.failed_by_code.values()) == len(wrong)
    assert summary.rows == len(results)


@pytest.mark.parametrize("rows", [2_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_many_rows_fit_too(rows: int) -> None:
    results = (result(row, "failed", code=f"code {row}", message="m" * 1000) for row in range(rows))
    summary, _ = summed(*results)
    assert len(json.dumps(summary.model_dump(mode="json"))) < XCOM_BYTES
    assert sum(summary.failed_by_code.values()) == rows


class TestWhatItMeans:
    FAILED = result(1, "failed", code="api_error", retryable=True)
    REFUSED = result(2, "failed", code="bad_request")
    MODERATED = result(3, "failed", code="moderation_blocked")

    def test_all_landed_is_success(self) -> None:
        assert judged(result(0), result(1)) is None

    def test_errors_that_a_retry_can_fix_are_retried(self) -> None:
        error = judged(result(0), self.FAILED, self.REFUSED)
        assert type(error) is PartialDelivery

    def test_errors_that_no_retry_can_fix_are_not_retried(self) -> None:
        assert isinstance(judged(result(0), self.REFUSED, self.MODERATED), IncompleteBatch)

    def test_fewer_may_be_accepted_but_not_none(self) -> None:
        assert judged(result(0), self.FAILED, on_partial="accept") is None
        assert judged(self.FAILED, on_partial="accept") is not None

    def test_only_moderation_can_be_skipped(self) -> None:
        assert judged(result(0), self.MODERATED, on_moderation="skip") is None
        assert judged(result(0), self.MODERATED, self.REFUSED, on_moderation="skip") is not None

    def test_what_stopped_the_batch_is_named(self) -> None:
        error = judged(result(0), self.REFUSED, stopped_by=OutOfBalance("used up"))
        assert isinstance(error, OutOfBalance)
        assert str(error).startswith("used up; 1 of 2 rows landed")

    @pytest.mark.parametrize(
        ("results", "billed"),
        [([result(0), FAILED], "yes"), ([FAILED], "no"), ([result(0), result(1, "unknown")], "unknown")],
    )
    def test_money_is_reported(self, results: list[RowResult], billed: str) -> None:
        error = judged(*results)
        assert error is not None
        assert error.billed == billed
