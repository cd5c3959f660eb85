"""Every point at which a job does something outside itself, listed once.

Code that writes, sends or puts does it inside :func:`failpoint`. Observers learn of it before and after; crash
tests kill the process there, and a new point cannot be forgotten because the list is this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Literal

Moment = Literal["before", "after"]


class Failpoint(StrEnum):
    """Effect of a job outside itself."""

    CLAIM = "claim"
    SUBMIT = "submit"
    RECORD = "record"
    PUT_IMAGE = "put_image"
    PUT_MANIFEST = "put_manifest"
    PUT_CHECKPOINT = "put_checkpoint"
    """Put into S3 how far a batch is, before it defers."""
    CANCEL = "cancel"


Observer = Callable[[Failpoint, Moment], None]

_observers: list[Observer] = []


@contextmanager
def failpoint(which: Failpoint) -> Iterator[None]:
    """Mark the block as one effect."""
    _tell(which, "before")
    yield
    # Not in a finally: a crash test kills here because the effect has happened, and one that raised may not have.
    _tell(which, "after")


def observe(observer: Observer) -> Callable[[], None]:
    """Call ``observer`` on the thread of every effect, before and after it; return a function that ends this."""
    _observers.append(observer)
    return lambda: _observers.remove(observer)


def _tell(which: Failpoint, moment: Moment) -> None:
    for observer in tuple(_observers):
        observer(which, moment)
