"""The emulator's own routes under ``/_emulator``: the bill, and what can be changed while it runs.

They ask no token: the emulator is for loopback.
"""

from __future__ import annotations

from typing import Any, Self

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from airflow_provider_imagegen.emulator.faults import ArmedFault, Fault
from airflow_provider_imagegen.emulator.settings import Latency, LognormalLatency
from airflow_provider_imagegen.emulator.studio import Studio


class Changes(BaseModel):
    """What ``POST /_emulator/settings`` takes; only what is given changes.

    :param latency: seconds, a range such as ``1-8``, or ``lognormal:10,0.2``; tasks accepted from now on take as long
    """

    model_config = ConfigDict(extra="forbid")

    latency: str | float | None = None
    jitter: float = Field(default=0.0, ge=0, le=1)
    token: str | None = Field(default=None, min_length=1)
    max_in_flight: int | None = Field(default=None, ge=1)
    image_bytes: int | None = Field(default=None, ge=200)
    result_ttl: float | None = Field(default=None, ge=0)

    def pace(self) -> Latency | LognormalLatency | None:
        """Return the latency asked for.

        :raises ValueError: when it is none
        """
        return None if self.latency is None else Latency.parse(str(self.latency), self.jitter)

    @model_validator(mode="after")
    def _has_a_pace(self) -> Self:
        self.pace()
        return self


def control_routes(studio: Studio) -> APIRouter:
    """Return the routes that look at and steer one emulator."""
    router = APIRouter(prefix="/_emulator", tags=["emulator"])

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/ledger")
    async def ledger(rows: bool = True) -> dict[str, Any]:
        books = studio.books
        return {"totals": books.totals(), "rows": books.rows() if rows else []}

    @router.post("/reset")
    async def reset() -> dict[str, str]:
        studio.reset()
        return {"status": "reset"}

    @router.post("/settings")
    async def settings(changes: Changes) -> dict[str, str]:
        _apply(changes, studio)
        return {"status": "changed"}

    @router.post("/release")
    async def release(prompt: str = "") -> dict[str, int]:
        return {"released": studio.release(prompt)}

    @router.post("/tasks/{task_id}/cancel")
    async def cancel(task_id: str, response: Response) -> dict[str, Any]:
        """For gateways that can; none of the dialects here has such a call."""
        was_running = studio.cancel(task_id)
        response.status_code = 200 if was_running else 409
        return {"cancelled": was_running} if was_running else {"error": "the task is not running"}

    _fault_routes(router, studio)
    return router


def _fault_routes(router: APIRouter, studio: Studio) -> None:
    @router.post("/faults", status_code=201)
    async def arm(fault: Fault) -> dict[str, int]:
        return {"id": studio.faults.arm(fault).id}

    @router.get("/faults")
    async def armed() -> dict[str, Any]:
        return {"faults": [_fault_row(each) for each in studio.faults.armed]}

    @router.delete("/faults")
    async def disarm(id: int | None = None) -> dict[str, int]:
        return {"removed": studio.faults.disarm(id)}


def _fault_row(armed: ArmedFault) -> dict[str, Any]:
    fault = armed.fault.model_dump(mode="json", exclude_defaults=True)
    return {"id": armed.id, **fault, "seen": armed.seen, "fired": armed.fired}


def _apply(changes: Changes, studio: Studio) -> None:
    given = changes.model_fields_set
    studio.latency = changes.pace() or studio.latency
    if changes.token is not None:
        studio.token = changes.token
    if "max_in_flight" in given:
        studio.max_in_flight = changes.max_in_flight
    if "image_bytes" in given:
        studio.image_bytes = changes.image_bytes
    if "result_ttl" in given:
        studio.tickets.ttl = changes.result_ttl
