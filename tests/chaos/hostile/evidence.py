"""Collect what attacked tasks left: XComs, exceptions in logs, the token wherever it is, the ledger as it is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx

from airflow_provider_imagegen import exceptions
from tests.chaos.history import read_events
from tests.chaos.hostile.audit import Ended
from tests.chaos.hostile.cases import SPELLINGS, Attack
from tests.chaos.hostile.rounds import TASK
from tests.e2e.evidence import collect, find
from tests.stack.records import DagRun
from tests.stack.stack import Stack
from tests.stack.waiting import HANG

KNOWN = {
    name for name, value in vars(exceptions).items() if isinstance(value, type) and issubclass(value, Exception)
} - {exceptions.ImageGenError.__name__}
"""Classes of exceptions that tasks may end with."""
_LETTERS_OF_A_TOKEN = 14
"""Enough to know it by where a text was cut."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def ended(stack: Stack, attack: Attack, run: DagRun) -> Ended:
    """
    Read how an attacked task ended.

    :param stack: where it ran
    :param attack: what was done to it
    :param run: its finished run
    """
    task = stack.client.task_instance(run.dag_id, run.run_id, TASK)
    returned, failure = (_xcom(stack, run, key) for key in ("return_value", "failure"))
    failures = [missing for value in (returned, failure) for missing in value.get("failures", [])]
    return Ended(
        row=attack.case.row,
        case=attack.case.name,
        prompt=attack.prompt,
        expected=attack.case.ends,
        state=task.state or "",
        tries=task.try_number,
        landed=len(returned.get("images") or failure.get("images", [])),
        failures=[(missing["kind"], missing["billed"]) for missing in failures],
        exceptions=sorted(set(_exceptions(stack, run))),
    )


def _xcom(stack: Stack, run: DagRun, key: str) -> dict[str, Any]:
    try:
        return dict(stack.client.xcom(run.dag_id, run.run_id, TASK, key=key))
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return {}
        raise


def _exceptions(stack: Stack, run: DagRun) -> Iterator[str]:
    """Yield the class of every exception in the logs of all tries, those of the triggerer too; not of its causes."""
    for log in (stack.logs / "tasks").glob(f"dag_id={run.dag_id}/run_id={run.run_id}/task_id={TASK}/attempt=*"):
        for event in read_events(log):
            yield from (str(detail.get("exc_type")) for detail in (event.get("error_detail") or [])[:1])


def tokens(stack: Stack) -> list[str]:
    """
    Search everything that the stack left for the token, also where a text was cut.

    :param stack: a running one
    """
    beginnings = {spelling: re.compile(re.escape(spelling[:_LETTERS_OF_A_TOKEN])) for spelling in SPELLINGS}
    return [str(found) for found in find(beginnings, collect(stack, "~"))]


def tracebacks(stack: Stack) -> list[str]:
    """
    Return the lines of the triggerer's log that begin a traceback.

    :param stack: a running one
    """
    text = (stack.logs / "triggerer-1.log").read_text(errors="replace")
    return [line[:300] for line in text.splitlines() if "Traceback (most recent call last)" in line]


def shown_ledger(stack: Stack) -> list[str]:
    """
    Have the command line list the ledger; return what is wrong with what it shows.

    :param stack: a running one
    """
    command = [sys.executable, "-m", "airflow", "imagegen", "ledger", "list", "--bucket", stack.objectstore.bucket]
    done = subprocess.run(
        command,
        env={**stack.airflow.environment(), "COLUMNS": "300"},
        cwd=os.environ.get("TMPDIR", "/tmp"),
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=HANG,
    )
    controls = sorted(set(_CONTROLS.findall(done.stdout)))
    return [
        *([f"the ledger cannot be listed: {done.stderr[-1000:]}"] if done.returncode else []),
        *([f"the list of the ledger holds {controls}"] if controls else []),
    ]


def paid_twice(rows: list[dict[str, Any]]) -> list[str]:
    """
    Return the prompts that were billed more than once.

    :param rows: the attacking gateway's ledger
    """
    due: dict[str, int] = {}
    for row in rows:
        if row["task_id"] is not None:
            due[row["prompt"]] = due.get(row["prompt"], 0) + row["due"]
    return [f"{prompt!r} was billed {count} images" for prompt, count in due.items() if count > 1]
