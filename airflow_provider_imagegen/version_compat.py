"""Differences between the supported Airflow releases, in one place.

They import it from here as if every release had it. Raising the lowest Airflow in pyproject.toml empties this module.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

# From common-compat too, but only since its 1.22, which is younger than Airflow 3.2.
from airflow.sdk.log import mask_secret

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["determine_kwargs", "get_async_extra_dejson", "mask_secret"]


def determine_kwargs(
    function: Callable[..., Any], args: Collection[Any], context: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return what of a task's context a function takes by name, without its positional arguments."""
    try:
        from airflow.sdk.bases.decorator import determine_kwargs as determine
    except ImportError:  # Airflow 3.1
        from airflow.utils.operator_helpers import (  # type: ignore[attr-defined,no-redef,unused-ignore]
            determine_kwargs as determine,
        )
    kwargs: Mapping[str, Any] = determine(function, args, context)
    return kwargs


async def get_async_extra_dejson(connection: Connection) -> dict[str, Any]:
    """Return a connection's extra as a dict, on an event loop."""
    # Reading it masks its secrets by a call to the supervisor, which on a loop has dead-locked before Airflow 3.3.2.
    if hasattr(connection, "aextra_dejson"):
        extra: dict[str, Any] = await connection.aextra_dejson()
        return extra
    from asgiref.sync import sync_to_async

    return await sync_to_async(lambda: connection.extra_dejson)()
