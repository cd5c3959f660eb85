"""How long tasks usually take, learned from those that finished: no lookup is of use before the quickest does."""

from __future__ import annotations

from collections import deque

KEPT = 100
"""Tasks of one model that are remembered: the quickest of so many is missed by one in a hundred."""
NEEDED = 10
"""Tasks to have seen before anything is concluded."""
MODELS = 256


class UsualTimes:
    """The time within which no task of a model is known to have finished, lately."""

    def __init__(self) -> None:
        self._times: dict[str | None, deque[float]] = {}

    def learn(self, model: str | None, seconds: float) -> None:
        """Remember how long a task was still running.

        :param model: What generated it, if known.
        :param seconds: From the submit to the last moment at which it was seen running.
        """
        if model not in self._times and len(self._times) >= MODELS:
            del self._times[next(iter(self._times))]
        self._times.setdefault(model, deque(maxlen=KEPT)).append(seconds)

    def shortest(self, model: str | None) -> float:
        """Return the seconds after the submit before which looking is of no use; 0 while too little is known."""
        times = self._times.get(model, ())
        return min(times) if len(times) >= NEEDED else 0.0


def time_running(*, submitted: float, held_back: bool, last_running: float | None, now: float) -> float | None:
    """Return what a finished task teaches about how long such tasks run at least; ``None`` if nothing.

    One that was done at the first look finished nobody knows when. If that look was held back because of what
    had been learned, what had been learned was wrong: half of it is taken for true.

    :param submitted: When it was submitted.
    :param held_back: Whether the first look was held back.
    :param last_running: When it was last seen running.
    :param now: When it was seen done.
    """
    if last_running is not None:
        return max(0.0, last_running - submitted)
    return (now - submitted) / 2 if held_back else None
