"""Types for the responses of Airflow's REST API; :mod:`tests.stack.rest` requests them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

FINISHED_RUN = frozenset({"success", "failed"})
FINISHED_TASK = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


def moment(text: str | None) -> datetime | None:
    """
    Read a date and time of the API.

    :param text: ISO 8601, or None
    :return: that moment
    """
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True)
class Health:
    """The status of each component: ``healthy``, ``unhealthy``, or None if it never ran."""

    database: str | None
    scheduler: str | None
    triggerer: str | None
    dag_processor: str | None


@dataclass(frozen=True)
class Job:
    """One registered component, running or gone."""

    id: int
    job_type: str
    state: str | None
    latest_heartbeat: datetime | None

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Self:
        """Read a response of the API."""
        return cls(item["id"], item["job_type"], item["state"], moment(item["latest_heartbeat"]))


@dataclass(frozen=True)
class Connection:
    """An Airflow connection."""

    connection_id: str
    conn_type: str
    host: str | None = None
    login: str | None = None
    password: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: str
    start_date: datetime | None
    end_date: datetime | None

    @property
    def is_finished(self) -> bool:
        """True if the state is final."""
        return self.state in FINISHED_RUN


@dataclass(frozen=True)
class TaskInstance:
    """One task of one run; mapped tasks have one for each map index, others have -1."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    max_tries: int
    start_date: datetime | None
    end_date: datetime | None

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Self:
        """Read a response of the API."""
        return cls(
            task_id=item["task_id"],
            map_index=item["map_index"],
            state=item["state"],
            try_number=item["try_number"],
            max_tries=item["max_tries"],
            start_date=moment(item["start_date"]),
            end_date=moment(item["end_date"]),
        )

    @property
    def is_finished(self) -> bool:
        """True if the state is final."""
        return self.state in FINISHED_TASK


@dataclass(frozen=True)
class LogEvent:
    """One event of a task's log; lines that are not structured have only a text."""

    timestamp: datetime | None
    level: str | None
    logger: str | None
    text: str

    @classmethod
    def of(cls, item: str | Mapping[str, Any]) -> Self:
        """Read a response of the API."""
        if isinstance(item, str):
            return cls(None, None, None, item)
        text = str(item.get("event", ""))
        for detail in item.get("error_detail") or ():
            text += f"\n{detail.get('exc_type')}: {detail.get('exc_value')}"
        return cls(moment(item.get("timestamp")), item.get("level"), item.get("logger"), text)

    def __str__(self) -> str:
        when = "" if self.timestamp is None else f"{self.timestamp:%H:%M:%S.%f}"[:-3]
        return " ".join(filter(None, [when, (self.level or "").upper(), self.text]))
