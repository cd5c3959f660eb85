"""The side of the test process: request tries from the runner, and inspect their objects and billed images."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.ledger.models import LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from tests.conftest import BUCKET
from tests.crash.tries import Report, Try
from tests.ledgers import age_claims, entries_of
from tests.stack.environment import ROOT
from tests.stack.object_store import ObjectStore
from tests.stack.waiting import HANG, scaled, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

GRACE = scaled(30.0)
"""Seconds the emulator may be silent, and a request invisible: no test waits so long, since claims are made older."""
PASSING = scaled(1.0)
"""The same where a test waits until they are over; nothing else in it may have to be faster."""
DEADLINE = scaled(5.0)
"""Seconds until a deadline that a test lets pass: many times what the submits before it need."""


class Runner:
    """The warm process; a context manager."""

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".cache" / "pycache"))
        environment["AWS_EC2_METADATA_DISABLED"] = "true"
        command = [sys.executable, "-m", "tests.crash.runner"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        while (line := self._answer()) != "ready\n":
            if not line:
                self._process.communicate()
                raise RuntimeError("the runner did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, *tries: Try) -> list[Report]:
        """Run tries side by side, to their ends."""
        for one in tries:
            Path(one.folder).mkdir(parents=True, exist_ok=True)
        if self._process.stdin is None:
            raise RuntimeError("the runner has no standard input")
        self._process.stdin.write(json.dumps([one.to_json() for one in tries]) + "\n")
        self._process.stdin.flush()
        statuses = json.loads(self._answer())
        return [_report(one, status) for one, status in zip(tries, statuses, strict=True)]

    def _answer(self) -> str:
        if self._process.stdout is None:
            raise RuntimeError("the runner has no standard output")
        return self._process.stdout.readline()


def _report(one: Try, status: int) -> Report:
    if status == -signal.SIGKILL:
        return Report(killed=True)
    if status != 0:
        raise RuntimeError(f"a try ended with status {status}:\n{one.log_path.read_text()}")
    return Report.read(one.report_path)


@dataclass(frozen=True, kw_only=True)
class ExpectedBill:
    """The emulator's counts since the start of the test.

    :param images: images that are or will be billed
    :param per_trace: images by trace id; of gateways that take none every request has its own
    """

    images: int
    per_trace: dict[str, int]


@dataclass(kw_only=True)
class Task:
    """One task instance, with a prompt and a ledger of its own, whose tries are run one after the other."""

    runner: Runner
    emulator: RunningEmulator
    store: ObjectStore
    s3: S3Client
    folder: Path
    gateway: str = "acedatacloud"
    arguments: dict[str, Any] = field(default_factory=dict)
    dag_id: str = "crashing"
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    visibility_grace: float = GRACE
    _tries: int = 0

    def __post_init__(self) -> None:
        self.arguments = {
            "prompt": "a kite over the sea",
            "n": 2,
            "s3_bucket": BUCKET,
            "s3_key": f"crash/{self.run_id}",
            "ledger_key": f"ledger-{self.run_id}",
            "poll_interval": 0.1,
            "timeout": HANG,
            "retries": 1,
            **self.arguments,
        }

    def attempt(self, **changes: Any) -> Report:
        """Run the next try."""
        (report,) = self.runner.run(self.next_try(**changes))
        return report

    def next_try(self, **changes: Any) -> Try:
        """Return the next try, not yet run."""
        self._tries += 1
        return replace(
            Try(
                connections=self._connections(),
                operator=self.arguments,
                identity={"dag_id": self.dag_id, "task_id": "draw", "run_id": self.run_id, "map_index": -1},
                folder=str(self.folder / f"{self.run_id}-{self._tries}"),
                try_number=self._tries,
                max_tries=1,
                release_url=self.emulator.url("/_emulator/release"),
            ),
            **changes,
        )

    def let_time_pass(self) -> None:
        """Let happen what happens before Airflow's usual retry: all arrives and is drawn, and claims grow old."""
        self.emulator.wait_until_idle()
        # A claim that arrived after the others were aged would be young, and the retry would wait for its request.
        self.store.wait_until_idle()
        self.emulator.release()
        wait_until(lambda: not self.emulator.totals()["in_flight"], what="the images to be drawn", interval=0.02)
        age_claims(self.ledger)

    @property
    def ledger(self) -> Ledger:
        """The prefix of its ledger records."""
        return Ledger(self.s3, BUCKET, self.arguments["ledger_key"])

    def records(self) -> list[LedgerRecord]:
        """Return what stands in the ledger, in order of images and generations."""
        records = (entry.record for entry in entries_of(self.ledger) if entry.record.fingerprint)
        return sorted(records, key=lambda record: (record.item, record.generation))

    def bill(self) -> ExpectedBill:
        """Return what is billed."""
        per_trace: Counter[str] = Counter()
        for row in self.emulator.ledger()["rows"]:
            per_trace[row["trace_id"]] += row["due"]
        return ExpectedBill(images=sum(per_trace.values()), per_trace=dict(per_trace))

    def stored(self) -> dict[str, str]:
        """Return the SHA-256 of every image in S3, by key."""
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.arguments['s3_key']}/").get("Contents", [])
        keys = [entry["Key"] for entry in found if not entry["Key"].endswith("manifest.json")]
        return {key: self._digest(key) for key in keys}

    def _digest(self, key: str) -> str:
        return hashlib.sha256(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()

    def _connections(self) -> dict[str, str]:
        path = {"acedatacloud": "", "openai": "openai-api"}[self.gateway]
        imagegen = {
            "conn_type": "imagegen",
            "host": self.emulator.url(path),
            "password": self.emulator.token,
            "extra": {"gateway": self.gateway, "visibility_grace": self.visibility_grace, "timeout": GRACE},
        }
        aws = {
            "conn_type": "aws",
            "login": self.store.access_key,
            "password": self.store.secret_key,
            "extra": self.store.connection_extra,
        }
        return {
            "AIRFLOW_CONN_IMAGEGEN_DEFAULT": json.dumps(imagegen),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        }


def landed(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of every image of a manifest, by key."""
    return {image["key"]: image["sha256"] for image in manifest["images"]}


def counted(entries: Iterable[str]) -> str:
    """Return ``2 GetObject ledger, 1 submit``."""
    return ", ".join(f"{count} {entry}" for entry, count in sorted(Counter(entries).items())) or "nothing"
