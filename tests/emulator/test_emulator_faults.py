"""Every fault affects the matching requests only, and bills what a real gateway would bill."""

from __future__ import annotations

import io
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from airflow_provider_imagegen.emulator.hostile import ODD_TEXT
from tests.emulator.conftest import LATENCY, PROMPT, Client
from tests.stack.waiting import HANG, wait_until

SILENCE = httpx.Timeout(HANG, read=0.2)
SUBMIT = {"prompt": PROMPT, "model": "gpt-image-1", "size": "64x64", "async": True}
PATH = "/openai/images/generations"


def submit(client: Client) -> httpx.Response:
    return client.http.post(PATH, json=SUBMIT)


class TestSchedule:
    def test_a_fault_strikes_once_by_default(self, client: Client) -> None:
        client.emulator.arm("submit", "refuse", code="api_error")
        assert [submit(client).status_code for _ in range(3)] == [500, 200, 200]

    def test_a_fault_waits_and_repeats_as_configured(self, client: Client) -> None:
        client.emulator.arm("submit", "refuse", after=1, times=2)
        assert [submit(client).status_code for _ in range(4)] == [200, 500, 500, 200]

    def test_faults_of_one_kind_take_their_turns(self, client: Client) -> None:
        client.emulator.arm("submit", "refuse", code="rate_limited")
        client.emulator.arm("submit", "refuse", code="timeout")
        assert [submit(client).status_code for _ in range(3)] == [429, 504, 200]

    def test_a_fault_strikes_only_the_prompt_it_was_meant_for(self, client: Client) -> None:
        client.emulator.arm("submit", "refuse", prompt="teapot", times=None)
        assert submit(client).status_code == 200
        assert client.post(PATH, prompt="a red teapot", model="gpt-image-1").status_code == 500

    def test_a_fault_strikes_only_the_task_it_was_meant_for(self, client: Client) -> None:
        one, other = client.submit(), client.submit()
        client.emulator.arm("lookup", "error", task_id=other, status=503, times=None)
        assert client.post("/openai/tasks", id=one).status_code == 200
        assert client.post("/openai/tasks", id=other).status_code == 503
        assert client.post("/openai/tasks", action="retrieve_batch", ids=[one, other]).status_code == 503

    def test_faults_can_be_seen_and_removed(self, client: Client) -> None:
        fault_id = client.emulator.arm("submit", "drop", times=None)
        submit_unanswered(client)
        [row] = client.http.get("/_emulator/faults").json()["faults"]
        assert (row["id"], row["kind"], row["fired"]) == (fault_id, "drop", 1)
        assert client.http.delete(f"/_emulator/faults?id={fault_id}").json() == {"removed": 1}
        assert submit(client).status_code == 200

    @pytest.mark.parametrize(
        "wrong",
        [
            {"route": "lookup", "kind": "fewer"},
            {"route": "submit", "kind": "bomb"},
            {"route": "result", "kind": "redirect"},
            {"route": "result", "kind": "hollow"},
            {"route": "submit", "kind": "unheard of"},
            {"route": "submit", "kind": "drop", "tmies": 3},
        ],
        ids=str,
    )
    def test_a_fault_that_cannot_happen_is_refused(self, client: Client, wrong: dict[str, str]) -> None:
        assert client.http.post("/_emulator/faults", json=wrong).status_code == 422


def submit_unanswered(client: Client) -> None:
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        submit(client)


class TestLostResponses:
    def test_a_dropped_submit_was_accepted_and_can_be_found_by_trace_id(self, client: Client) -> None:
        client.emulator.arm("submit", "drop")
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            client.http.post(PATH, json={**SUBMIT, "trace_id": "ours"})
        assert client.look_up(trace_id="ours")["trace_id"] == "ours"
        client.clock.advance(LATENCY)
        assert client.totals()["billed_images"] == 1

    def test_a_reset_connection_is_a_read_error(self, client: Client) -> None:
        client.emulator.arm("submit", "reset")
        with pytest.raises(httpx.ReadError):
            submit(client)
        assert client.totals()["accepted"] == 1

    @pytest.mark.parametrize("kind", ["drop", "reset", "hang"])
    def test_a_submit_can_be_lost_before_it_was_accepted(self, client: Client, kind: str) -> None:
        client.emulator.arm("submit", kind, accept=False)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout)):
            client.http.post(PATH, json=SUBMIT, timeout=SILENCE)
        wait_until(lambda: client.totals()["submits"], what="the submit")
        assert client.totals()["accepted"] == 0

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_an_accepted_submit_can_return_an_error(self, client: Client, status: int) -> None:
        client.emulator.arm("submit", "error", status=status)
        response = submit(client)
        assert (response.status_code, response.json()["error"]["code"]) == (status, "api_error")
        assert (client.totals()["accepted"], client.totals()["refused"]) == (1, 0)

    def test_a_refused_submit_is_not_accepted(self, client: Client) -> None:
        client.emulator.arm("submit", "refuse", code="api_error")
        assert submit(client).status_code == 500
        assert (client.totals()["accepted"], client.totals()["refused"]) == (0, 1)

    def test_a_hanging_submit_was_accepted(self, client: Client) -> None:
        client.emulator.arm("submit", "hang")
        with pytest.raises(httpx.ReadTimeout):
            client.http.post(PATH, json=SUBMIT, timeout=SILENCE)
        wait_until(lambda: client.totals()["accepted"] == 1, what="the submit")

    def test_a_short_hang_ends_with_the_response(self, client: Client) -> None:
        client.emulator.arm("lookup", "hang", seconds=0.05)
        assert client.post("/openai/tasks", id="nobody").json() == {}

    def test_the_server_survives_all_of_it(self, client: Client) -> None:
        for kind in ("drop", "reset"):
            client.emulator.arm("submit", kind, times=5)
            for _ in range(5):
                submit_unanswered(client)
        assert submit(client).status_code == 200


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("bad_request", 400),
            ("no_token", 401),
            ("token_mismatched", 400),
            ("invalid_token", 401),
            ("token_expired", 401),
            ("authentication_failed", 401),
            ("api_not_implemented", 400),
            ("no_api", 404),
            ("disabled", 403),
            ("forbidden", 403),
            ("used_up", 403),
            ("request_too_large", 413),
            ("too_many_requests", 429),
            ("rate_limited", 429),
            ("api_error", 500),
            ("timeout", 504),
        ],
    )
    def test_every_code_of_the_table_can_be_had(self, client: Client, code: str, status: int) -> None:
        client.emulator.arm("submit", "refuse", code=code)
        response = submit(client)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert "retry-after" not in response.headers

    @pytest.mark.parametrize(
        ("retry_after", "header"), [(2, "2"), (0.5, "0.5"), ("Wed, 21 Oct 2026 07:28:00 GMT",) * 2], ids=str
    )
    def test_a_429_can_say_when_to_come_back(self, client: Client, retry_after: object, header: str) -> None:
        client.emulator.arm("submit", "refuse", code="rate_limited", retry_after=retry_after)
        assert submit(client).headers["retry-after"] == header


class TestGarbage:
    @pytest.mark.parametrize("route", ["submit", "lookup"])
    @pytest.mark.parametrize("kind", ["html", "truncated", "empty"])
    def test_a_response_can_be_invalid_json(self, client: Client, route: str, kind: str) -> None:
        client.emulator.arm(route, kind)
        response = submit(client) if route == "submit" else client.post("/openai/tasks", id=client.submit())
        assert response.status_code == 200
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            response.json()

    def test_an_accepted_submit_can_return_neither_id_nor_image(self, client: Client) -> None:
        client.emulator.arm("submit", "hollow")
        assert submit(client).json() == {"success": True}
        assert client.totals()["accepted"] == 1

    def test_a_response_can_have_the_right_keys_and_the_wrong_types(self, client: Client) -> None:
        client.emulator.arm("submit", "wrong_types")
        assert submit(client).json() == {
            "success": ["1", 2],
            "task_id": {"value": 7},
            "trace_id": {"value": 7},
        }

    def test_a_record_can_hold_text_that_utf8_cannot(self, client: Client) -> None:
        task_id = client.submit()
        client.clock.advance(LATENCY)
        client.emulator.arm("lookup", "odd_text")
        odd, usual = client.look_up(id=task_id), client.look_up(id=task_id)
        (shown,) = odd["response"]["data"]
        assert shown.pop("revised_prompt") == ODD_TEXT
        assert odd.keys() == usual.keys()


class TestOutcomes:
    def test_a_new_task_can_stay_invisible_by_id_and_by_trace_id(self, client: Client) -> None:
        client.emulator.arm("submit", "invisible", seconds=3, by="id")
        client.emulator.arm("submit", "invisible", seconds=6, by="trace_id")
        task_id = client.submit(trace_id="ours")
        assert (client.look_up(id=task_id), client.look_up(trace_id="ours")) == ({}, {})
        client.clock.advance(3)
        assert client.look_up(id=task_id)["id"] == task_id
        assert client.look_up(trace_id="ours") == {}
        client.clock.advance(3)
        assert client.look_up(trace_id="ours")["id"] == task_id

    def test_a_task_can_stay_invisible_forever_and_is_still_billed(self, client: Client) -> None:
        client.emulator.arm("submit", "invisible")
        task_id = client.submit()
        client.clock.advance(LATENCY * 1000)
        assert client.look_up(id=task_id) == {}
        assert client.look_up(action="retrieve_batch", ids=[task_id]) == {"items": [], "count": 0}
        assert client.totals()["billed_images"] == 1

    def test_a_pending_record_can_show_a_preview(self, client: Client) -> None:
        client.emulator.arm("submit", "preview")
        task_id = client.submit()
        client.clock.advance(LATENCY * 0.6)
        pending = client.look_up(id=task_id)
        assert pending["finished_at"] is None
        preview = httpx.get(pending["response"]["data"][0]["url"])
        assert Image.open(io.BytesIO(preview.content)).format == "PNG"
        client.clock.advance(LATENCY)
        finished = client.look_up(id=task_id)
        assert finished["response"]["data"][0]["url"] != pending["response"]["data"][0]["url"]

    def test_a_pending_record_can_complain_and_succeed_nevertheless(self, client: Client) -> None:
        client.emulator.arm("submit", "hiccup")
        task_id = client.submit()
        client.clock.advance(LATENCY / 2)
        assert client.look_up(id=task_id)["response"]["error"] == "temporary"
        client.clock.advance(LATENCY)
        assert client.look_up(id=task_id)["response"]["success"] is True

    @pytest.mark.parametrize(("kind", "code"), [("fail", "api_error"), ("moderation", "moderation_blocked")])
    def test_a_task_can_fail_unbilled(self, client: Client, kind: str, code: str) -> None:
        client.emulator.arm("submit", kind)
        task_id = client.submit()
        client.clock.advance(LATENCY)
        assert client.look_up(id=task_id)["response"]["error"]["code"] == code
        assert (client.totals()["failed"], client.totals()["billed_images"]) == (1, 0)

    def test_a_task_can_fail_with_any_code(self, client: Client) -> None:
        client.emulator.arm("submit", "fail", code="timeout", message="upstream timed out")
        task_id = client.submit()
        client.clock.advance(LATENCY)
        error = client.look_up(id=task_id)["response"]["error"]
        assert error == {"code": "timeout", "message": "upstream timed out"}

    @pytest.mark.parametrize("images", [0, 1])
    def test_fewer_images_than_asked_are_delivered_and_billed(self, client: Client, images: int) -> None:
        client.emulator.arm("submit", "fewer", images=images)
        task_id = client.submit(model="dall-e-2", n=3)
        client.clock.advance(LATENCY)
        record = client.look_up(id=task_id)
        assert record["finished_at"]
        assert len(record["response"]["data"]) == images
        assert client.totals()["billed_images"] == images

    def test_the_pixels_can_differ_from_what_was_asked(self, client: Client) -> None:
        client.emulator.arm("submit", "other_size")
        url = client.finished_url(size="1024x1024")
        assert Image.open(io.BytesIO(httpx.get(url).content)).size == (1254, 1254)

    def test_a_task_can_take_longer(self, client: Client) -> None:
        client.emulator.arm("submit", "slow", seconds=60)
        task_id = client.submit()
        client.clock.advance(LATENCY)
        assert client.look_up(id=task_id)["finished_at"] is None
        client.clock.advance(60)
        assert client.look_up(id=task_id)["finished_at"]

    def test_an_old_record_has_a_duration_and_no_finished_at(self, client: Client) -> None:
        client.emulator.arm("submit", "old_style")
        client.emulator.arm("submit", "preview")
        task_id = client.submit()
        client.clock.advance(LATENCY * 0.6)
        assert "data" not in (client.look_up(id=task_id)["response"] or {})
        client.clock.advance(LATENCY)
        record = client.look_up(id=task_id)
        assert "finished_at" not in record
        assert record["duration"] == LATENCY
        assert record["response"]["data"]


class TestDownloads:
    @pytest.fixture
    def url(self, client: Client) -> str:
        return client.finished_url(size="256x256")

    @pytest.mark.parametrize("status", [403, 404, 410, 500])
    def test_a_download_can_be_refused(self, client: Client, url: str, status: int) -> None:
        client.emulator.arm("result", "refuse", status=status)
        assert httpx.get(url).status_code == status
        assert httpx.get(url).status_code == 200

    def test_a_url_can_be_expired_until_looked_up_afresh(self, client: Client) -> None:
        task_id = client.submit()
        client.clock.advance(LATENCY)
        client.emulator.arm("result", "expire", status=410)
        stale = client.look_up(id=task_id)["response"]["data"][0]["url"]
        assert [httpx.get(stale).status_code for _ in range(2)] == [410, 403]
        fresh = client.look_up(id=task_id)["response"]["data"][0]["url"]
        assert httpx.get(fresh).status_code == 200
        assert httpx.get(stale).status_code == 403

    def test_a_body_can_be_cut_off(self, client: Client, url: str) -> None:
        client.emulator.arm("result", "cut")
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            httpx.get(url)
        assert Image.open(io.BytesIO(httpx.get(url).content)).size == (256, 256)

    def test_a_body_can_stall_half_way(self, client: Client, url: str) -> None:
        client.emulator.arm("result", "stall")
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(url, timeout=SILENCE)
        assert httpx.get(url).status_code == 200

    def test_the_content_type_can_lie(self, client: Client, url: str) -> None:
        client.emulator.arm("result", "wrong_content_type", content_type="text/html")
        response = httpx.get(url)
        assert response.headers["content-type"].startswith("text/html")
        assert response.content.startswith(b"\x89PNG")

    def test_an_error_page_can_have_the_content_type_of_an_image(self, client: Client, url: str) -> None:
        client.emulator.arm("result", "html")
        response = httpx.get(url)
        assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
        assert response.text.startswith("<!DOCTYPE html>")

    def test_a_body_can_be_without_end(self, client: Client, url: str) -> None:
        client.emulator.arm("result", "endless")
        received = 0
        with httpx.stream("GET", url) as response:
            assert "content-length" not in response.headers
            for block in response.iter_bytes():
                received += len(block)
                if received > 5_000_000:
                    break
        assert submit(client).status_code == 200

    def test_an_image_can_be_a_bomb(self, client: Client, url: str) -> None:
        client.emulator.arm("result", "bomb")
        assert len(httpx.get(url).content) < 10_000

    def test_a_download_can_be_redirected(self, client: Client, url: str) -> None:
        client.emulator.arm("result", "redirect", location="http://169.254.169.254/latest/meta-data/")
        response = httpx.get(url)
        assert response.status_code == 302
        assert response.headers["location"] == "http://169.254.169.254/latest/meta-data/"

    def test_a_download_can_be_dropped(self, client: Client, url: str) -> None:
        client.emulator.arm("result", "drop")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(url)


class TestHold:
    def test_keeps_a_task_unfinished_until_it_is_released(self, client: Client) -> None:
        client.emulator.hold()
        held = client.submit()
        client.clock.advance(1_000_000)
        assert (client.look_up(id=held)["finished_at"], client.emulator.totals()["in_flight"]) == (None, 1)
        assert client.emulator.release() == 1
        assert client.look_up(id=held)["finished_at"] == client.clock()
        assert client.emulator.totals()["in_flight"] == 0

    def test_is_over_for_later_tasks_too_once_released(self, client: Client) -> None:
        client.emulator.hold()
        client.emulator.release()
        later = client.submit()
        client.clock.advance(LATENCY)
        assert client.look_up(id=later)["finished_at"] is not None

    def test_is_released_prompt_by_prompt(self, client: Client) -> None:
        for prompt in ("red", "blue"):
            client.emulator.hold(prompt=prompt)
        for prompt in ("a red kite", "a blue kite"):
            assert client.post(PATH, prompt=prompt, model="gpt-image-1", **{"async": True}).status_code == 200
        assert client.emulator.release("red") == 1
        states = {row["prompt"]: (row["state"], row["billed"]) for row in client.emulator.ledger()["rows"]}
        assert states == {"a red kite": ("succeeded", 1), "a blue kite": ("running", 0)}

    def test_holds_back_a_response_with_the_image(self, client: Client) -> None:
        client.emulator.hold()
        with ThreadPoolExecutor(1) as threads:
            response = threads.submit(client.post, PATH, prompt="a kite", model="gpt-image-1")
            wait_until(lambda: client.emulator.totals()["in_flight"], what="the submit")
            assert not response.done()
            client.emulator.release()
            assert response.result().status_code == 200

    def test_ends_when_the_task_is_cancelled(self, client: Client) -> None:
        client.emulator.hold()
        held = client.submit()
        assert client.http.post(f"/_emulator/tasks/{held}/cancel").json() == {"cancelled": True}
        assert (client.emulator.release(), client.emulator.totals()["failed"]) == (0, 1)


class TestIdle:
    def test_is_reached_when_every_request_of_a_client_that_left_was_handled(self, client: Client) -> None:
        client.http.close()
        client.emulator.hold()
        with socket.create_connection(("127.0.0.1", client.emulator.port)) as leaving:
            body = b'{"prompt": "a kite", "model": "gpt-image-1", "async": true}'
            head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {client.emulator.token}\r\n"
            leaving.sendall(
                f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
            )
            assert b"200 OK" in leaving.recv(65536)
        client.emulator.wait_until_idle()
        assert client.emulator.totals()["accepted"] == 1
