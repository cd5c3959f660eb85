"""Words from outside are shown short, on one line, without secrets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.redaction import address_of, redacted


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


class TestAddressOf:
    def test_keeps_scheme_host_and_path(self) -> None:
        assert address_of("https://u:p@h.example:8/a/b.png?sig=1#2") == "https://h.example:8/a/b.png"
