"""Isolation of the entries of a list: one that cannot be read becomes a card that says so, and the others are shown.

Whoever may write XComs can write anything there, and whoever may trigger a DAG names its runs.
"""

from __future__ import annotations

import logging

from fastapi import HTTPException

log = logging.getLogger(__name__)


def is_refused(error: Exception) -> bool:
    """Return whether this user may not read it."""
    return isinstance(error, HTTPException) and error.status_code == 403


def reason_of(error: Exception) -> str:
    """Return in words why one entry of a list cannot be read.

    :raises HTTPException: If the reason is the user's session or permission, which concerns the whole list.
    """
    if not isinstance(error, HTTPException):
        log.warning("The gallery cannot read an entry.", exc_info=error)
        return f"See the API server's log: {type(error).__name__}."
    if error.status_code == 401 or is_refused(error):
        raise error
    return str(error.detail)
