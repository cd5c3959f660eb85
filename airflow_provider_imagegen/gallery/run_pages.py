"""The way through one DAG run, in small steps of cards: what its tasks returned, rows of batches, then what failed.

Every step tells where to go on after it, so that a listing can stop anywhere and be taken up by another process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from fastapi import HTTPException

from airflow_provider_imagegen.gallery import cards
from airflow_provider_imagegen.gallery.airflow_api import AirflowApi, EndedTask, Instance, Some
from airflow_provider_imagegen.gallery.cards import Card
from airflow_provider_imagegen.gallery.isolation import reason_of
from airflow_provider_imagegen.gallery.models import LINK, ShownManifest, ShownSummary
from airflow_provider_imagegen.gallery.reading import Entry, Reader
from airflow_provider_imagegen.gallery.rows import RowFile
from airflow_provider_imagegen.schemas import FAILURE

Position = tuple[int, ...]
"""Phase, number of the entry in it, and byte in the entry's rows."""

START: Position = (0, 0, 0)

_RETURNED, _ENDED = 0, 1
_SIDE_BY_SIDE = 8
_LINES_AT_ONCE = 100
_MAX_WARNINGS = 5
_END = -1


@dataclass(frozen=True)
class Step:
    """A few cards, and where to go on after them."""

    cards: Sequence[Card]
    then: Position


@dataclass
class RunWalk:
    """The way through one run.

    :param api: Airflow, with the rights of who looks.
    :param reader: Reads what XComs lead to.
    :param among_many: Whether this is one run of many.
    :param with_ended: Whether to look for tasks that failed or were skipped.
    :param warnings: What could not be read.
    """

    api: AirflowApi
    reader: Reader
    dag_id: str
    run_id: str
    among_many: bool = False
    with_ended: bool = True
    warnings: list[str] = field(default_factory=list)

    async def steps(self, start: Position) -> AsyncIterator[Step]:
        """Walk; steps come often, also where there is nothing to show.

        :raises HTTPException: If the run is not for this user.
        """
        phase, number, byte = start
        if phase == _RETURNED:
            async for step in self._returned(number, byte):
                yield step
            number = byte = 0
        if self.with_ended:
            async for step in self._ended(number, byte):
                yield step

    async def _returned(self, number: int, byte: int) -> AsyncIterator[Step]:
        has_more = True
        while has_more:
            found = await self.api.returned(self.dag_id, self.run_id, number)
            has_more = found.has_more
            for start in range(0, len(found.items), _SIDE_BY_SIDE):
                some = found.items[start : start + _SIDE_BY_SIDE]
                entries = await self.reader.entries(self.api, some, among_many=self.among_many)
                for one, entry in zip(some, entries, strict=True):
                    steps = self._entry(entry, _RETURNED, number, byte)
                    async for step in self._isolated(one.instance, steps, (_RETURNED, number + 1, 0)):
                        yield step
                    number, byte = number + 1, 0
                yield Step((), (_RETURNED, number, 0))

    async def _ended(self, number: int, byte: int) -> AsyncIterator[Step]:
        has_more = True
        while has_more:
            found = await self._failed_or_skipped(number)
            has_more = found.has_more
            for task in found.items:
                steps = self._ended_task(task, number, byte)
                async for step in self._isolated(task.instance, steps, (_ENDED, number + 1, 0)):
                    yield step
                number, byte = number + 1, 0
                yield Step((), (_ENDED, number, 0))

    async def _isolated(self, instance: Instance, steps: AsyncIterator[Step], after: Position) -> AsyncIterator[Step]:
        """Pass the steps of one task on; where one cannot be made, a card says why."""
        try:
            async for step in steps:
                yield step
        except Exception as error:  # noqa: BLE001 - whatever somebody has written there, the others are shown
            yield Step([cards.unreadable(instance, reason_of(error))], after)

    async def _ended_task(self, task: EndedTask, number: int, byte: int) -> AsyncIterator[Step]:
        entry = await self.reader.entry(self.api, task.instance, FAILURE)
        reported = entry.result if isinstance(entry.result, ShownManifest) and entry.sidecar is None else None
        is_silent = entry.result is None and task.state == "failed" and await self._is_own(task)
        if reported is None and not is_silent:
            async for step in self._entry(entry, _ENDED, number, byte):
                yield step
            return
        self._warn(entry.warning)
        fields = await self.api.rendered_fields(task.instance)
        yield Step(cards.of_failed(task, fields, reported), (_ENDED, number + 1, 0))

    async def _failed_or_skipped(self, number: int) -> Some[EndedTask]:
        try:
            return await self.api.ended_tasks(self.dag_id, self.run_id, ("failed", "skipped"), number)
        except HTTPException as error:
            if error.status_code != 403:
                raise
            # Whoever may read XComs need not be allowed to see task instances.
            return Some([], has_more=False)

    async def _is_own(self, task: EndedTask) -> bool:
        return cards.is_own(task) or await self.api.xcom(task.instance, LINK) is not None

    async def _entry(self, entry: Entry | BaseException, phase: int, number: int, byte: int) -> AsyncIterator[Step]:
        if isinstance(entry, BaseException):
            raise entry
        self._warn(entry.warning)
        after = (phase, number + 1, 0)
        if isinstance(entry.result, ShownSummary):
            async for shown, byte_after in self._rows(entry, entry.result, byte):
                yield Step(shown, after if byte_after == _END else (phase, number, byte_after))
        elif entry.result is not None:
            yield Step(cards.of_manifest(entry.instance, entry.result, entry.sidecar), after)

    async def _rows(self, entry: Entry, summary: ShownSummary, byte: int) -> AsyncIterator[tuple[list[Card], int]]:
        try:
            rows = await self.reader.rows(entry.instance, summary)
            while byte != _END:
                shown, byte = await asyncio.to_thread(_some, rows, entry, summary, byte)
                yield shown, byte
        except HTTPException as error:
            self._warn(f"Cannot read the rows of {entry.instance.task_id}. {error.detail}")

    def _warn(self, words: str) -> None:
        if words and words not in self.warnings and len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(words)


def _some(rows: RowFile, entry: Entry, summary: ShownSummary, byte: int) -> tuple[list[Card], int]:
    shown: list[Card] = []
    for count, line in enumerate(rows.lines(byte)):
        if count == _LINES_AT_ONCE:
            return shown, line.start
        if (row := line.row()) is not None:
            shown += cards.of_row(entry.instance, summary, row, line.start)
        elif line.text.strip():
            words = f"A line of manifest.jsonl cannot be read. It begins at byte {line.start}."
            shown.append(cards.unreadable(entry.instance, words, f"byte {line.start}"))
    return shown, _END
