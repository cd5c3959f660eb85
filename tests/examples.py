"""The number of examples of property-based tests: few by default, all with ``--full``."""

from __future__ import annotations

import os

VARIABLE = "IMAGEGEN_TEST_FULL"
"""Set by ``pytest --full`` for all processes of the run."""


def is_full() -> bool:
    """Return whether this is the long run."""
    return VARIABLE in os.environ


def examples(wanted: int) -> int:
    """
    Return how many examples a property test tries.

    :param wanted: in the long run
    :return: a tenth of them in the short one, and never fewer than ten
    """
    return wanted if is_full() else max(10, wanted // 10)
