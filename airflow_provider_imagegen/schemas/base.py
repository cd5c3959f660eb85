"""What all models here share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A model that never changes and takes no field it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), coerce_numbers_to_str=True)


class PersistedModel(StrictModel):
    """A model that is kept in S3 or in Airflow's database: another release may read what this one wrote."""

    model_config = ConfigDict(extra="ignore")
