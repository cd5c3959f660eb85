"""The Ace task protocol: submit, look up, derive the state, fetch the image."""

from __future__ import annotations

import io
import socket
import uuid
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from tests.emulator.conftest import LATENCY, PROMPT, Client


class TestSubmit:
    def test_async_returns_both_ids_immediately(self, client: Client) -> None:
        response = client.post(
            "/openai/images/generations",
            prompt=PROMPT,
            model="gpt-image-1",
            trace_id="ours",
            **{"async": True},
        ).json()
        assert uuid.UUID(response["task_id"])
        assert response["trace_id"] == "ours"
        assert "data" not in response

    @pytest.mark.parametrize(
        "path",
        [
            "/openai/images/generations",
            "/v1/images/generations",
            "/acedatacloud/openai/images/generations",
            "/acedatacloud/v1/images/generations",
        ],
    )
    def test_every_path_leads_to_the_same_ledger(self, client: Client, path: str) -> None:
        task_id = client.post(path, prompt=PROMPT, model="gpt-image-1", **{"async": True}).json()["task_id"]
        for tasks in ("/openai/tasks", "/v1/openai/tasks", "/acedatacloud/openai/tasks"):
            assert client.post(tasks, id=task_id).json()["id"] == task_id

    def test_a_synchronous_response_has_the_images_and_the_ids(self, prompt_client: Client) -> None:
        response = prompt_client.post("/openai/images/generations", prompt=PROMPT, model="gpt-image-1").json()
        assert response["data"][0]["url"].startswith(prompt_client.emulator.base_url)
        assert response["task_id"]
        assert response["trace_id"]
        assert response["created"] > 0

    def test_a_callback_url_alone_makes_it_asynchronous(self, client: Client) -> None:
        response = client.post(
            "/openai/images/generations",
            prompt=PROMPT,
            model="gpt-image-1",
            callback_url="http://127.0.0.1:9/",
        )
        assert set(response.json()) == {"success", "task_id", "trace_id"}

    def test_of_which_half_arrives_is_none(self, client: Client) -> None:
        address = urlsplit(client.emulator.base_url)
        head = f"POST /openai/images/generations HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-length: 1000\r\n"
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(f'{head}authorization: Bearer {client.emulator.token}\r\n\r\n{{"prompt"'.encode())
            connection.shutdown(socket.SHUT_WR)
            # The emulator hangs up too, or answers, when it is done with it.
            connection.recv(1000)
        totals = client.emulator.totals()
        assert (totals["submits"], totals["accepted"], totals["refused"]) == (0, 0, 0)

    def test_a_repeated_trace_id_is_not_deduplicated(self, client: Client) -> None:
        first, second = client.submit(trace_id="ours"), client.submit(trace_id="ours")
        assert first != second
        assert client.totals()["repeated_trace_ids"] == 1
        client.clock.advance(LATENCY)
        assert client.totals()["billed_images"] == 2

    @pytest.mark.parametrize(("model", "delivered"), [("dall-e-2", 3), ("gpt-image-1", 1), ("nano-banana", 1)])
    def test_n_is_honoured_by_dall_e_2_alone(self, client: Client, model: str, delivered: int) -> None:
        task_id = client.submit(model=model, n=3)
        client.clock.advance(LATENCY)
        assert len(client.look_up(id=task_id)["response"]["data"]) == delivered
        assert client.totals()["billed_images"] == delivered

    def test_nano_banana_says_created_0_and_ignores_the_format(self, client: Client) -> None:
        task_id = client.submit(model="nano-banana", output_format="webp", quality="high")
        client.clock.advance(LATENCY)
        response = client.look_up(id=task_id)["response"]
        assert response["created"] == 0
        assert ".png?" in response["data"][0]["url"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("token", "code"),
        [(None, "no_token"), ("Bearer wrong", "invalid_token"), ("Basic sesame", "no_token")],
    )
    def test_a_wrong_token_is_refused_in_the_vendors_shape(self, client: Client, token: str | None, code: str) -> None:
        headers = {"authorization": token} if token else {}
        response = httpx.post(client.emulator.url("/openai/images/generations"), json={}, headers=headers)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == code
        assert response.json()["trace_id"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"prompt": ""},
            {"prompt": ["a list"]},
            {"prompt": "x" * 32_001},
            {"prompt": "x" * 1_001, "model": "dall-e-2"},
            {"model": None},
            {"n": 0},
            {"n": 11},
            {"n": "many"},
            {"size": "17"},
            {"output_format": "bmp"},
            {"output_compression": 101},
        ],
        ids=str,
    )
    def test_bad_input_is_refused_and_not_billed(self, client: Client, wrong: dict[str, object]) -> None:
        body = {"prompt": PROMPT, "model": "gpt-image-1", "async": True, **wrong}
        response = client.http.post("/openai/images/generations", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "bad_request")
        assert (client.totals()["accepted"], client.totals()["refused"]) == (0, 1)

    @pytest.mark.parametrize("body", [b"{", b"[]", b"", b"\xff"])
    def test_a_body_that_is_no_json_object_is_refused(self, client: Client, body: bytes) -> None:
        response = client.http.post("/openai/images/generations", content=body)
        assert response.json()["error"]["code"] == "bad_request"

    def test_more_tasks_in_flight_than_allowed_are_rate_limited(self, client: Client) -> None:
        client.emulator.change(max_in_flight=2)
        client.submit()
        client.submit()
        response = client.post("/openai/images/generations", prompt=PROMPT, model="gpt-image-1", **{"async": True})
        assert (response.status_code, response.json()["error"]["code"]) == (429, "rate_limited")
        client.clock.advance(LATENCY)
        assert client.submit()
        assert client.totals()["peak_in_flight"] == 2

    def test_a_new_token_replaces_the_old_one(self, client: Client) -> None:
        task_id = client.submit()
        client.emulator.change(token="rotated")
        assert client.post("/openai/tasks", id=task_id).status_code == 401
        client.http.headers["authorization"] = "Bearer rotated"
        assert client.look_up(id=task_id)["id"] == task_id


class TestLookup:
    def test_the_record_has_the_vendors_fields_and_no_status(self, client: Client) -> None:
        record = client.look_up(id=client.submit(trace_id="ours"))
        assert {
            "id", "type", "trace_id", "request", "response", "created_at", "started_at", "finished_at", "elapsed",
        } <= set(record)  # fmt: skip
        assert "status" not in record
        assert record["request"]["prompt"] == PROMPT
        assert isinstance(record["created_at"], float)

    def test_the_state_follows_the_clock(self, client: Client) -> None:
        task_id = client.submit()
        assert client.look_up(id=task_id)["response"] is None
        client.clock.advance(LATENCY / 2)
        pending = client.look_up(id=task_id)
        assert pending["response"] == {"success": True, "task_id": task_id}
        assert pending["finished_at"] is None
        client.clock.advance(LATENCY / 2)
        finished = client.look_up(id=task_id)
        assert finished["finished_at"] == finished["created_at"] + LATENCY
        assert finished["elapsed"] == LATENCY
        assert finished["response"]["data"][0]["url"]

    @pytest.mark.parametrize("query", [{"id": "nobody"}, {"trace_id": "nobody"}, {}, {"id": 7}], ids=str)
    def test_what_is_unknown_is_an_empty_object_with_200(self, client: Client, query: dict[str, object]) -> None:
        response = client.http.post("/openai/tasks", json=query)
        assert (response.status_code, response.json()) == (200, {})

    def test_the_trace_id_wins_over_the_id(self, client: Client) -> None:
        one, other = client.submit(trace_id="one"), client.submit(trace_id="other")
        assert client.look_up(id=one, trace_id="other")["id"] == other

    def test_a_batch_pages_at_12_by_default(self, client: Client) -> None:
        ids = [client.submit() for _ in range(30)]
        first = client.look_up(action="retrieve_batch", ids=ids)
        assert (len(first["items"]), first["count"]) == (12, 30)
        rest = client.look_up(action="retrieve_batch", ids=ids, offset=12, limit=100)
        assert {record["id"] for record in first["items"] + rest["items"]} == set(ids)

    def test_a_batch_comes_in_an_order_of_its_own_without_the_absent(self, client: Client) -> None:
        ids = [client.submit() for _ in range(8)]
        found = [
            record["id"] for record in client.look_up(action="retrieve_batch", ids=[*ids, "nobody"], limit=50)["items"]
        ]
        assert sorted(found) == sorted(ids)
        assert found == sorted(ids)

    def test_a_batch_finds_by_trace_ids(self, client: Client) -> None:
        ids = {client.submit(trace_id=f"trace-{n}") for n in range(3)}
        response = client.look_up(action="retrieve_batch", trace_ids=["trace-0", "trace-1", "trace-2", "x"])
        assert {record["id"] for record in response["items"]} == ids

    def test_a_batch_can_be_bounded_in_time(self, client: Client) -> None:
        early = client.submit()
        client.clock.advance(100)
        late = client.submit()
        response = client.look_up(action="retrieve_batch", ids=[early, late], created_at_min=client.clock.now - 1)
        assert [record["id"] for record in response["items"]] == [late]

    def test_an_unknown_action_is_a_bad_request(self, client: Client) -> None:
        assert client.post("/openai/tasks", action="destroy").json()["error"]["code"] == "bad_request"

    def test_lookups_are_free_and_counted(self, client: Client) -> None:
        task_id = client.submit()
        before = client.totals()
        client.look_up(action="retrieve_batch", ids=[task_id, "x", "y"])
        client.look_up(id=task_id)
        after = client.totals()
        assert after["lookups"] - before["lookups"] == 4
        assert after["lookup_requests"] - before["lookup_requests"] == 2
        assert after["billed_images"] == 0


class TestBilling:
    def test_an_image_is_billed_when_it_is_finished(self, client: Client) -> None:
        client.submit()
        assert (client.totals()["accepted_images"], client.totals()["billed_images"]) == (1, 0)
        client.clock.advance(LATENCY)
        assert (client.totals()["accepted_images"], client.totals()["billed_images"]) == (1, 1)

    def test_a_failed_task_is_not_billed(self, client: Client) -> None:
        task_id = client.submit(prompt="a riot [[moderation]]")
        client.clock.advance(LATENCY)
        record = client.look_up(id=task_id)
        assert record["response"]["success"] is False
        assert record["response"]["error"]["code"] == "moderation_blocked"
        assert record["finished_at"]
        assert client.totals()["billed_images"] == 0

    def test_the_ledger_has_a_row_per_paid_request_and_never_the_token(self, client: Client) -> None:
        task_id = client.submit(trace_id="ours")
        client.post("/openai/images/generations", prompt="")
        ledger = client.emulator.ledger()
        accepted, refused = ledger["rows"]
        assert (accepted["task_id"], accepted["trace_id"], accepted["state"]) == (task_id, "ours", "running")
        assert (refused["state"], refused["code"], refused["billed"]) == ("refused", "bad_request", 0)
        assert "authorization" in accepted["headers"]
        assert client.emulator.token not in str(ledger)


class TestResults:
    @pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
    def test_the_image_has_the_size_and_format_that_were_asked(self, client: Client, output_format: str) -> None:
        response = httpx.get(client.finished_url(size="160x96", output_format=output_format))
        image = Image.open(io.BytesIO(response.content))
        assert image.size == (160, 96)
        assert image.format == output_format.upper()
        assert response.headers["content-type"] == f"image/{output_format}"

    def test_auto_is_a_size_of_the_emulators_choice(self, client: Client) -> None:
        image = Image.open(io.BytesIO(httpx.get(client.finished_url(size="auto")).content))
        assert image.size in {(1024, 1024), (1536, 1024), (1024, 1536)}

    def test_a_url_is_signed(self, client: Client) -> None:
        url = httpx.URL(client.finished_url())
        assert len(url.params["sig"]) == 40
        assert httpx.get(url.copy_set_param("sig", "0" * 40)).status_code == 403
        assert httpx.get(url.copy_remove_param("sig")).status_code == 403
        assert httpx.get(url.copy_set_param("se", "9999999999")).status_code == 403

    def test_a_url_expires_only_if_configured_and_a_new_lookup_renews_it(self, client: Client) -> None:
        client.emulator.change(result_ttl=60)
        task_id = client.submit()
        client.clock.advance(LATENCY)

        def url() -> str:
            return str(client.look_up(id=task_id)["response"]["data"][0]["url"])

        first = url()
        assert httpx.get(first).status_code == 200
        client.clock.advance(61)
        assert httpx.get(first).status_code == 403
        assert httpx.get(url()).status_code == 200

    def test_no_result_before_its_time_nor_of_an_unknown_task(self, client: Client) -> None:
        assert httpx.get(client.emulator.url("/results/nobody-0.png?sig=1")).status_code == 404

    @pytest.mark.parametrize("weight", [200, 1_000, 1_234_567])
    def test_a_result_can_have_a_given_size(self, client: Client, weight: int) -> None:
        client.emulator.change(image_bytes=weight)
        content = httpx.get(client.finished_url()).content
        assert len(content) == weight
        Image.open(io.BytesIO(content)).load()
        assert httpx.get(client.finished_url(prompt="other words", output_format="jpeg")).content == content


class TestEdits:
    def test_an_edit_takes_urls(self, client: Client) -> None:
        response = client.post(
            "/openai/images/edits",
            prompt=PROMPT,
            model="gpt-image-1",
            image=["https://example.com/a.png"],
            **{"async": True},
        )
        assert response.json()["task_id"]
        assert client.totals()["edits"] == 1

    def test_an_edit_takes_files_and_async_as_a_text(self, client: Client) -> None:
        buffer = io.BytesIO()
        Image.new("RGBA", (64, 64)).save(buffer, "PNG")
        files = [("image", ("a.png", buffer.getvalue())), ("image", ("b.png", buffer.getvalue()))]
        mask = [("mask", ("mask.png", buffer.getvalue()))]
        form = {"prompt": PROMPT, "model": "gpt-image-1", "async": "true", "n": "1"}
        response = client.http.post("/v1/images/edits", data=form, files=files + mask)
        assert response.json()["task_id"]

    @pytest.mark.parametrize("image", [None, [], ["https://example.com/a.png"] * 17], ids=["none", "empty", "17"])
    def test_an_edit_without_sources_is_refused(self, client: Client, image: object) -> None:
        body = {"prompt": PROMPT, "model": "gpt-image-1", "image": image}
        assert client.http.post("/openai/images/edits", json=body).json()["error"]["code"] == "bad_request"

    def test_an_upload_that_is_no_image_is_refused(self, client: Client) -> None:
        form = {"prompt": PROMPT, "model": "gpt-image-1"}
        response = client.http.post("/openai/images/edits", data=form, files=[("image", ("a.png", b"text"))])
        assert response.status_code == 400


class TestNanoBananaNatively:
    def test_count_ratio_and_image_url(self, client: Client) -> None:
        task_id = client.post(
            "/nano-banana/images",
            prompt=PROMPT,
            count=2,
            aspect_ratio="16:9",
            resolution="1K",
            **{"async": True},
        ).json()["task_id"]
        client.clock.advance(LATENCY)
        items = client.post("/nano-banana/tasks", id=task_id).json()["response"]["data"]
        assert len(items) == 2
        assert Image.open(io.BytesIO(httpx.get(items[0]["image_url"]).content)).size == (1024, 576)

    def test_its_tasks_are_found_under_its_own_path_only(self, client: Client) -> None:
        task_id = client.post("/nano-banana/images", prompt=PROMPT, **{"async": True}).json()["task_id"]
        assert client.look_up(id=task_id) == {}
        assert client.post("/nano-banana/tasks", id=task_id).json()["id"] == task_id

    @pytest.mark.parametrize(
        "wrong",
        [
            {"count": 5},
            {"action": "draw"},
            {"action": "edit"},
            {"aspect_ratio": "wide"},
            {"resolution": "8K"},
        ],
        ids=str,
    )
    def test_bad_input_is_refused(self, client: Client, wrong: dict[str, object]) -> None:
        response = client.http.post("/nano-banana/images", json={"prompt": PROMPT, **wrong})
        assert response.json()["error"]["code"] == "bad_request"
