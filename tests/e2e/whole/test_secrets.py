"""Secrets are planted in every input, all kinds of failures are produced, and then all output is searched."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_imagegen.emulator.painter import Drawing, paint
from tests.airflow_versions import AUDIT_LOG_MASKS
from tests.e2e.canaries import Canaries, Case, cases_at_once, cases_of_tasks, echoes
from tests.e2e.evidence import Find, Trace, collect, find
from tests.stack.recording_proxy import RecordingProxy, Seen
from tests.stack.rest import Connection, DagRun
from tests.stack.stack import Stack
from tests.stack.waiting import HANG, scaled, wait_until

IMAGE = paint(Drawing(prompt="A canary", size=(64, 64)))
DAG = "canaries"


@dataclass(frozen=True)
class Aftermath:
    """A run in which everything went wrong, and what is left of it."""

    canaries: Canaries
    cases: dict[str, list[Case]]
    stack: Stack
    run: DagRun
    faults: list[dict[str, Any]]
    seen: list[Seen]
    traces: list[Trace]

    def states(self, task_id: str) -> dict[str, str | None]:
        """Return the result of each case of a mapped task."""
        tasks = self.stack.client.task_instances(DAG, self.run.run_id)
        found = {task.map_index: task.state for task in tasks if task.task_id == task_id}
        return {case.name: found[number] for number, case in enumerate(self.cases[task_id])}


@pytest.fixture(scope="module")
def aftermath(stack: Stack) -> Iterator[Aftermath]:
    with RecordingProxy(IMAGE) as recorder:
        canaries = Canaries()
        callback = f"http://{recorder.address}/hooks/{canaries.callback_path}?key={canaries.callback_query}"
        words, bucket = echoes(canaries), stack.objectstore.bucket
        cases = {
            "generate": cases_of_tasks(canaries, words, callback, recorder.address, bucket),
            "generate_at_once": cases_at_once(words, bucket),
        }
        plant(stack, canaries, recorder, callback)
        try:
            arm(stack, [case for each in cases.values() for case in each])
            run = run_to_the_end(stack, cases)
            faults = [fault for fault in stack.faults() if "A canary" in fault["prompt"]]
        finally:
            stack.release()
            stack.disarm()
            stack.change(token=stack.gateway.token)
        yield Aftermath(canaries, cases, stack, run, faults, recorder.seen, collect(stack, DAG))


def plant(stack: Stack, canaries: Canaries, recorder: RecordingProxy, callback: str) -> None:
    """Put the secrets where users keep them."""
    stack.change(token=canaries.token)
    for connection in connections(stack, canaries, recorder.address):
        stack.client.create_connection(connection)
    variables = {
        "canary_callback": callback,
        "canary_link": f"https://cdn.example/style.png?sig={canaries.link_query}&v=2",
        "canary_source": f"http://{recorder.address}/source.png?sig={canaries.source_query}&v=2",
        "canary_astray": f"cdn.example/source.png?sig={canaries.source_query}&v=2",
        "canary_decoy": canaries.decoy,
    }
    for key, value in variables.items():
        stack.client.request("POST", "variables", json={"key": key, "value": value})


def connections(stack: Stack, canaries: Canaries, recorder: str) -> Iterator[Connection]:
    """Yield good and bad ones, all with secrets."""
    emulator, password = stack.gateway.host, canaries.proxy_password
    # What is accepted is seen at once, however late it is answered; what is refused is never seen.
    own = {"headers": {"X-Extra-Key": canaries.header}, "timeout": HANG, "visibility_grace": scaled(2.0)}

    def to(
        name: str, host: str, token: str = canaries.token, gateway: str = "acedatacloud", **extra: Any
    ) -> Connection:
        settings = {"gateway": gateway, **own, **extra}
        return Connection(f"canary{name}", "imagegen", host=host, password=token, extra=settings)

    yield to("", emulator)
    yield to("_silent", emulator, timeout=scaled(3.0))
    yield to("_watched", emulator, proxy=f"http://passer:{password}@{recorder}")
    yield to("_nowhere", emulator, proxy=f"http://passer:{password}@127.0.0.1:9")
    yield to("_no_address", f"user:{canaries.host_password}@gateway.example")
    yield to("_no_proxy", emulator, proxy=f"passer:{password}@127.0.0.1")
    yield to("_wrong_token", emulator, canaries.wrong_token)
    for gateway, path in {"openai": "/openai-api", "apigo": "/apigo", "nano_banana": ""}.items():
        yield to(f"_{gateway}", f"{emulator}{path}", gateway=gateway)
    store = stack.objectstore
    yield Connection(
        "canary_aws", "aws", login=store.access_key, password=canaries.aws_secret, extra=store.connection_extra
    )


def arm(stack: Stack, cases: list[Case]) -> None:
    """Make the emulator go wrong, for each case in its own way."""
    for case in cases:
        for fault in case.faults:
            stack.arm(**{"times": 1, **fault, "prompt": case.prompt})


def run_to_the_end(stack: Stack, cases: dict[str, list[Case]]) -> DagRun:
    """Run all cases, and mark the one as failed that waits for it."""
    conf = {kind: [case.arguments | {"prompt": case.prompt} for case in each] for kind, each in cases.items()}
    stack.client.wait_for_dag(DAG)
    run_id = stack.client.trigger(DAG, conf)
    killed = [case.name for case in cases["generate"]].index("killed")
    what = "a task to wait deferred"
    wait_until(lambda: state_of(stack, run_id, killed) == "deferred", what=what, interval=1.0)
    stack.client.mark(DAG, run_id, "generate", "failed", map_index=killed)
    return stack.client.wait_for_run(DAG, run_id)


def state_of(stack: Stack, run_id: str, number: int) -> str | None:
    """Return the state of a mapped task, which is there only once the list of cases is."""
    tasks = stack.client.task_instances(DAG, run_id)
    return next((task.state for task in tasks if (task.task_id, task.map_index) == ("generate", number)), None)


def is_call(request: Seen) -> bool:
    """Tell calls to the gateway from downloads and callbacks."""
    return "/openai/" in request.target


def is_airflows_own(leak: Find) -> bool:
    """The audit log shows a connection's host as entered, even with a password; older versions show all fields."""
    is_audit_log = leak.place.startswith(("table log,", "event log"))
    return is_audit_log and (leak.secret == "host_password" or not AUDIT_LOG_MASKS)


class TestRun:
    def test_fails_where_it_was_to_fail(self, aftermath: Aftermath) -> None:
        for task_id, cases in aftermath.cases.items():
            expected = {case.name: "failed" if case.fails else "success" for case in cases}
            assert aftermath.states(task_id) == expected

    def test_meets_every_fault(self, aftermath: Aftermath) -> None:
        missed = [f"{fault['prompt']} {fault['kind']}" for fault in aftermath.faults if not fault["fired"]]
        assert missed == []

    def test_carries_the_secrets_to_where_they_belong(self, aftermath: Aftermath) -> None:
        canaries, seen = aftermath.canaries, aftermath.seen
        calls = [one for one in seen if is_call(one)]
        assert all(one.headers["authorization"] == f"Bearer {canaries.token}" for one in calls)
        assert all(one.headers["x-extra-key"] == canaries.header for one in calls)
        callbacks = [one for one in seen if one.target.startswith("/hooks/")]
        assert calls
        assert callbacks
        assert all(canaries.callback_query in one.target for one in callbacks)


class TestSecrets:
    def test_are_nowhere(self, aftermath: Aftermath) -> None:
        secrets = aftermath.canaries.patterns()
        del secrets["decoy"]
        finds = [one for one in find(secrets, aftermath.traces) if not is_airflows_own(one)]
        assert not finds, "\n".join(map(str, finds))

    def test_of_the_bucket_are_nowhere(self, aftermath: Aftermath) -> None:
        secret = aftermath.stack.objectstore.secret_key
        assert not [trace.place for trace in aftermath.traces if secret in trace.text]

    def test_go_to_gateway_and_proxy_in_their_own_headers_only(self, aftermath: Aftermath) -> None:
        patterns = aftermath.canaries.patterns()
        homes = {"token": "authorization", "header": "x-extra-key", "proxy_password": "proxy-authorization"}
        for one in aftermath.seen:
            names = {name: patterns[name] for name in homes if name == "proxy_password" or is_call(one)}
            for header, value in one.headers.items():
                found = {name for name, pattern in patterns.items() if pattern.search(value)}
                assert found <= {name for name in names if homes[name] == header}, (one.target, header)

    def test_of_the_connection_are_in_no_address(self, aftermath: Aftermath) -> None:
        patterns = aftermath.canaries.patterns()
        for one in aftermath.seen:
            assert not any(patterns[name].search(one.target) for name in ("token", "header", "proxy_password"))


class TestSearch:
    """It would find what leaks: a task leaks a decoy on purpose, in every way it can."""

    @pytest.fixture
    def places(self, aftermath: Aftermath) -> Counter[str]:
        """Number of times the decoy is found, by kind of location."""
        finds = find({"decoy": aftermath.canaries.patterns()["decoy"]}, aftermath.traces)
        return Counter(one.place.partition(" ")[0] for one in finds)

    @pytest.mark.parametrize("place", ["log", "table", "task", "XCom"])
    def test_finds_a_leak(self, places: Counter[str], place: str) -> None:
        assert places[place] > 0

    def test_reads_all_there_is(self, aftermath: Aftermath) -> None:
        places = [trace.place for trace in aftermath.traces]
        for word in (
            "manifest.json",
            "_imagegen/ledger/",
            "trigger",
            "table log,",
            "event log",
            "emulator's row",
            "triggerer",
        ):
            assert any(word in place for place in places), word

    @pytest.mark.parametrize("spelling", ["plain", "quoted", "base64", "shifted", "cut", "in a signed address"])
    def test_knows_every_spelling(self, spelling: str) -> None:
        canaries = Canaries()
        token = canaries.token
        spelt = {
            "plain": token,
            "quoted": quote(token, safe=""),
            "base64": base64.b64encode(token.encode()).decode(),
            "shifted": base64.b64encode(f"user:{token}".encode()).decode(),
            "cut": f"{token[:20]}…",
            "in a signed address": json.dumps("https://cdn.example/a.png?se=1&sig=0123456789"),
        }
        assert find(canaries.patterns(), [Trace("here", f"it says {spelt[spelling]}.")])
