"""The books: every task that was accepted, every request that was refused, and what is billed for them.

A task's state is never stored: it follows from the clock, so ten thousand waiting tasks cost nothing.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_imagegen.emulator.painter import Drawing

Clock = Callable[[], float]

REFUSALS_KEPT = 10_000


@dataclass(frozen=True)
class Failure:
    """Why a task ends without an image."""

    code: str
    message: str


@dataclass(slots=True)
class Task:
    """One accepted request. Times are unix seconds.

    :param request: the submit body as it is echoed in the task record
    :param drawings: what will be delivered, and billed
    :param failure: what the task ends with instead; never billed
    :param preview: whether its pending record shows a preview
    :param hiccup: whether its pending record complains of a passing trouble
    :param visible_at: when lookups by task id begin to find it
    :param traceable_at: when lookups by trace id begin to find it
    :param payer: number of the token it was submitted with, in order of the settings
    :param old_style: its record has no ``finished_at``
    :param link_version: rises when the result URLs handed out so far have been declared stale
    """

    id: str
    trace_id: str
    dialect: str
    route: str
    model: str
    prompt: str
    request: dict[str, Any]
    drawings: tuple[Drawing, ...]
    failure: Failure | None
    created_at: float
    ready_at: float
    preview: bool = False
    hiccup: bool = False
    visible_at: float = 0.0
    traceable_at: float = 0.0
    old_style: bool = False
    link_version: int = 0
    stale_version: int = 0
    payer: int = 0
    downloads: int = 0
    headers: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Say whether it stays unfinished until it is released."""
        return self.ready_at == math.inf

    def finished(self, now: float) -> bool:
        """Say whether its time has passed."""
        return now >= self.ready_at

    def state(self, now: float) -> str:
        """Return ``running``, ``succeeded`` or ``failed``."""
        if not self.finished(now):
            return "running"
        return "failed" if self.failure or not self.drawings else "succeeded"

    def due(self) -> int:
        """Return how many images this task bills once it is finished."""
        return 0 if self.failure else len(self.drawings)

    def billed(self, now: float) -> int:
        """Return how many images are billed by now."""
        return self.due() if self.finished(now) else 0


@dataclass(frozen=True)
class RefusedRequest:
    """A request that was turned away, unbilled."""

    route: str
    code: str
    status: int
    at: float
    trace_id: str | None = None
    headers: tuple[str, ...] = ()


@dataclass
class Books:
    """All tasks and counts of one emulator.

    :param clock: unix seconds; tests hand in their own
    """

    clock: Clock
    counts: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, Task] = field(default_factory=dict)
    _traces: dict[str, list[str]] = field(default_factory=dict)
    _refusals: deque[RefusedRequest] = field(default_factory=lambda: deque(maxlen=REFUSALS_KEPT))
    _deadlines: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    _peak_in_flight: int = 0

    def accept(self, task: Task) -> None:
        """Enter a task; from now on it will be billed when it is finished."""
        self.tasks[task.id] = task
        self._traces.setdefault(task.trace_id, []).append(task.id)
        heapq.heappush(self._deadlines[task.payer], task.ready_at)
        self._peak_in_flight = max(self._peak_in_flight, self.in_flight())

    def cancel(self, task_id: str) -> bool:
        """End a running task unbilled; return whether it was running."""
        task = self.by_id(task_id)
        if task is None or task.finished(self.clock()):
            return False
        deadlines = self._deadlines[task.payer]
        deadlines.remove(task.ready_at)
        heapq.heapify(deadlines)
        task.failure, task.ready_at = Failure("cancelled", "cancelled on request"), self.clock()
        return True

    def release(self, prompt: str) -> int:
        """Finish the held tasks whose prompt contains this; return how many there were."""
        now = self.clock()
        held = [task for task in self.tasks.values() if task.held and prompt in task.prompt]
        for task in held:
            deadlines = self._deadlines[task.payer]
            deadlines.remove(task.ready_at)
            heapq.heapify(deadlines)
            task.ready_at = now
        return len(held)

    def refuse(self, refusal: RefusedRequest) -> None:
        """Enter a request that was turned away."""
        self._refusals.append(refusal)
        self.counts["refused"] += 1

    def in_flight(self) -> int:
        """Return how many accepted tasks are not finished yet."""
        return sum(map(self.in_flight_of, list(self._deadlines)))

    def in_flight_of(self, payer: int) -> int:
        """Return how many accepted tasks of one token are not finished yet."""
        now, deadlines = self.clock(), self._deadlines[payer]
        while deadlines and deadlines[0] <= now:
            heapq.heappop(deadlines)
        return len(deadlines)

    def by_id(self, task_id: str) -> Task | None:
        """Return the task if lookups by its id see it yet."""
        task = self.tasks.get(task_id)
        return task if task and self.clock() >= task.visible_at else None

    def by_trace(self, trace_id: str) -> list[Task]:
        """Return the tasks submitted with a trace id that lookups by it see yet, newest first."""
        now = self.clock()
        found = (self.tasks[task_id] for task_id in reversed(self._traces.get(trace_id, ())))
        return [task for task in found if now >= task.traceable_at]

    def page(self, ids: Iterable[str], traces: Iterable[str]) -> list[Task]:
        """Return the visible tasks among these, in the store's own order: by id, not as asked."""
        found = {task.id: task for task_id in ids if (task := self.by_id(task_id))}
        for trace_id in traces:
            found.update((task.id, task) for task in self.by_trace(trace_id))
        return [found[task_id] for task_id in sorted(found)]

    def totals(self) -> dict[str, int]:
        """Return the sums over everything since the start or the last reset."""
        now = self.clock()
        tasks = self.tasks.values()
        states = Counter(task.state(now) for task in tasks)
        names = (
            "submits",
            "edits",
            "refused",
            "lookups",
            "lookup_requests",
            "downloads",
            "callbacks",
            "faults",
        )
        return {
            **{name: self.counts[name] for name in names},
            "accepted": len(self.tasks),
            "accepted_images": sum(task.due() for task in tasks),
            "billed_images": sum(task.billed(now) for task in tasks),
            **{state: states[state] for state in ("running", "succeeded", "failed")},
            "repeated_trace_ids": sum(len(ids) - 1 for ids in self._traces.values()),
            "in_flight": self.in_flight(),
            "peak_in_flight": self._peak_in_flight,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per paid request, accepted ones first, each group in order of arrival."""
        now = self.clock()
        accepted = [_task_row(task, now) for task in self.tasks.values()]
        return accepted + [_refusal_row(refusal) for refusal in self._refusals]


def _task_row(task: Task, now: float) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "trace_id": task.trace_id,
        "dialect": task.dialect,
        "route": task.route,
        "model": task.model,
        "prompt": task.prompt,
        "state": task.state(now),
        "billed": task.billed(now),
        "due": task.due(),
        "code": task.failure.code if task.failure else None,
        "created_at": task.created_at,
        "ready_at": None if task.held else task.ready_at,
        "downloads": task.downloads,
        "headers": list(task.headers),
    }


def _refusal_row(refusal: RefusedRequest) -> dict[str, Any]:
    return {
        "task_id": None,
        "trace_id": refusal.trace_id,
        "route": refusal.route,
        "state": "refused",
        "billed": 0,
        "due": 0,
        "code": refusal.code,
        "status": refusal.status,
        "created_at": refusal.at,
        "headers": list(refusal.headers),
    }
