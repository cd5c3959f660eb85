"""Close the resources that a simulated crash leaves open, so that no later test fails because of them."""

from __future__ import annotations

import gc
import warnings
from functools import cache


def close_leftovers() -> None:
    """Collect the sockets and loops of a try that died; a real process would take them with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _freeze_what_is_imported()
        gc.collect()


@cache
def _freeze_what_is_imported() -> None:
    """Exempt all that is loaded from later collections: Airflow's modules alone take 0.1 s each time."""
    gc.collect()
    gc.freeze()
