"""
Coverage's trace function, off while others' code is busy with itself.

On Python 3.11 a trace function slows down whatever runs under it, measured or not: ``dag.test()`` takes twice the
CPU time, nearly all of it in Airflow. What runs untraced counts as not covered, so coverage can only be too low.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_off = threading.local()


@contextmanager
def untraced() -> Iterator[None]:
    """Measure no coverage inside, but in what is :func:`traced`; a debugger's trace function stays."""
    tracing = sys.gettrace(), threading.gettrace()
    if type(tracing[0]).__module__.partition(".")[0] != "coverage":
        yield
        return
    _off.tracing = tracing
    _trace(None, None)
    try:
        yield
    finally:
        _off.tracing = None
        _trace(*tracing)


def traced(call: Callable[P, R]) -> Callable[P, R]:
    """Return a function that measures coverage also where it is off."""

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        tracing = getattr(_off, "tracing", None)
        if tracing is None or sys.gettrace() is not None:
            return call(*args, **kwargs)
        _trace(*tracing)
        try:
            return call(*args, **kwargs)
        finally:
            _trace(None, None)

    return run


def _trace(here: Any, in_new_threads: Any) -> None:
    sys.settrace(here)
    threading.settrace(in_new_threads)
