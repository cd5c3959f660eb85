"""Errors are distinguished by the gateway's code first and the HTTP status second."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen import exceptions
from airflow_provider_imagegen.gateways.responses import (
    MAX_OUTPUTS,
    error_of,
    read_document,
    read_outputs,
    read_success,
    retry_after,
)
from airflow_provider_imagegen.redaction import MAX_ID, redact_secrets

TOKEN = "sesame-token"


def error(status: int, body: object, phase: str = "submit") -> exceptions.GatewayError:
    return error_of(httpx.Response(status, json=body), "acedatacloud", phase, TOKEN)


class TestErrorOfASubmit:
    @pytest.mark.parametrize(
        ("status", "code", "kind", "billed"),
        [
            (400, "bad_request", exceptions.RequestRefused, "no"),
            (400, "invalid_token", exceptions.AuthenticationError, "no"),
            (401, "token_mismatched", exceptions.AuthenticationError, "no"),
            (403, "used_up", exceptions.OutOfBalance, "no"),
            (403, "forbidden", exceptions.RequestRefused, "no"),
            (403, "insufficient_user_quota", exceptions.OutOfBalance, "no"),
            (403, "pre_consume_token_quota_failed", exceptions.OutOfBalance, "no"),
            (403, "unsupported_country_region_territory", exceptions.RequestRefused, "no"),
            (429, "rate_limited", exceptions.RateLimited, "no"),
            (200, "too_many_requests", exceptions.RateLimited, "no"),
            (400, "moderation_blocked", exceptions.ModerationBlocked, "no"),
            (400, "content_filter", exceptions.ModerationBlocked, "no"),
            (400, "contentFilter", exceptions.ModerationBlocked, "no"),
            (400, "ResponsibleAIPolicyViolation", exceptions.ModerationBlocked, "no"),
            (413, "request_too_large", exceptions.RequestRefused, "no"),
            (500, "api_error", exceptions.OutcomeUnknown, "unknown"),
            (400, "api_error", exceptions.OutcomeUnknown, "unknown"),
            (504, "timeout", exceptions.OutcomeUnknown, "unknown"),
            (418, "never_heard_of", exceptions.RequestRefused, "no"),
            (200, "never_heard_of", exceptions.OutcomeUnknown, "unknown"),
            (502, "never_heard_of", exceptions.OutcomeUnknown, "unknown"),
        ],
    )
    def test_code_decides_before_status(self, status: int, code: str, kind: type, billed: str) -> None:
        fault = error(status, {"error": {"code": code, "message": "m"}, "trace_id": "tr"})
        assert type(fault) is kind
        assert (fault.billed, fault.code, fault.trace_id) == (billed, code, "tr")

    @pytest.mark.parametrize(
        "body", [{"error": "words"}, {"error": None, "detail": "words"}, {"error": {"message": "words"}}]
    )
    def test_every_shape_of_error_is_read(self, body: object) -> None:
        assert "words" in str(error(400, body))

    def test_html_is_quoted_short_and_without_secrets(self) -> None:
        page = "<html>" + f"Bearer {TOKEN} https://x.example/a?sig=SECRET " * 50
        fault = error_of(httpx.Response(502, text=page), "acedatacloud", "submit", TOKEN)
        assert TOKEN not in str(fault)
        assert "SECRET" not in str(fault)
        assert len(fault.message) < 300

    def test_text_says_what_happened_whether_it_was_billed_and_what_to_do(self) -> None:
        text = str(error(500, {"error": {"code": "api_error", "message": "boom"}}))
        assert "boom" in text
        assert "billed: unknown" in text
        assert "on_unknown='resubmit'" in text


class TestContentFilterOfAzure:
    @pytest.mark.parametrize("name", ["innererror", "inner_error"])
    @pytest.mark.parametrize("code", [None, "BadRequest", "400"])
    def test_is_found_inside_of_any_error(self, name: str, code: str | None) -> None:
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_results": {"hate": {"filtered": True}}}
        fault = error(400, {"error": {"code": code, "message": "filtered", name: inner}})
        assert (type(fault), fault.code) == (exceptions.ModerationBlocked, "ResponsibleAIPolicyViolation")

    def test_is_not_seen_in_the_details_of_another_error(self) -> None:
        fault = error(400, {"error": {"code": "bad_request", "message": "m", "innererror": {"code": "too_long"}}})
        assert (type(fault), fault.code) == (exceptions.RequestRefused, "bad_request")


class TestForbidden:
    @pytest.mark.parametrize(
        "body",
        [
            {"error": {"message": "Your organization must be verified to use this model.", "code": None}},
            {"error": {"message": "unsupported region", "type": "request_forbidden"}},
            {"message": "Forbidden"},
        ],
    )
    def test_is_no_word_about_the_token(self, body: dict[str, Any]) -> None:
        fault = error(403, body)
        assert (type(fault), fault.billed) == (exceptions.RequestRefused, "no")
        assert (body.get("error") or body)["message"] in fault.message
        assert "A 403 can be about the token, the account, the region" in fault.advice

    def test_by_a_firewalls_page_quotes_it(self) -> None:
        fault = error_of(httpx.Response(403, text="<h1>Blocked by WAF</h1>"), "openai", "submit", TOKEN)
        assert type(fault) is exceptions.RequestRefused
        assert "Blocked by WAF" in fault.message

    def test_while_polling_may_be_a_token_that_was_rotated(self) -> None:
        fault = error(403, {}, "look_up")
        assert type(fault) is exceptions.AuthenticationError
        assert "A 403 can be about the token, the account, the region" in fault.advice


class TestErrorOfALookup:
    @pytest.mark.parametrize("status", [400, 404, 408, 500, 502, 503])
    def test_faults_can_be_retried(self, status: int) -> None:
        assert type(error(status, {}, "look_up")) is exceptions.LookUpFailed

    def test_a_refused_token_cannot(self) -> None:
        assert isinstance(error(401, {}, "look_up"), exceptions.AuthenticationError)


class TestForeignWords:
    """What a gateway says is short, without the token, and can be stored, wherever it stands."""

    IMAGE: ClassVar[dict[str, object]] = {
        "data": [{"url": "https://h.example/0.png", "revised_prompt": "a \ud83d kite\x00"}]
    }

    def test_of_an_error_hold_neither_the_token_nor_half_a_character(self) -> None:
        echo = f"{TOKEN} \ud83d\x00 " + "a" * 60_000
        body = {"error": {"code": echo, "message": echo}, "trace_id": echo}
        response = httpx.Response(400, text=json.dumps(body), headers={"x-request-id": f"{TOKEN}-{'a' * 60_000}"})
        with redact_secrets([TOKEN]):
            fault = error_of(response, "acedatacloud", "submit", TOKEN)
        text = str(fault)
        assert TOKEN not in text
        assert "\x00" not in text
        assert len(text.encode()) < 1000 + 2 * MAX_ID

    def test_of_a_task_hold_neither_the_token_nor_half_a_character(self) -> None:
        body = {"task_id": f"{TOKEN}-\ud83d", "trace_id": TOKEN, "size": "\ud83d" * 60_000} | self.IMAGE
        with redact_secrets([TOKEN]):
            task = read_success(read_document(httpx.Response(200, text=json.dumps(body))) or {})
        assert task is not None
        assert (task.task_id, task.trace_id) == ("***-\ufffd", "***")
        assert task.outputs[0].revised_prompt == "a \ufffd kite"
        assert len(task.reported["size"]) <= 200
        assert TOKEN not in task.model_dump_json()

    @pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\xbd", b"\x01", b"line\nbreak"])
    def test_that_are_no_proper_json_lose_no_image(self, text: bytes) -> None:
        body = b'{"data": [{"url": "https://h.example/0.png", "revised_prompt": "' + text + b'"}]}'
        task = read_success(read_document(httpx.Response(200, content=body)) or {})
        assert task is not None
        assert task.model_dump_json()

    def test_in_usage_may_be_nested_deep(self) -> None:
        usage: object = 1
        for _ in range(300):
            usage = {"deeper": usage}
        body = self.IMAGE | {"usage": {"total_tokens": 7, "details": usage}}
        task = read_success(read_document(httpx.Response(200, text=json.dumps(body))) or {})
        assert task is not None
        assert task.usage is not None
        assert task.usage["total_tokens"] == 7
        assert task.model_dump_json()


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"retry-after": "3"}, 3.0),
            ({"retry-after-ms": "1500", "retry-after": "3"}, 1.5),
            ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
            ({"retry-after": "soon"}, None),
            ({"retry-after": "-1"}, None),
            ({"retry-after": "1e400"}, None),
            ({"retry-after": "9" * 401}, None),
            ({"retry-after": "Wed, 21 Oct 2015 07:28:00 +9999999999999999999"}, None),
            ({"retry-after-ms": "nan", "retry-after": "3"}, 3.0),
            ({}, None),
        ],
    )
    def test_is_read_in_all_its_forms(self, headers: dict[str, str], seconds: float | None) -> None:
        assert retry_after(httpx.Headers(headers)) == seconds

    @given(st.text(st.characters(codec="ascii", exclude_categories=["C"])))
    def test_any_header_is_seconds_or_nothing(self, value: str) -> None:
        seconds = retry_after(httpx.Headers({"retry-after": value}))
        assert seconds is None or seconds >= 0

    @pytest.mark.parametrize(
        ("body", "seconds"),
        [
            ({"detail": "slow down", "retry_after": 7}, 7.0),
            ({"error": {"code": "rate_limited", "message": "m", "retry_after": "7"}}, 7.0),
            ({"error": "slow down", "retry_after": -1}, None),
            ({"error": "slow down", "retry_after": "soon"}, None),
        ],
    )
    def test_may_stand_in_the_body(self, body: object, seconds: float | None) -> None:
        fault = error(429, body)
        assert isinstance(fault, exceptions.RateLimited)
        assert fault.retry_after == seconds

    @pytest.mark.parametrize(
        ("code", "headers", "kind"),
        [
            ("overloaded", {"retry-after": "5"}, exceptions.RateLimited),
            ("overloaded", {}, exceptions.OutcomeUnknown),
            ("api_error", {"retry-after": "5"}, exceptions.OutcomeUnknown),
        ],
    )
    def test_makes_a_503_a_refusal_for_now(self, code: str, headers: dict[str, str], kind: type) -> None:
        response = httpx.Response(503, json={"error": {"code": code, "message": "m"}}, headers=headers)
        assert type(error_of(response, "openai", "submit", TOKEN)) is kind

    @pytest.mark.parametrize(
        "body", ["<title>503 Backend fetch failed</title>", "first byte timeout", "", '{"status": 503, "title": "t"}']
    )
    def test_on_the_503_of_a_proxy_proves_no_refusal(self, body: str) -> None:
        response = httpx.Response(503, text=body, headers={"retry-after": "5"})
        assert type(error_of(response, "openai", "submit", TOKEN)) is exceptions.OutcomeUnknown


class TestNumbersOfAResponse:
    @pytest.mark.parametrize(
        ("created", "seconds"),
        [
            ("1589478378", 1589478378.0),
            ("0", None),
            ("9" * 401, None),
            ("9" * 5000, None),
            ("1e400", None),
            ("NaN", None),
            ("true", 1.0),
            ("[]", None),
            ("null", None),
        ],
    )
    def test_are_finite_or_left_out(self, created: str, seconds: float | None) -> None:
        document = read_document(httpx.Response(200, text=f'{{"data": [{{"url": "u"}}], "created": {created}}}'))
        # Python reads no integer of more than 4300 digits: then the whole body is none of JSON.
        task = read_success(document) if document else None
        assert (task.created if task else None) == seconds

    @pytest.mark.parametrize("count", ["9" * 4000, "1e400", "-1e400", "NaN", "1e13"])
    def test_of_tokens_are_left_out_where_they_are_absurd(self, count: str) -> None:
        document = json.loads(f'{{"data": [{{"url": "u"}}], "usage": {{"total_tokens": {count}, "input_tokens": 7}}}}')
        task = read_success(document)
        assert task is not None
        assert task.usage == {"input_tokens": 7}

    def test_of_images_is_bounded(self) -> None:
        assert len(read_outputs([{}, *[{"url": "u"}] * 2000])) == MAX_OUTPUTS


class TestErrorTree:
    def test_permanent_errors_stop_airflows_retries(self) -> None:
        from airflow.providers.common.compat.sdk import AirflowFailException

        permanent = {
            name
            for name, kind in vars(exceptions).items()
            if isinstance(kind, type)
            and issubclass(kind, exceptions.ImageGenError)
            and issubclass(kind, AirflowFailException)
        }
        drawn = {
            line.split(" *")[0].strip("│├└─ ")
            for line in (exceptions.__doc__ or "").splitlines()
            if " *" in line and "── " in line
        }
        assert permanent - {"PermanentError"} == drawn

    def test_every_class_is_drawn(self) -> None:
        raised = {
            name
            for name, kind in vars(exceptions).items()
            if isinstance(kind, type) and issubclass(kind, exceptions.ImageGenError)
        }
        assert all(name in (exceptions.__doc__ or "") for name in raised - {"PermanentError"})
