"""Cards of a page: one for every image, and one for every missing image."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.exceptions import (
    ImageGenError,
    IncompleteBatch,
    ModerationBlocked,
    OutcomeUnknown,
    PaidImageLost,
)
from airflow_provider_imagegen.gallery import cards
from airflow_provider_imagegen.gallery.airflow_api import EndedTask, Instance
from airflow_provider_imagegen.gallery.cards import Card, Wish
from airflow_provider_imagegen.gallery.listing import position_text, read_position
from airflow_provider_imagegen.gallery.models import (
    ShownManifest,
    ShownSidecar,
    ShownSummary,
    read_result,
    read_sidecar,
    split_uri,
)
from airflow_provider_imagegen.schemas import MissingImage
from tests.gallery.airflow_server import IMAGE, MISSING

TRUNCATED = "Truncated. You can change this behaviour in [core]max_templated_field_length. "
INSTANCE = Instance("shop", "nightly", "draw", 2)
MANIFEST = {
    "version": 1, "gateway": "ace", "model": "m", "images": [IMAGE], "failures": [MISSING],
    "currency": "EUR", "fingerprint": "f", "created_at": "2026-01-01T00:00:00+00:00", "something": "new",
}  # fmt: skip
SUMMARY = {"version": 1, "gateway": "ace", "rows": 3, "images": 2, "manifest_uri": "s3://b/k/manifest.jsonl"}


def manifest(**changes: Any) -> ShownManifest:
    return ShownManifest.model_validate(MANIFEST | changes)


def sidecar(**request: Any) -> ShownSidecar:
    origin = {"dag_id": "shop", "task_id": "draw", "run_id": "nightly", "map_index": 2, "try_number": 1}
    return ShownSidecar.model_validate({"version": 1, "fingerprint": "f", "origin": origin, "request": request})


def row(**fields: Any) -> RowResult:
    return RowResult.model_validate({"row": 5, "key": "hat", "status": "landed", **fields})


class TestResults:
    def test_are_known_by_their_form(self) -> None:
        assert isinstance(read_result(MANIFEST), ShownManifest)
        assert isinstance(read_result(SUMMARY), ShownSummary)

    @pytest.mark.parametrize(
        "value",
        [
            None, 1, "text", [], {}, {"version": 1}, {"version": 2, "images": []}, {"version": 1, "images": [1]},
            {"version": 1, "images": [IMAGE | {"bytes": "many"}]}, {"version": 1, "images": 3, "rows": "x"},
        ],
    )  # fmt: skip
    def test_are_nothing_else(self, value: Any) -> None:
        assert read_result(value) is None

    @pytest.mark.parametrize("body", [b"", b"\xff", b"{}", b"[]"])
    def test_have_no_sidecar_that_is_none(self, body: bytes) -> None:
        assert read_sidecar(body) is None

    def test_are_at_addresses(self) -> None:
        assert split_uri("s3://b/k/0.png") == ("b", "k/0.png")
        assert split_uri("s3://b/") is split_uri("https://b/k") is None


class TestImage:
    def test_tells_all_that_is_known(self) -> None:
        asked = sidecar(prompt="A hat", size="1536x1024", quality=None)
        (card, _) = cards.of_manifest(INSTANCE, manifest(), asked)
        assert (card.kind, card.prompt, card.revised_prompt, card.model) == ("image", "A hat", "A red hat", "m")
        assert card.parameters == {"size": "1536x1024"}
        assert (float(card.cost or 0), card.currency, card.usage) == (0.04, "EUR", {"total_tokens": 7})
        assert card.address == "dags/shop/runs/nightly/tasks/draw/2/images/0"
        assert card.version == f"v={'ab' * 8}"

    def test_is_shown_without_its_sidecar(self) -> None:
        (card, _) = cards.of_manifest(INSTANCE, manifest(), None)
        assert (card.prompt, card.revised_prompt) == ("", "A red hat")

    def test_of_a_batch_names_its_row(self) -> None:
        summary = ShownSummary.model_validate(SUMMARY)
        result = row(images=[IMAGE], request={"prompt": "A hat", "model": "m2"})
        (card,) = cards.of_row(INSTANCE, summary, result, 99)
        assert (card.row, card.name, card.prompt, card.model, card.gateway) == (5, "hat", "A hat", "m2", "ace")
        assert card.address.endswith("/tasks/draw/2/rows/5/images/0")
        assert card.version.startswith("at=99&v=")

    def test_has_no_thumbnail_if_it_is_drawn_with_vectors(self) -> None:
        (card, _) = cards.of_manifest(INSTANCE, manifest(images=[IMAGE | {"content_type": "image/svg+xml"}]), None)
        assert not card.has_thumbnail

    def test_has_a_prompt_of_limited_length(self) -> None:
        (card, _) = cards.of_manifest(INSTANCE, manifest(), sidecar(prompt="x" * 32_000))
        assert len(card.prompt) == cards.MAX_TEXT

    def test_is_one_of_a_limited_number(self) -> None:
        many = manifest(images=[IMAGE | {"index": index} for index in range(500)], failures=[])
        assert len(cards.of_manifest(INSTANCE, many, None)) == 200


class TestFailure:
    def test_tells_code_message_and_bill(self) -> None:
        (_, card) = cards.of_manifest(INSTANCE, manifest(), sidecar(prompt="A hat"))
        assert (card.kind, card.index, card.prompt) == ("failure", 1, "A hat")
        assert (card.code, card.message, card.billed) == ("moderation_blocked", "refused", "no")

    @pytest.mark.parametrize(
        ("fields", "billed"),
        [
            ({"status": "unknown", "code": "lost"}, "unknown"),
            ({"status": "failed", "code": "bad_size"}, "no"),
            ({"status": "failed", "code": "expired", "billed": 1}, "yes"),
            ({"status": "skipped", "code": "invalid"}, "no"),
        ],
    )
    def test_of_a_row_tells_whether_it_was_billed(self, fields: dict[str, Any], billed: str) -> None:
        (card,) = cards.of_row(INSTANCE, ShownSummary.model_validate(SUMMARY), row(**fields), 0)
        assert (card.kind, card.code, card.billed) == ("failure", fields["code"], billed)

    def test_stands_beside_what_landed_of_the_row(self) -> None:
        result = row(status="failed", images=[IMAGE], failures=[MISSING])
        shown = cards.of_row(INSTANCE, ShownSummary.model_validate(SUMMARY), result, 0)
        assert [card.kind for card in shown] == ["image", "failure"]

    def test_of_a_whole_task_shows_its_prompt(self) -> None:
        task = EndedTask(INSTANCE, "failed", "GenerateImageOperator", None)
        (card,) = cards.of_failed(task, {"prompt": "A hat", "model": "m", "n": 2})
        assert (card.prompt, card.model, card.billed, card.parameters) == ("A hat", "m", "unknown", {})

    @pytest.mark.parametrize(
        ("field", "prompt"),
        [
            ("A hat", "A hat"),
            (f"{TRUNCATED}A very long hat...", "A very long hat…"),
            (f"{TRUNCATED}'A very long hat'... ", "A very long hat…"),
            (f"{TRUNCATED}...", ""),
            ("DYNAMIC (set during execution)", ""),
            (None, ""),
        ],
    )
    def test_of_a_whole_task_never_shows_what_airflow_says_of_its_prompt(self, field: str | None, prompt: str) -> None:
        task = EndedTask(INSTANCE, "failed", "GenerateImageOperator", None)
        (card,) = cards.of_failed(task, {"prompt": field})
        assert card.prompt == prompt

    @pytest.mark.parametrize("kind", [PaidImageLost, ModerationBlocked, OutcomeUnknown])
    def test_shows_the_advice_of_the_log(self, kind: type[ImageGenError]) -> None:
        error = kind("lost")
        missing = MissingImage.because_of(error, 0).model_dump()
        (card,) = cards.of_manifest(INSTANCE, manifest(images=[], failures=[missing]), None)
        assert card.advice
        assert card.advice in str(error)

    @pytest.mark.parametrize(
        ("fields", "advice"),
        [
            ({"status": "unknown", "code": "OutcomeUnknown"}, OutcomeUnknown.advice),
            ({"status": "failed", "code": "moderation_blocked"}, ModerationBlocked.advice),
            ({"status": "failed", "code": "busy", "retryable": True}, "A retry does only what is missing."),
            ({"status": "skipped", "code": "invalid"}, IncompleteBatch.advice),
        ],
    )
    def test_of_a_row_shows_what_to_do(self, fields: dict[str, Any], advice: str) -> None:
        (card,) = cards.of_row(INSTANCE, ShownSummary.model_validate(SUMMARY), row(**fields), 0)
        assert card.advice == advice

    @pytest.mark.parametrize(
        ("code", "shown"),
        [("PaidImageLost", "paid_image_lost"), ("KeyError", "key_error"), ("bad_size", "bad_size"), ("E42", "E42")],
    )
    def test_has_a_code_and_no_class_name(self, code: str, shown: str) -> None:
        (card,) = cards.of_manifest(INSTANCE, manifest(images=[], failures=[MISSING | {"code": code}]), None)
        assert card.code == shown

    @pytest.mark.parametrize(
        ("operator", "is_own"),
        [
            ("GenerateImageOperator", True),
            ("GenerateImageBatchOperator", True),
            ("EditImageOperator", True),
            ("@task.generate_image", True),
            ("@task", False),
            ("BashOperator", False),
        ],
    )
    def test_of_a_whole_task_is_known_by_its_operator(self, operator: str, is_own: bool) -> None:
        assert cards.is_own(EndedTask(INSTANCE, "failed", operator, None)) == is_own


class TestFilter:
    def card(self, **fields: Any) -> Card:
        place = {"dag_id": "shop", "run_id": "nightly", "task_id": "draw", "map_index": -1}
        return Card.model_validate({"kind": "image", **place, **fields})

    @pytest.mark.parametrize(
        ("wish", "fields", "is_met"),
        [
            ({}, {}, True),
            ({"text": "HAT red"}, {"prompt": "A red hat"}, True),
            ({"text": "hat blue"}, {"prompt": "A red hat"}, False),
            ({"text": "lost"}, {"kind": "failure", "message": "The response was lost"}, True),
            ({"text": "abc-1"}, {"trace_id": "ABC-1"}, True),
            ({"model": "gpt"}, {"model": "GPT-image-1"}, True),
            ({"model": "dall"}, {"model": "gpt-image-1"}, False),
            ({"status": "landed"}, {}, True),
            ({"status": "landed"}, {"kind": "failure"}, False),
            ({"status": "reused"}, {"reused": True}, True),
            ({"status": "reused"}, {}, False),
            ({"status": "failed"}, {"kind": "failure", "billed": "no"}, True),
            ({"status": "failed-billed"}, {"kind": "failure", "billed": "no"}, False),
            ({"status": "failed-billed"}, {"kind": "failure", "billed": "unknown"}, True),
            ({"status": "failed-billed"}, {}, False),
        ],
    )
    def test_is_met(self, wish: dict[str, Any], fields: dict[str, Any], is_met: bool) -> None:
        assert Wish(**wish).is_met_by(self.card(**fields)) == is_met


class TestPosition:
    def test_is_read_back(self) -> None:
        assert read_position(position_text((3, 0, 12, 4567)), 4) == (3, 0, 12, 4567)

    @pytest.mark.parametrize("text", ["", "1.2", "1.2.3.4", "a.b.c", "-1.0.0", "1.2.3\n", "9" * 30 + ".0.0"])
    def test_is_nothing_else(self, text: str) -> None:
        assert read_position(text, 3) is None
