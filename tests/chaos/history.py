"""The history of every try from the task logs, with the point at which killed ones died."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack.rest import AirflowClient

_NOTHING = "before it said anything"
# What a try says, and how far it then is; the last of these that it has logged counts.
_STAGES = {
    "::group::Pre Execute": "starting",
    "Validated:": "claiming or sending",
    "never reached the gateway": "sending what an earlier try had not",
    "Submitted image": "waiting on the worker",
    "already submitted by": "waiting on the worker",
    "Found what was sent": "waiting on the worker",
    "Deferred:": "waiting in the triggerer",
    "Finished after": "landing",
    "Stopped waiting after": "landing",
    "Pushing xcom": "delivering",
}
# What a try says when it goes on from what an earlier one left.
_HELP = {
    "Found what was sent": "found by trace id what an earlier try had sent",
    "never reached the gateway": "sent what an earlier try had only claimed",
    "already submitted by": "attached to what an earlier try had submitted",
    "already paid for and landed": "handed out what an earlier try had landed",
    "is at work; looking at what it did": "met another try at work",
}
_RESETS = re.compile(r"Reset the following (\d+) orphaned TaskInstances")
_BY_US = frozenset({"patch_dag", "trigger_dag_run", "post_clear_task_instances"})


@dataclass(frozen=True)
class History:
    """
    How the tries went.

    :param died: of the tries that another one followed, how many had come how far
    :param helped: how often a try went on from what an earlier one left, by how
    :param errors: what was logged as an error, by its words
    """

    died: Mapping[str, int]
    helped: Mapping[str, int]
    errors: Mapping[str, int]


def read_history(task_logs: Path, dag_id: str, task_id: str) -> History:
    """
    Read the logs of all tries of a task.

    :param task_logs: Airflow's base log folder
    :param dag_id: the DAG
    :param task_id: the task
    """
    died: Counter[str] = Counter()
    helped: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for directory in task_logs.glob(f"dag_id={dag_id}/run_id=*/task_id={task_id}/map_index=*"):
        # The triggerer's parts lie beside them as attempt=1.log.trigger.5.log.
        attempts = sorted((log for log in directory.glob("attempt=*.log") if log.name.count(".") == 1), key=_number)
        for attempt in attempts:
            events = list(read_events(attempt))
            sayings = [str(event.get("event", "")) for event in events]
            if attempt != attempts[-1]:
                died[_stage(sayings)] += 1
            helped.update(_help(sayings))
            errors.update(_error(event) for event in events if event.get("level") in {"error", "critical"})
    return History(died, helped, errors)


def count_events(client: AirflowClient, dag_id: str, scheduler_log: Path) -> Mapping[str, int]:
    """
    Count what Airflow itself has noted about the tasks of a DAG, by its words.

    :param client: of the Airflow
    :param dag_id: the DAG
    :param scheduler_log: where alone it tells of orphans
    """
    noted: list[str] = []
    while page := client.request("GET", "eventLogs", dag_id=dag_id, limit=100, offset=len(noted))["event_logs"]:
        noted += [event["event"] for event in page]
    resets = _RESETS.findall(scheduler_log.read_text(errors="replace"))
    return {
        "orphans of a dead scheduler reset": sum(int(count) for count in resets),
        **Counter(event for event in noted if event not in _BY_US),
    }


def _number(attempt: Path) -> int:
    return int(attempt.stem.removeprefix("attempt="))


def read_events(log: Path) -> Iterator[Mapping[str, Any]]:
    """
    Yield what a log of one try has.

    :param log: the file, of the worker's or a triggerer's part
    """
    for line in log.read_text(errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # killed in the middle of a line
        if isinstance(event, dict):
            yield event


def _stage(sayings: Sequence[str]) -> str:
    stages = [stage for text in sayings for words, stage in _STAGES.items() if words in text]
    return stages[-1] if stages else _NOTHING


def _help(sayings: Sequence[str]) -> set[str]:
    return {way for words, way in _HELP.items() if any(words in text for text in sayings)}


def _error(event: Mapping[str, Any]) -> str:
    details = event.get("error_detail") or [{}]
    cause = f": {details[0].get('exc_type')}: {str(details[0].get('exc_value'))[:100]}" if details[0] else ""
    return f"{str(event.get('event', ''))[:80]}{cause}"
