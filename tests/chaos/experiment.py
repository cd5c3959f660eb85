"""One experiment from the first kill to the audit: start the stack, kill processes, wait, and audit."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.chaos.audit import Audit, audit
from tests.chaos.dice import Target, strikes
from tests.chaos.evidence import Evidence
from tests.chaos.history import History, count_events, read_history
from tests.chaos.journal import Journal
from tests.chaos.killer import Killer
from tests.chaos.workload import DAG_ID, TASK, Workload
from tests.stack.stack import Stack, StackOptions
from tests.stack.waiting import scaled

DAGS = Path(__file__).parent / "dags"

# What makes Airflow look for the dead every few seconds; what was killed is declared dead at once.
SETTINGS = {
    "scheduler.scheduler_heartbeat_sec": "2",
    "scheduler.orphaned_tasks_check_interval": "4",
    "scheduler.task_instance_heartbeat_timeout_detection_interval": "3",
    "triggerer.job_heartbeat_sec": "2",
}
# A gateway that takes its time: it answers a paid request, and shows it to lookups, well after having accepted it,
# and its downloads are slow. Most kills that matter hit these moments.
SLOWNESS = (
    {"route": "submit", "kind": "hang", "seconds": 1.5, "times": None},
    {"route": "submit", "kind": "invisible", "by": "trace_id", "seconds": 3.0, "times": None},
    {"route": "result", "kind": "hang", "seconds": 1.0, "times": None},
)
VISIBILITY_GRACE = scaled(5.0)
GATEWAY_TIMEOUT = scaled(5.0)
_LOOK_EVERY = 2.0
_TOO_QUIET = scaled(75.0)
"""Seconds without any change after which a person would restart the scheduler; an image takes less."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    What to do.

    :param kills: how many processes to kill
    :param seed: of the dice
    :param tasks: how many task instances are in work at a time, about
    :param runs: in how many DAG runs at a time
    :param latency: seconds that an image takes
    :param pause: seconds between two kills, on average
    :param parallelism: how many tasks run at once
    :param limit: requests that the token allows at once; None for any number
    :param end_timeout: seconds to wait for the end after the last kill
    """

    kills: int
    seed: int
    tasks: int = 36
    runs: int = 3
    latency: str = "5-30"
    pause: float = 3.0
    parallelism: int = 10
    limit: int | None = None
    end_timeout: float = 1200.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    What came of it.

    :param kills: by what was killed
    :param took_along: running tasks that died with a scheduler
    :param runs: DAG runs, those that were given up too
    :param tasks: task instances that were to draw
    :param tries: tries of these
    :param cleared: tasks cleared after their last retry
    :param stalls: how often the scheduler had to be restarted because nothing moved
    :param crashes: number of processes that ended without being killed
    :param unfinished: runs that did not succeed
    :param totals: the gateway's counts
    :param history: how the tries went
    :param events: what Airflow noted about the tasks
    :param audit: what was billed and what was delivered
    :param seconds: how long it took
    """

    kills: Mapping[Target, int]
    took_along: int
    runs: int
    tasks: int
    tries: int
    cleared: int
    stalls: int
    crashes: int
    unfinished: int
    totals: Mapping[str, int]
    history: History
    events: Mapping[str, int]
    audit: Audit
    seconds: float


def run_experiment(plan: Plan, journal: Journal, logs: Path) -> Outcome:
    """
    Do it.

    :param plan: what to do
    :param journal: the log of the experiment
    :param logs: directory of all processes' and tasks' logs
    """
    limit = () if plan.limit is None else ("--max-in-flight", str(plan.limit))
    options = StackOptions(
        dag_folders=(DAGS,),
        latency=plan.latency,
        emulator_options=("--image-bytes", "40000", "--seed", str(plan.seed), *limit),
        parallelism=plan.parallelism,
        triggerers=2,
        settings=SETTINGS,
        frugal=True,
        connection_extra={"visibility_grace": VISIBILITY_GRACE, "timeout": GATEWAY_TIMEOUT},
    )
    with Stack(logs, options) as stack:
        journal.tell(f"the stack is up; seed {plan.seed}")
        _slow_down(stack.gateway.host)
        workload = Workload(stack.client, f"seed-{plan.seed}", plan.tasks // plan.runs, journal)
        workload.begin(plan.runs)
        killer = Killer(stack, strikes(plan.seed, plan.pause), journal)
        return _Experiment(plan, stack, workload, killer, journal).run(logs)


def _slow_down(gateway: str) -> None:
    for fault in SLOWNESS:
        httpx.post(f"{gateway}/_emulator/faults", json=fault).raise_for_status()


class _Experiment:
    def __init__(self, plan: Plan, stack: Stack, workload: Workload, killer: Killer, journal: Journal) -> None:
        self._plan = plan
        self._stack = stack
        self._workload = workload
        self._monkey = killer
        self._journal = journal
        self._stalls = 0
        self._looked = 0.0

    def run(self, logs: Path) -> Outcome:
        while self._monkey.total < self._plan.kills:
            self._monkey.strike_if_due()
            self._step(self._plan.runs)
        self._journal.tell(f"{self._monkey.total} kills done; waiting for the runs to finish")
        deadline = time.monotonic() + self._plan.end_timeout
        while self._workload.open_runs and time.monotonic() < deadline:
            self._step(0)
        return self._outcome(logs)

    def _step(self, wanted_runs: int) -> None:
        self._monkey.revive()
        if time.monotonic() - self._looked >= _LOOK_EVERY:
            self._workload.fill_up(wanted_runs)
            self._workload.look()
            self._looked = time.monotonic()
        if self._workload.quiet_for > _TOO_QUIET:
            self._journal.tell(f"nothing has moved for {_TOO_QUIET:.0f} s; restarting the scheduler")
            self._monkey.restart_scheduler()
            self._workload.forget_the_quiet()
            self._stalls += 1
        time.sleep(0.1)

    def _outcome(self, logs: Path) -> Outcome:
        runs = self._workload.runs
        ledger = self._stack.ledger()
        (logs / "ledger.json").write_text(json.dumps(ledger, indent=1))
        evidence = Evidence(self._stack)
        deliveries = evidence.deliveries([run.id for run in runs])
        drawn = [task for run in runs for task in run.tasks if task.task_id == TASK]
        return Outcome(
            kills=Counter(self._monkey.kills),
            took_along=self._monkey.took_along,
            runs=len(runs),
            tasks=len(drawn),
            tries=sum(task.try_number for task in drawn),
            cleared=self._workload.cleared_tasks,
            stalls=self._stalls,
            crashes=self._monkey.crashes,
            unfinished=sum(run.state != "success" for run in runs),
            totals=ledger["totals"],
            history=read_history(logs / "tasks", DAG_ID, TASK),
            events=count_events(self._stack.client, DAG_ID, logs / "scheduler.log"),
            audit=audit(ledger["rows"], deliveries, evidence.records(), evidence.has_stored),
            seconds=self._journal.elapsed,
        )
