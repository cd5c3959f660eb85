"""The emulator as a program: command line, control routes, callbacks, load."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.emulator import DialectName, EmulatorSettings, Latency, RunningEmulator
from airflow_provider_imagegen.emulator.__main__ import main, read_settings
from tests.emulator.conftest import LATENCY, PROMPT, Client
from tests.stack.waiting import HANG

MODULE = "airflow_provider_imagegen.emulator"


class TestCommandLine:
    def test_it_says_where_it_is_ready_and_stops_when_interrupted(self) -> None:
        command = [sys.executable, "-m", MODULE, "--port", "0", "--token", "sesame", "--latency", "1-8"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("emulator ready at http://127.0.0.1:")
            assert "(token: sesame)" in line
            address = line.split()[3]
            assert httpx.get(f"{address}/_emulator/health").json() == {"status": "ok"}
            process.send_signal(signal.SIGINT)
            assert process.wait(HANG) in (0, -signal.SIGINT, 130)

    def test_a_taken_port_is_one_clear_line(self, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--port", str(client.emulator.port)]) == 1
        assert capsys.readouterr().err.startswith(f"cannot listen on 127.0.0.1:{client.emulator.port}: ")

    def test_the_flags_become_settings(self) -> None:
        settings = read_settings(["--latency", "5", "--jitter", "0.2", "--dialect", "apigo", "--max-in-flight", "5"])
        assert settings.latency == Latency(4, 6)
        assert (settings.dialect, settings.max_in_flight) == (DialectName.APIGO, 5)

    def test_further_tokens_are_accepted_too(self) -> None:
        settings = read_settings(["--token", "sesame", "--token", "tahini"])
        assert (settings.token, settings.more_tokens) == ("sesame", ("tahini",))
        assert read_settings([]).token == EmulatorSettings().token

    @pytest.mark.parametrize(
        "latency", ["soon", "8-1", "nan", "-5", "lognormal:", "lognormal:0,1", "lognormal:5,-1", "lognormal:nan,1"]
    )
    def test_a_latency_that_makes_no_sense_is_refused(self, latency: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            read_settings([f"--latency={latency}"])
        assert "--latency" in capsys.readouterr().err


class TestLatency:
    def test_a_range_is_sampled_evenly_and_repeatably(self) -> None:
        latency = Latency.parse("1-8")
        drawn = [latency.draw(random.Random(seed)) for seed in range(200)]
        assert min(drawn) >= 1
        assert max(drawn) <= 8
        assert max(drawn) - min(drawn) > 5
        assert drawn == [latency.draw(random.Random(seed)) for seed in range(200)]

    def test_a_lognormal_one_has_its_median_and_a_long_tail(self) -> None:
        latency = Latency.parse("lognormal:10,0.5")
        dice = random.Random(0)
        drawn = sorted(latency.draw(dice) for _ in range(2_000))
        assert drawn[1_000] == pytest.approx(10, rel=0.1)
        assert drawn[0] > 0
        assert drawn[-1] - 10 > 2 * (10 - drawn[0])

    def test_a_lognormal_one_can_be_set_while_it_runs(self, client: Client) -> None:
        client.emulator.change(latency="lognormal:4,0")
        client.submit()
        (task,) = client.emulator.studio.books.tasks.values()
        assert task.ready_at - task.created_at == pytest.approx(4)

    def test_the_tokens_do_not_show(self) -> None:
        assert "sesame" not in repr(EmulatorSettings(token="sesame", more_tokens=("open sesame",)))


class TestTokens:
    def test_each_has_tasks_in_flight_of_its_own(self) -> None:
        settings = EmulatorSettings(token="sesame", more_tokens=("tahini",), max_in_flight=2)
        with RunningEmulator(settings) as emulator, httpx.Client(base_url=emulator.base_url) as http:
            emulator.hold()

            def submit(token: str) -> int:
                body = {"prompt": PROMPT, "model": "gpt-image-1", "async": True}
                headers = {"authorization": f"Bearer {token}"}
                return http.post("/openai/images/generations", json=body, headers=headers).status_code

            assert [submit("sesame") for _ in range(3)] == [200, 200, 429]
            assert [submit("tahini") for _ in range(3)] == [200, 200, 429]
            assert submit("poppy") == 401
            assert emulator.totals()["in_flight"] == 4
            first = next(iter(emulator.studio.books.tasks))
            http.post(f"/_emulator/tasks/{first}/cancel")
            assert [submit("tahini"), submit("sesame")] == [429, 200]


class TestControl:
    def test_a_reset_forgets_everything_and_goes_back_to_the_start(self, client: Client) -> None:
        client.emulator.change(token="rotated", max_in_flight=1, image_bytes=500)
        client.emulator.arm("submit", "drop", times=None)
        client.emulator.reset()
        assert client.submit()
        assert client.submit()
        assert client.totals()["submits"] == 2

    @pytest.mark.parametrize(
        "wrong",
        [{"latency": "soon"}, {"image_bytes": 3}, {"max_in_flight": 0}, {"tokne": "x"}, {"token": ""}],
        ids=str,
    )
    def test_a_change_that_makes_no_sense_is_refused(self, client: Client, wrong: dict[str, Any]) -> None:
        assert client.http.post("/_emulator/settings", json=wrong).status_code == 422

    def test_the_totals_come_without_the_rows_on_request(self, client: Client) -> None:
        client.submit()
        assert client.http.get("/_emulator/ledger?rows=false").json()["rows"] == []


class TestCallbacks:
    @pytest.fixture
    def inbox(self) -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
        received: Queue[dict[str, Any]] = Queue()

        class Inbox(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        server = HTTPServer(("127.0.0.1", 0), Inbox)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", received
        server.shutdown()
        thread.join()
        server.server_close()

    def test_a_result_is_pushed_one_level_deeper_than_the_record(
        self, prompt_client: Client, inbox: tuple[str, Queue[dict[str, Any]]]
    ) -> None:
        url, received = inbox
        task_id = prompt_client.submit(callback_url=url)
        pushed = received.get(timeout=HANG)
        assert (pushed["success"], pushed["task_id"]) == (True, task_id)
        assert pushed["data"]["data"][0]["url"]
        assert prompt_client.look_up(id=task_id)["response"]["data"][0]["url"]

    def test_a_failure_is_pushed_with_its_code(
        self, prompt_client: Client, inbox: tuple[str, Queue[dict[str, Any]]]
    ) -> None:
        url, received = inbox
        prompt_client.submit(callback_url=url, prompt="[[moderation]]")
        pushed = received.get(timeout=HANG)
        assert pushed["success"] is False
        assert pushed["error"]["code"] == "moderation_blocked"


class TestPreviews:
    def test_some_tasks_show_one_and_always_the_same(self) -> None:
        prompts = [f"prompt {n}" for n in range(40)]

        def shown() -> list[bool]:
            with RunningEmulator(EmulatorSettings(preview_share=0.5, latency=Latency(9, 9))) as emulator:
                books = emulator.studio.books
                headers = {"authorization": f"Bearer {emulator.token}"}
                with httpx.Client(base_url=emulator.base_url, headers=headers) as http:
                    for prompt in prompts:
                        body = {"prompt": prompt, "model": "gpt-image-1", "async": True}
                        http.post("/openai/images/generations", json=body)
                return [task.preview for task in books.tasks.values()]

        first = shown()
        assert 5 < sum(first) < 35
        assert shown() == first


class TestLoad:
    def test_many_waiting_tasks_are_looked_up_in_pages(self, client: Client) -> None:
        ids = [client.submit(prompt=f"{PROMPT} {n}") for n in range(500)]
        found: set[str] = set()
        for start in range(0, len(ids), 100):
            response = client.look_up(action="retrieve_batch", ids=ids[start : start + 100], limit=100)
            found |= {record["id"] for record in response["items"]}
        assert found == set(ids)
        client.clock.advance(LATENCY)
        assert client.totals()["billed_images"] == 500
