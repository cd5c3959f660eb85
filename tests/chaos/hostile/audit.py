"""Compare what was measured and found with what is promised: decisions only, the experiment collects the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from statistics import median

LATE_HEARTBEAT = 5.0
DELAY = 5.0
MORE_MEMORY = 100.0
BILLED = frozenset({"yes", "no", "unknown"})
DEFECT = "ImageGenError"
"""Kind of an error that none of the provider's classes foresees."""


@dataclass(frozen=True)
class Ended:
    """
    One attacked task that has ended.

    :param row: of the table of attacks
    :param case: the attack
    :param prompt: of the task
    :param expected: kinds of errors it may end with, or ``landed``; any if empty
    :param state: Airflow's
    :param tries: number of tries
    :param landed: images that it says are in S3
    :param failures: kind and ``billed`` of every failure that it says
    :param exceptions: classes of the exceptions in its logs
    """

    row: str
    case: str
    prompt: str
    expected: Set[str]
    state: str
    tries: int
    landed: int
    failures: Sequence[tuple[str, str]]
    exceptions: Sequence[str]

    @property
    def ends(self) -> set[str]:
        """Kinds of its errors, and ``landed`` if there is an image."""
        return {*(kind for kind, _ in self.failures), *(["landed"] if self.landed else [])}


@dataclass
class Phase:
    """
    What was measured in one part of the experiment.

    :param name: of the part
    :param fair: seconds that each fair task took
    :param heartbeat: most seconds that a heartbeat of the triggerer was late
    :param blocked: most seconds that the triggerer's event loop stood still
    :param triggerer: most MiB that the triggerer's processes took
    :param worker: most MiB that the process of a task took
    :param samples: number of measurements
    """

    name: str
    fair: list[float] = field(default_factory=list)
    heartbeat: float = 0.0
    blocked: float = 0.0
    triggerer: float = 0.0
    worker: float = 0.0
    samples: int = 0

    @property
    def longest(self) -> float:
        """Seconds of the longest fair task."""
        return max(self.fair, default=0.0)

    @property
    def usual(self) -> float:
        """Seconds of a fair task, as half of them have."""
        return median(self.fair) if self.fair else 0.0


def unclassified(ended: Sequence[Ended], known: Set[str]) -> Iterator[str]:
    """
    Yield what ended in a way that nobody decides about.

    :param ended: attacked tasks
    :param known: classes of exceptions that a log may show
    """
    for task in ended:
        strangers = sorted(set(task.exceptions) - known)
        kinds = sorted({kind for kind, billed in task.failures if kind == DEFECT or billed not in BILLED})
        if strangers:
            yield f"{task.prompt}: {', '.join(strangers)} in its log"
        if kinds:
            yield f"{task.prompt}: failed with {', '.join(kinds)}"
        if not task.ends:
            yield f"{task.prompt}: {task.state}, and says neither what landed nor why it failed"


def unexpected(ended: Sequence[Ended]) -> Iterator[str]:
    """Yield what ended in another way than its attack may end."""
    for task in ended:
        if task.expected and not task.ends <= task.expected:
            yield f"{task.prompt}: ended as {', '.join(sorted(task.ends))}, not {', '.join(sorted(task.expected))}"


def misses(alone: Phase, beside: Phase, hostile: Phase) -> Iterator[str]:
    """
    Yield the figures that were missed.

    :param alone: fair tasks without any others
    :param beside: fair tasks beside as many others as are attacked, whose gateway behaves
    :param hostile: fair tasks beside those that are attacked
    """
    if hostile.heartbeat > LATE_HEARTBEAT:
        yield f"a heartbeat of the triggerer was {hostile.heartbeat:.1f} s late"
    if hostile.blocked > LATE_HEARTBEAT:
        yield f"the triggerer's event loop stood still for {hostile.blocked:.1f} s"
    delay = hostile.longest - max(alone.longest, beside.longest)
    if delay >= DELAY:
        yield f"a fair task was delayed by {delay:.1f} s"
    for name in ("triggerer", "worker"):
        more = getattr(hostile, name) - max(getattr(alone, name), getattr(beside, name))
        if more > MORE_MEMORY:
            yield f"a {name} took {more:.0f} MiB more"
