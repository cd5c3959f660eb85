"""Select the next process to kill and the time, determined by the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Target(StrEnum):
    """A kind of process that can be killed."""

    TASK = "task process"
    """Its supervisor lives and reports the death."""
    SUPERVISOR = "task supervisor"
    """The task process survives as a zombie; no heartbeat is sent."""
    WORKER = "supervisor and task process"
    TRIGGERER = "triggerer"
    SCHEDULER = "scheduler"
    """With all its workers and their tasks."""


WORKERS = frozenset({Target.TASK, Target.SUPERVISOR, Target.WORKER})

_WEIGHTS = {Target.TASK: 30, Target.SUPERVISOR: 15, Target.WORKER: 15, Target.TRIGGERER: 25, Target.SCHEDULER: 15}


@dataclass(frozen=True)
class Strike:
    """
    One kill that is to come.

    :param target: what to kill
    :param pause: seconds after the previous one
    :param aim: which of those there are, from 0 up to 1
    :param downtime: seconds until what was killed is started again, where the harness has to
    """

    target: Target
    pause: float
    aim: float
    downtime: float


def strikes(seed: int, mean_pause: float) -> Iterator[Strike]:
    """
    Roll the dice for ever.

    :param seed: the same one gives the same strikes
    :param mean_pause: seconds between two of them, on average
    """
    dice = random.Random(seed)
    while True:
        yield Strike(
            target=dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0],
            pause=dice.uniform(0.0, 2 * mean_pause),
            aim=dice.random(),
            downtime=dice.uniform(0.0, 5.0),
        )
