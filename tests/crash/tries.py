"""One try of one task: its options and its report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DEFER = "defer"
"""Tell Airflow that the task waits: done by Airflow after ``execute`` ends, hence no effect of the package."""
PUSH_XCOM = "push_xcom"
"""Push what the operator returned: done by Airflow, hence no effect of the package."""


@dataclass(frozen=True, order=True)
class Point:
    """A point in a try at which it can be killed.

    :param effect: A member of ``Failpoint``, or one of the above.
    :param moment: ``before`` or ``after``.
    :param occurrence: Which of several, from 1.
    """

    effect: str
    moment: str
    occurrence: int = 1

    def __str__(self) -> str:
        return f"{self.moment} {self.effect} {self.occurrence}"


@dataclass(frozen=True, kw_only=True)
class Try:
    """Options of a try.

    :param connections: ``AIRFLOW_CONN_…`` variables.
    :param operator: Arguments of the operator.
    :param identity: ``dag_id``, ``task_id``, ``run_id``, ``map_index``.
    :param batch: Whether the operator is the one for batches.
    :param folder: Where the try leaves its report, its log and its XCom.
    :param kill: Where it kills itself; ``None`` lets it run to its end.
    :param grace: Seconds it waits in the worker before it defers.
    :param release_url: URL with which the emulator finishes its held tasks after the try has deferred.
    """

    connections: dict[str, str]
    operator: dict[str, Any]
    identity: dict[str, Any]
    folder: str
    release_url: str
    try_number: int = 1
    max_tries: int = 0
    kill: Point | None = None
    grace: float = 0.05
    batch: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Try:
        kill = fields.pop("kill")
        return cls(**fields, kill=Point(**kill) if kill else None)

    @property
    def report_path(self) -> Path:
        return Path(self.folder, "report.json")

    @property
    def log_path(self) -> Path:
        return Path(self.folder, "log.txt")

    @property
    def xcom_path(self) -> Path:
        return Path(self.folder, "xcom.json")


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a try.

    :param error: Name of the exception's class it ended with.
    :param points: Points it passed, in order.
    :param s3: S3 operations, as ``<operation> <what>``, ``what`` being image, manifest, ledger or probe.
    :param http: Other requests, as ``submit``, ``look_up_by_id``, ``look_up_by_trace_id``; not downloads.
    :param killed: Whether it ended by SIGKILL; then nothing else is known.
    """

    error: str | None = None
    message: str = ""
    points: tuple[Point, ...] = ()
    s3: tuple[str, ...] = ()
    http: tuple[str, ...] = ()
    killed: bool = False
    manifest: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Report:
        fields = json.loads(path.read_text())
        points = tuple(Point(**point) for point in fields.pop("points"))
        return cls(**{**fields, "s3": tuple(fields["s3"]), "http": tuple(fields["http"])}, points=points)
