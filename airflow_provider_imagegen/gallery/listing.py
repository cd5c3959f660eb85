"""Pages of cards: of one run, or of the newest runs; a page says where the next one begins.

Airflow's API lists XComs without their values, and files of rows may be long: a page ends when it is full or has
taken its time, whichever comes first, so that no request is slow and none holds much.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from airflow_provider_imagegen.gallery.airflow_api import AirflowApi, Run
from airflow_provider_imagegen.gallery.cards import Card, Wish, unreadable_run
from airflow_provider_imagegen.gallery.isolation import is_refused, reason_of
from airflow_provider_imagegen.gallery.reading import Reader
from airflow_provider_imagegen.gallery.run_pages import START, Position, RunWalk, Step

PAGE_SECONDS = 2.5
_POSITION = re.compile(r"\d{1,15}(\.\d{1,15}){2,3}")


@dataclass
class Page:
    """Some cards.

    :param then: Where to go on; ``None`` if that was all.
    :param warnings: What could not be read.
    """

    cards: list[Card] = field(default_factory=list)
    then: Position | None = None
    warnings: list[str] = field(default_factory=list)


class Listing:
    """What one user gets to see.

    :param api: Airflow, with the user's rights.
    :param reader: Reads what XComs lead to.
    """

    def __init__(self, api: AirflowApi, reader: Reader) -> None:
        self._api = api
        self._reader = reader
        self._warnings: list[str] = []

    async def of_run(self, dag_id: str, run_id: str, wish: Wish, start: Position | None, limit: int) -> Page:
        """Return a page of one run.

        :param start: Where the page before said to go on.
        :param limit: Cards after which the page ends.
        :raises HTTPException: If the run is not for this user.
        """
        walk = RunWalk(self._api, self._reader, dag_id, run_id, warnings=self._warnings)
        return await self._page(walk.steps(start or START), wish, limit)

    async def of_newest(self, dag_id: str | None, wish: Wish, start: Position | None, limit: int) -> Page:
        """Return a page of the runs that the user may see, the last started first.

        :param dag_id: Of this DAG only.
        :raises HTTPException: If runs are not for this user.
        """
        return await self._page(self._through_runs(dag_id, start or (0, *START)), wish, limit)

    async def _page(self, steps: AsyncIterator[Step], wish: Wish, limit: int) -> Page:
        page, until = Page(warnings=self._warnings), time.monotonic() + PAGE_SECONDS
        async for step in steps:
            page.cards += [card for card in step.cards if wish.is_met_by(card)]
            if len(page.cards) >= limit or time.monotonic() > until:
                page.then = step.then
                break
        return page

    async def _through_runs(self, dag_id: str | None, start: Position) -> AsyncIterator[Step]:
        number, within = start[0], start[1:]
        has_more = True
        while has_more:
            runs = await self._api.newest_runs(dag_id, number)
            has_more = runs.has_more
            for run in runs.items:
                try:
                    async for step in self._walk(run).steps(within):
                        yield Step(step.cards, (number, *step.then))
                except Exception as error:  # noqa: BLE001 - whatever is wrong with a run, the others are shown
                    if not is_refused(error):
                        yield Step([unreadable_run(run, reason_of(error))], (number + 1, *START))
                number, within = number + 1, START
                yield Step((), (number, *START))

    def _walk(self, run: Run) -> RunWalk:
        return RunWalk(
            *(self._api, self._reader, run.dag_id, run.run_id),
            among_many=True,
            with_ended=run.state == "failed",
            warnings=self._warnings,
        )


def read_position(text: str, length: int) -> Position | None:
    """Return a position from its text; ``None`` if it is not one of that length."""
    if not _POSITION.fullmatch(text):
        return None
    position = tuple(map(int, text.split(".")))
    return position if len(position) == length else None


def position_text(position: Position) -> str:
    """Return a position as text."""
    return ".".join(map(str, position))
