"""Bases of all models here, the types of text from outside, and the type of amounts of money."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue, PlainSerializer

from airflow_provider_imagegen.redaction import foreign_id, foreign_json, foreign_text, redacted


def _if_text(change: Callable[[str], str]) -> BeforeValidator:
    """Return a validator that changes texts before pydantic sees them, which takes no half of a surrogate pair."""
    return BeforeValidator(lambda value: change(value) if isinstance(value, str) else value)


# A gateway of another distribution builds its tasks as it likes: what it reads comes through these types.
ForeignText = Annotated[str, _if_text(foreign_text)]
"""A text from outside."""
ForeignWord = Annotated[str, _if_text(redacted)]
"""A short text from outside."""
ForeignId = Annotated[str, _if_text(foreign_id)]
"""An id from outside."""
ForeignJson = Annotated[dict[str, JsonValue], BeforeValidator(foreign_json)]
"""JSON data from outside."""

# Exact inside; in XCom and S3 a plain JSON number, so that anybody can add amounts up. They have at most nine decimal
# places, which a JSON number holds exactly enough to be read back the same.
Money = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]
"""An amount."""


def time_now() -> str:
    """Return the time as it is stored: ISO 8601, UTC, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class StrictModel(BaseModel):
    """A model that never changes and takes no field it does not know."""

    # Gateways send numbers where ids and codes belong; what was paid for must not fail for that.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), coerce_numbers_to_str=True)


class PersistedModel(StrictModel):
    """A model that is kept in S3 or in Airflow's database: another release may read what this one wrote."""

    model_config = ConfigDict(extra="ignore")
