"""Bases of all models here, and the type of amounts of money."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

# Exact inside; in XCom and S3 a plain JSON number, so that anybody can add amounts up. They have at most nine decimal
# places, which a JSON number holds exactly enough to be read back the same.
Money = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]
"""An amount."""


class StrictModel(BaseModel):
    """A model that never changes and takes no field it does not know."""

    # Gateways send numbers where ids and codes belong; what was paid for must not fail for that.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), coerce_numbers_to_str=True)


class PersistedModel(StrictModel):
    """A model that is kept in S3 or in Airflow's database: another release may read what this one wrote."""

    model_config = ConfigDict(extra="ignore")
