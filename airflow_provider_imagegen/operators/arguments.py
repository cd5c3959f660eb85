"""Checks of operators' arguments, made when a DAG is parsed; cheap to import."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.redaction import queries_in
from airflow_provider_imagegen.version_compat import mask_secret

Choice = TypeVar("Choice", bound=str | bool)


def check_choice(field: str, value: Choice, allowed: tuple[Choice, ...]) -> Choice:
    """Return a choice, or refuse it if it is none of those that are allowed."""
    if value not in allowed:
        raise InvalidRequest(field, value, f"one of {', '.join(map(repr, allowed))}")
    return value


def budget_of(value: object) -> Decimal | None:
    """Return a budget as an amount, or refuse it if it is none; ``None`` stays ``None``."""
    if value is None:
        return None
    from airflow_provider_imagegen.money import amount_of

    try:
        return amount_of(value)
    except ValueError as error:
        raise InvalidRequest("budget", value, str(error)) from None


def mask_queries(value: Any) -> None:
    """Have Airflow mask the query of every address in a value, wherever it would be shown or logged."""
    for query in queries_in(value):
        mask_secret(query)


def seconds_of(field: str, value: float | timedelta) -> float:
    """Return a number of seconds, or refuse it if it is none above 0."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise InvalidRequest(field, value, "a number of seconds above 0")
    return float(seconds)
