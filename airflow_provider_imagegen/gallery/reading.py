"""Reads what XComs lead to: manifests, the documents beside the images, single images. Remembers it for a moment.

Listings and images go through it. It decides nothing about permissions: who asks has been let in for that DAG.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from fastapi import HTTPException

from airflow_provider_imagegen.gallery.airflow_api import RETURN_VALUE, AirflowApi, Instance, Returned
from airflow_provider_imagegen.gallery.cache import Memory
from airflow_provider_imagegen.gallery.models import (
    Result,
    ShownManifest,
    ShownSidecar,
    ShownSummary,
    is_beside,
    read_result,
)
from airflow_provider_imagegen.gallery.rows import RowFile
from airflow_provider_imagegen.gallery.store import Store
from airflow_provider_imagegen.schemas import FAILURE, LandedImage

_ENTRIES, _ENTRY_SECONDS = 2000, 60.0
_RESULTS, _RESULT_SECONDS = 2000, 30.0
_FOREIGN, _FOREIGN_SECONDS = 5000, 60.0
# One other value may be an accident, and must not hide the images of the task's other runs.
_FOREIGN_AFTER = 3
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """What a task instance has left.

    :param result: ``None`` if it has nothing to do with images.
    :param warning: What could not be read.
    """

    instance: Instance
    result: Result | None = None
    sidecar: ShownSidecar | None = None
    warning: str = ""


class Reader:
    """Reads, for all users of one server process.

    :param store: Where the images are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: Memory[Returned, Entry] = Memory(_ENTRIES, _ENTRY_SECONDS)
        self._results: Memory[Instance, Result] = Memory(_RESULTS, _RESULT_SECONDS)
        self._foreign: Memory[tuple[str, str, str], int] = Memory(_FOREIGN, _FOREIGN_SECONDS)

    async def entries(
        self, api: AirflowApi, found: Sequence[Returned], *, among_many: bool
    ) -> list[Entry | BaseException]:
        """Read what some task instances returned, side by side; instead of one that cannot be read, return why.

        A task that has just been seen to return something else a few times is not read again, in this run; among
        many runs, in any.
        """
        reads = (self._returned(api, one, among_many) for one in found)
        return await asyncio.gather(*reads, return_exceptions=True)

    async def entry(self, api: AirflowApi, instance: Instance, key: str) -> Entry:
        """Read what a task instance has left under a key.

        :raises HTTPException: If it is not for this user.
        """
        result = read_result(await api.xcom(instance, key))
        if not isinstance(result, ShownManifest):
            return Entry(instance, result)
        try:
            return Entry(instance, result, await self._sidecar(instance, result))
        except HTTPException as error:
            return Entry(instance, result, warning=f"Cannot read prompts. {error.detail}")

    async def image(
        self, api: AirflowApi, instance: Instance, index: int, row: int | None, hint: int | None
    ) -> LandedImage:
        """Return one image of what a task instance returned.

        :param row: The row of a batch.
        :param hint: Where in the file of rows it may be.
        :raises HTTPException: If there is none.
        """
        async for result in self._results_of(api, instance):
            image = await self._image_in(result, instance, index, row, hint)
            if image is not None and _SHA256.fullmatch(image.sha256):
                self._results.put(instance, result)
                return image
        raise HTTPException(404, "The task returned no such image.")

    async def rows(self, instance: Instance, summary: ShownSummary) -> RowFile:
        """Return the rows of a batch.

        :raises HTTPException: If they are gone, or not this task's.
        """
        objects = await self._store.objects()
        place, size = await asyncio.to_thread(objects.lines_of, summary, instance.dag_id)
        return RowFile(lambda start, length: objects.part(place, start, length), size)

    async def _results_of(self, api: AirflowApi, instance: Instance) -> AsyncIterator[Result]:
        """Return what is remembered of a task instance, then what it returned, then what it left when it failed."""
        if (known := self._results.get(instance)) is not None:
            yield known
        for key in (RETURN_VALUE, FAILURE):
            if (result := read_result(await api.xcom(instance, key))) is not None:
                yield result

    async def _image_in(
        self, result: Result, instance: Instance, index: int, row: int | None, hint: int | None
    ) -> LandedImage | None:
        if isinstance(result, ShownManifest):
            return result.image(index) if row is None else None
        if row is None:
            return None
        rows = await self.rows(instance, result)
        found = await asyncio.to_thread(rows.find, row, hint)
        images = found.images if found else ()
        return next((image for image in images if image.index == index and is_beside(image, result)), None)

    async def _returned(self, api: AirflowApi, found: Returned, among_many: bool) -> Entry:
        dag_id, run_id, task_id = found.instance.dag_id, found.instance.run_id, found.instance.task_id
        task, task_anywhere = (dag_id, task_id, run_id), (dag_id, task_id, "")
        if (known := self._entries.get(found)) is not None:
            return known
        is_mapped = found.instance.map_index >= 0
        if (is_mapped and self._is_foreign(task)) or (among_many and self._is_foreign(task_anywhere)):
            return Entry(found.instance)
        entry = await self.entry(api, found.instance, RETURN_VALUE)
        for key in (task, task_anywhere):
            self._foreign.put(key, (self._foreign.get(key) or 0) + 1 if entry.result is None else 0)
        if entry.result is not None:
            self._results.put(found.instance, entry.result)
        return entry if entry.warning else self._entries.put(found, entry)

    def _is_foreign(self, task: tuple[str, str, str]) -> bool:
        return (self._foreign.get(task) or 0) >= _FOREIGN_AFTER

    async def _sidecar(self, instance: Instance, manifest: ShownManifest) -> ShownSidecar | None:
        if not manifest.manifest_uri or not manifest.images:
            return None
        objects = await self._store.objects()
        return await asyncio.to_thread(objects.sidecar, manifest.manifest_uri, instance.dag_id, manifest.fingerprint)
