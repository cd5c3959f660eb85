"""External text is shown short, on one line, without secrets."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.exceptions import GenerationFailed
from airflow_provider_imagegen.redaction import (
    MAX_ID,
    MAX_TEXT,
    address_of,
    foreign_id,
    foreign_json,
    foreign_text,
    queries_in,
    redact_secrets,
    redacted,
)
from airflow_provider_imagegen.schemas import TaskFailure

SECRET = 'sk-3f9a/+"b7=='


class TestRedacted:
    def test_cuts_queries_user_names_tokens_and_given_secrets(self) -> None:
        text = "GET https://user:pw@h.example/a.png?sig=S1#S2 with Bearer abcdefgh1234 and hunter22"
        assert redacted(text, ["hunter22"]) == "GET https://***@h.example/a.png?… with Bearer *** and ***"

    @given(st.text(), st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=20))
    def test_any_text_is_one_short_line_without_the_secret(self, text: str, secret: str) -> None:
        shown = redacted(f"{text}{secret}{text}", [secret])
        assert len(shown) <= 200
        assert len(shown.splitlines()) <= 1
        assert secret not in shown

    @pytest.mark.parametrize(
        "endless", ["a", "a:", "-", "://", "a/?", "a b", "a" * 31 + "://", "a:(", "key ", "\ud83d\x00"]
    )
    def test_gets_through_megabytes(self, endless: str) -> None:
        """In time linear in the text: a quadratic pattern would take hours, and the test be ended as one that hangs."""
        text = endless * (2_000_000 // len(endless))
        assert len(redacted(text)) <= 200
        assert len(foreign_text(text)) <= 2 * MAX_TEXT
        assert len(foreign_id(text)) <= MAX_ID

    def test_cuts_a_login_whose_scheme_was_forgotten(self) -> None:
        assert redacted("host='user:pw@h.example' at 10:30") == "host='***@h.example' at 10:30"


class TestRedactSecrets:
    SPELLINGS = (
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        f"{'x' * 190} {SECRET}",
    )

    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_keeps_a_secret_out_however_it_is_spelled_or_cut(self, spelling: str) -> None:
        with redact_secrets([SECRET]):
            shown = redacted(f"the gateway says {spelling}")
        assert "***" in shown or len(shown) == 200
        assert spelling[-8:] not in shown
        assert "sk-3f9" not in shown

    def test_ends_with_the_block_and_adds_to_the_one_around_it(self) -> None:
        with redact_secrets([SECRET]):
            with redact_secrets(["another-secret"]):
                assert redacted(f"{SECRET} another-secret") == "*** ***"
            assert redacted(f"{SECRET} another-secret") == "*** another-secret"
        assert redacted(SECRET) == SECRET

    def test_leaves_words_alone_that_are_too_short_for_a_secret(self) -> None:
        with redact_secrets(["", "image"]):
            assert redacted("the image") == "the image"

    def test_reaches_errors_and_failures_that_are_made_inside(self) -> None:
        with redact_secrets([SECRET]):
            error = GenerationFailed(f"no {SECRET}", code=f"odd {SECRET}")
            failure = TaskFailure(code=f"odd {SECRET}", message=f"no {SECRET}")
        assert (error.message, error.code) == ("no ***", "odd ***")
        assert (failure.message, failure.code) == ("no ***", "odd ***")


class TestForeignText:
    def test_holds_nothing_that_utf8_a_database_or_a_terminal_does_not_take(self) -> None:
        assert foreign_text("a\ud83db\x00c\x1b[31md\x9be\tf\ng\U0001f600") == "a\ufffdbc[31mde\tf\ng\U0001f600"

    @given(st.text(st.characters()))
    def test_of_any_characters_can_be_stored(self, text: str) -> None:
        stored = foreign_text(text)
        assert "\x00" not in stored
        assert stored.encode().decode() == stored

    def test_hides_a_secret_that_is_cut_in_two_or_interrupted(self) -> None:
        with redact_secrets([SECRET]):
            shown = foreign_text("x" * (MAX_TEXT - 8) + SECRET)
            assert (shown[-9:], foreign_text(f"{SECRET[:5]}\x00{SECRET[5:]}")) == ("xxxxxx***", "***")

    def test_keeps_the_text_as_long_as_it_is(self) -> None:
        text = "a line\n" * 100
        assert foreign_text(f"{text}https://h.example/a?sig=1") == f"{text}https://h.example/a?…"


class TestForeignId:
    def test_is_short_and_without_the_token_and_otherwise_as_it_is(self) -> None:
        with redact_secrets([SECRET]):
            assert foreign_id(f"task-{SECRET}") == "task-***"
        assert foreign_id("https://h.example/tasks/1?page=2") == "https://h.example/tasks/1?page=2"
        assert len(foreign_id("t" * 60_000)) == MAX_ID


class TestForeignJson:
    def test_has_its_texts_and_names_replaced_and_is_not_deep(self) -> None:
        assert foreign_json({"a\x00": ["\ud83d", 1, None, {"b": True}]}) == {"a": ["\ufffd", 1, None, {"b": True}]}
        deep: object = "text"
        for _ in range(200):
            deep = [deep]
        assert "text" not in str(foreign_json(deep))
        assert str(foreign_json(deep)).count("[") < 100


class TestQueriesIn:
    def test_finds_those_of_addresses_with_and_without_scheme(self) -> None:
        fields = {"mask": "cdn.example/m.png?sig=0123456", "more": ["https://h.example/a.png?token=abcdef#x", 1, None]}
        assert list(queries_in(fields)) == ["sig=0123456", "token=abcdef#x"]

    def test_leaves_templates_and_sentences_alone(self) -> None:
        assert list(queries_in(["https://h.example/a?sig={{ var.value.signature }}", "either/or? that is it"])) == []


class TestAddressOf:
    def test_keeps_scheme_host_and_path(self) -> None:
        assert address_of("https://u:p@h.example:8/a/b.png?sig=1#2") == "https://h.example:8/a/b.png"
