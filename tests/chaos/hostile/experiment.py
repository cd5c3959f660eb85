"""One experiment: fair tasks alone, beside tasks of a gateway that behaves, and beside those that it attacks."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_imagegen.engine.options import GRACE
from tests.chaos.hostile import evidence
from tests.chaos.hostile.audit import Ended, Phase, misses, unclassified, unexpected
from tests.chaos.hostile.cases import CASES, TOKEN, Attack, attacks
from tests.chaos.hostile.rounds import Job, Lane
from tests.chaos.hostile.sampler import HEARTBEAT, Sampler
from tests.chaos.journal import Journal
from tests.stack.gateway import Emulator
from tests.stack.records import Connection, DagRun
from tests.stack.stack import Stack, StackOptions
from tests.stack.waiting import HANG, scaled

DAGS = Path(__file__).parent / "dags"
# What a triggerer does whose event loop stands still: it has its heartbeat left out, after 30 s by default.
SETTINGS = {"triggerer.job_heartbeat_sec": f"{HEARTBEAT:g}", "triggerer.runner_health_check_threshold": "5"}
FAIR_SECONDS = GRACE + 3
HOSTILE_SECONDS = f"0-{2 * GRACE:g}"
"""Seconds that an image takes: fair tasks defer, and so do half of those that are attacked."""
_STEP = 0.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    What to do.

    :param seed: of the attacks
    :param minutes: how long to attack
    :param cases: how many attacks instead
    :param baseline: seconds of each of the parts before
    :param width: how many attacked tasks run at a time
    """

    seed: int
    minutes: float = 10.0
    cases: int | None = None
    baseline: float = 90.0
    width: int = 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    What came of it.

    :param phases: what was measured: alone, beside others, beside attacked ones
    :param ended: the attacked tasks
    :param load: load average of the machine: before, and at most
    :param misses: figures that were missed
    :param findings: what is wrong, whatever the machine
    """

    phases: tuple[Phase, Phase, Phase]
    ended: list[Ended]
    load: tuple[float, float]
    misses: list[str]
    findings: list[str]


def run_hostile(plan: Plan, journal: Journal, logs: Path) -> Outcome:
    """
    Do it.

    :param plan: what to do
    :param journal: the log of the experiment
    :param logs: directory of all processes' and tasks' logs
    """
    images = ("--image-bytes", "40000")
    options = StackOptions(
        dag_folders=(DAGS,), latency=FAIR_SECONDS, emulator_options=images, settings=SETTINGS, frugal=True
    )
    # Its log has the token.
    gateway = Emulator(logs / "hostile" / "emulator.log", latency=HOSTILE_SECONDS, token=TOKEN, options=images)
    with Stack(logs, options) as stack:
        gateway.start()
        gateway.wait_ready()
        try:
            # An attacker has a machine of his own.
            os.setpriority(os.PRIO_PGRP, os.getpgid(gateway.process.pid), 19)
            _connect(stack, gateway)
            journal.tell(f"the stack is up; seed {plan.seed}")
            return _Experiment(plan, stack, gateway, journal).run(logs)
        finally:
            gateway.process.stop()
            gateway.close()


def _connect(stack: Stack, gateway: Emulator) -> None:
    host = gateway.gateway.host
    tasks = {"gateway": "acedatacloud", "timeout": scaled(4.0), "visibility_grace": scaled(3.0)}
    # It is silent while it generates.
    answers = {"gateway": "openai", "timeout": 2 * GRACE + scaled(4.0)}
    for connection in (
        Connection("hostile", "imagegen", host=host, password=TOKEN, extra=tasks),
        Connection("hostile_openai", "imagegen", host=f"{host}/openai-api", password=TOKEN, extra=answers),
    ):
        stack.client.create_connection(connection)
    for protocol in ("fair", "tasks", "answers", "streams"):
        stack.client.wait_for_dag(f"hostile_{protocol}")


@dataclass
class _Experiment:
    plan: Plan
    stack: Stack
    gateway: Emulator
    journal: Journal
    ended: list[Ended] = field(default_factory=list)
    load: float = 0.0
    phase: Phase = field(default_factory=lambda: Phase("warm-up"))

    def __post_init__(self) -> None:
        self._fair = Lane(self.stack, "fair", 1)
        self._others = Lane(self.stack, "other", self.plan.width)
        self._fair_jobs = self._jobs("hostile_fair")
        self._numbers = itertools.count()

    def run(self, logs: Path) -> Outcome:
        before = os.getloadavg()[0]
        alone, beside, hostile = Phase("alone"), Phase("beside others"), Phase("beside attacks")
        # The first tasks pay for imports and caches of all; the triggerer builds the whole API at the first deferral.
        self._until_empty(self._polite(6))
        with Sampler(self.stack) as sampler:
            self._during(sampler, alone, self.plan.baseline, iter(()))
            self._during(sampler, beside, self.plan.baseline, self._polite())
            seconds = self.plan.minutes * 60 if self.plan.cases is None else HANG * 6
            self._during(sampler, hostile, seconds, itertools.islice(self._attacks(), self.plan.cases))
        rows = self.gateway.ledger()["rows"]
        findings = [
            *unclassified(self.ended, evidence.KNOWN),
            *unexpected(self.ended),
            *evidence.paid_twice(rows),
            *evidence.tokens(self.stack),
            *evidence.shown_ledger(self.stack),
            *evidence.tracebacks(self.stack),
        ]
        # Only now: it shows what the gateway was told to echo.
        (logs / "ledger.json").write_text(json.dumps(rows, indent=1))
        missed = list(misses(alone, beside, hostile))
        return Outcome(
            phases=(alone, beside, hostile),
            ended=self.ended,
            load=(before, self.load),
            misses=missed,
            findings=findings,
        )

    def _during(self, sampler: Sampler, phase: Phase, seconds: float, jobs: Iterator[Job]) -> None:
        """Run jobs beside fair ones, until the time is up or there are none; then let end what has begun."""
        self.journal.tell(f"fair tasks {phase.name}")
        sampler.phase = self.phase = phase
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._step(jobs)
            if self.plan.cases is not None and len(self.ended) >= self.plan.cases:
                break
        self._until_empty(iter(()))

    def _until_empty(self, jobs: Iterator[Job]) -> None:
        self._step(jobs)
        while not self._others.is_empty:
            self._step(jobs)
        while not self._fair.is_empty:
            self._fair.step(iter(()))
            time.sleep(_STEP)

    def _step(self, jobs: Iterator[Job]) -> None:
        self._others.step(jobs)
        self._fair.step(self._fair_jobs)
        self.load = max(self.load, os.getloadavg()[0])
        time.sleep(_STEP)

    def _jobs(self, dag_id: str) -> Iterator[Job]:
        """Yield jobs of a gateway that behaves."""
        for number in itertools.count():
            yield Job(dag_id, f"{dag_id} {number}", lambda: None, self._note_fair)

    def _note_fair(self, run: DagRun) -> None:
        if run.start_date and run.end_date:
            self.phase.fair.append((run.end_date - run.start_date).total_seconds())
        if run.state != "success":
            self.journal.tell(f"{run.run_id}, a fair run, ended as {run.state}")

    def _polite(self, count: int | None = None) -> Iterator[Job]:
        """Yield jobs of the other gateway, for which nothing is armed."""
        dags = (f"hostile_{case.protocol}" for case in itertools.cycle(CASES[::5]))
        for dag_id in itertools.islice(dags, count):
            yield Job(dag_id, f"polite {next(self._numbers)}", lambda: None, lambda run: None)

    def _attacks(self) -> Iterator[Job]:
        for attack in attacks(self.plan.seed):
            yield self._attack(attack)

    def _attack(self, attack: Attack) -> Job:
        armed: list[str] = []

        def begin() -> None:
            armed.append(str(self.gateway.control("POST", "faults", dict(attack.fault))["id"]))

        def end(run: DagRun) -> None:
            self.gateway.control("DELETE", "faults", id=armed[0])
            task = evidence.ended(self.stack, attack, run)
            self.ended.append(task)
            self.journal.tell(f"{attack.prompt}: {', '.join(sorted(task.ends)) or '?'}; tries: {task.tries}")

        return Job(f"hostile_{attack.case.protocol}", attack.prompt, begin, end)
