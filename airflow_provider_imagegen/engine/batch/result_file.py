"""The results of a batch, line by line in a temporary file: a hundred thousand rows fit into little memory."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from typing import IO, Self

from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.engine.batch.summary import OnModeration, Tally, error_for
from airflow_provider_imagegen.engine.outcome import OnPartial
from airflow_provider_imagegen.exceptions import ImageGenError
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.schemas.base import time_now
from airflow_provider_imagegen.schemas.batch import BatchSummary
from airflow_provider_imagegen.storage.tempfiles import temp_file_errors

MANIFEST = "manifest.jsonl"


class ResultFile:
    """Results as they come, in any order; a context manager."""

    def __init__(self) -> None:
        self._file = _new_file()
        self._starts: dict[int, int] = {}
        self.landed: set[str] = set()
        self.tally = Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, row: int) -> bool:
        return row in self._starts

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, result: RowResult) -> None:
        """Add the result of a row."""
        with temp_file_errors():
            self._starts[result.row] = self._file.seek(0, 2)
            self._file.write(f"{result.model_dump_json()}\n".encode())
        if result.status == "landed":
            self.landed.add(result.key)
        self.tally.add(result)

    def lines(self) -> Iterator[str]:
        """Yield the lines without their ends, in order of rows."""
        for _, start in sorted(self._starts.items()):
            self._file.seek(start)
            yield self._file.readline().decode().removesuffix("\n")

    async def publish(
        self,
        landing: Landing,
        gateway: Gateway,
        started_at: float,
        *,
        on_partial: OnPartial,
        on_moderation: OnModeration,
        stopped_by: ImageGenError | None = None,
    ) -> BatchSummary:
        """Put ``manifest.jsonl`` beside the images, and sum up."""
        elapsed = round(time.time() - started_at, 3)
        with closing(await asyncio.to_thread(self._in_order)) as lines:
            uri, sha256 = await landing.put_lines(MANIFEST, lines)
        summary = self.tally.summary(
            gateway=gateway.name,
            created_at=time_now(),
            elapsed=elapsed,
            manifest_uri=uri,
            manifest_sha256=sha256,
            currency=gateway.settings.currency,
        )
        error = error_for(
            summary, self.tally, on_partial=on_partial, on_moderation=on_moderation, stopped_by=stopped_by
        )
        if error is not None:
            raise error
        return summary

    def _in_order(self) -> IO[bytes]:
        # Readers find a row by halving the file, so its lines stand in order of rows, not as they came.
        ordered = _new_file()
        with temp_file_errors():
            ordered.writelines(f"{line}\n".encode() for line in self.lines())
        return ordered


def _new_file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="imagegen-batch-")
