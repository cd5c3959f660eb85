"""Kill random processes of a running stack, and restart those that do not restart themselves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.chaos.dice import WORKERS, Strike, Target
from tests.chaos.journal import Journal
from tests.stack.stack import Stack
from tests.stack.workers import running_tasks

_MAX_DELAY = 15.0
"""Seconds to wait for a task to kill; while the scheduler is coming back there is none."""
_BEGUN = "Validated:"
"""The log line of a try before its claim: a try that is killed earlier has no open request."""


class Killer:
    """
    Strikes when it is called at the right moment.

    :param stack: whose processes to kill
    :param strikes: what to kill, and when
    :param journal: where it tells
    """

    def __init__(self, stack: Stack, strikes: Iterator[Strike], journal: Journal) -> None:
        self.kills: Counter[Target] = Counter()
        self.took_along = 0
        """Number of running tasks that died with a scheduler."""
        self.crashes = 0
        """Number of processes that ended without being killed."""
        self._stack = stack
        self._strikes = strikes
        self._journal = journal
        self._revivals: list[tuple[float, Callable[[], object]]] = []
        self._scheduler_is_down = False
        self._take_aim()

    @property
    def total(self) -> int:
        """Number of kills."""
        return self.kills.total()

    def strike_if_due(self) -> None:
        """Kill what is next, if it is time and there is one."""
        late = time.monotonic() - self._due
        if late < 0:
            return
        if self._hit(self._next):
            self.kills[self._next.target] += 1
            self._take_aim()
        elif self._next.target not in WORKERS or late > _MAX_DELAY:
            self._take_aim()

    def revive(self) -> None:
        """Start again what has been down for long enough, and what has ended by itself."""
        now = time.monotonic()
        due = [revive for at, revive in self._revivals if at <= now]
        self._revivals = [(at, revive) for at, revive in self._revivals if at > now]
        for revive in due:
            revive()
        self._replace_the_crashed()

    def restart_scheduler(self) -> None:
        """Kill the scheduler and start it again, which is no strike but what a person does when nothing moves."""
        if not self._scheduler_is_down:
            self._stack.kill_scheduler()
            self._start_scheduler()

    def _replace_the_crashed(self) -> None:
        airflow = self._stack.airflow
        if not airflow.scheduler.is_alive and not self._scheduler_is_down:
            self._note_crash("scheduler")
            self._start_scheduler()
        for triggerer in [triggerer for triggerer in airflow.triggerers if not triggerer.is_alive]:
            self._note_crash("triggerer")
            airflow.triggerers.remove(triggerer)
            airflow.launch_triggerer()

    def _note_crash(self, what: str) -> None:
        self._journal.tell(f"a {what} ended without being killed; restarting it")
        self.crashes += 1

    def _take_aim(self) -> None:
        self._next = next(self._strikes)
        self._due = time.monotonic() + self._next.pause

    def _hit(self, strike: Strike) -> bool:
        match strike.target:
            case Target.SCHEDULER:
                return self._hit_scheduler(strike)
            case Target.TRIGGERER:
                return self._hit_triggerer(strike)
            case _:
                return self._hit_worker(strike)

    def _hit_scheduler(self, strike: Strike) -> bool:
        scheduler = self._stack.airflow.scheduler
        if not scheduler.is_alive:
            return False
        victims = running_tasks(scheduler.pid)
        self._stack.kill_scheduler()
        self._scheduler_is_down = True
        self.took_along += len(victims)
        self._tell(f"scheduler, and {len(victims)} running tasks with it", strike.downtime)
        self._revive_later(strike.downtime, self._start_scheduler)
        return True

    def _hit_triggerer(self, strike: Strike) -> bool:
        triggerers = self._stack.airflow.triggerers
        if not triggerers:
            return False
        self._stack.kill_triggerer(int(strike.aim * len(triggerers)))
        self._tell(f"triggerer, {len(triggerers)} left", strike.downtime)
        self._revive_later(strike.downtime, self._stack.airflow.launch_triggerer)
        return True

    def _hit_worker(self, strike: Strike) -> bool:
        scheduler = self._stack.airflow.scheduler
        running = running_tasks(scheduler.pid) if scheduler.is_alive else []
        victims = [task for task in running if task.has_said(_BEGUN)]
        if not victims:
            return False
        victim = victims[int(strike.aim * len(victims))]
        kills = {
            Target.TASK: victim.kill_process,
            Target.SUPERVISOR: victim.kill_supervisor,
            Target.WORKER: victim.kill,
        }
        is_hit = kills[strike.target]()
        if is_hit and strike.target is not Target.TASK:
            self._stack.declare_task_dead(victim.id)
        if is_hit:
            self._tell(f"{strike.target} of {victim.id}, one of {len(victims)}")
        return is_hit

    def _start_scheduler(self) -> None:
        self._stack.airflow.scheduler.start()
        self._scheduler_is_down = False

    def _revive_later(self, delay: float, revive: Callable[[], object]) -> None:
        self._revivals.append((time.monotonic() + delay, revive))

    def _tell(self, what: str, downtime: float | None = None) -> None:
        back = "" if downtime is None else f"; back in {downtime:.1f} s"
        self._journal.tell(f"kill {self.total + 1}: {what}{back}")
