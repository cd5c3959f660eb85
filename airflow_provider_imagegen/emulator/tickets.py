"""Result URLs that look signed: the query proves that we handed the URL out, and until when it holds."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from enum import Enum

from starlette.datastructures import QueryParams

from airflow_provider_imagegen.emulator.books import Task

FOR_GOOD = 4_102_444_800  # the year 2100
PREVIEW = "preview"


class TicketState(Enum):
    """What a ticket is worth."""

    GOOD = "good"
    EXPIRED = "expired"
    FORGED = "forged"


@dataclass
class Tickets:
    """Signs and checks result URLs.

    :param ttl: seconds a URL lives; none is for good
    """

    ttl: float | None = None
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def url(self, origin: str, task: Task, part: int | str, now: float) -> str:
        """Return the URL of one image of a task, good from now on.

        :param origin: scheme and host, as the client reached us
        :param part: the image's number, or ``preview``
        """
        extension = task.drawings[0 if part == PREVIEW else int(part)].format
        name = f"{task.id}-{part}.{extension}"
        expires = FOR_GOOD if self.ttl is None else now + self.ttl
        until, version = f"{expires:.3f}", str(task.link_version)
        signature = self._signature(name, until, version)
        return f"{origin}/results/{name}?se={until}&v={version}&sig={signature}"

    def check(self, name: str, query: QueryParams, task: Task, now: float) -> TicketState:
        """Say whether a URL is one of ours and still holds."""
        expires, version = query.get("se", ""), query.get("v", "")
        expected = self._signature(name, expires, version)
        if not hmac.compare_digest(expected, query.get("sig", "")):
            return TicketState.FORGED
        stale = int(version) < task.stale_version
        return TicketState.EXPIRED if stale or now > float(expires) else TicketState.GOOD

    def _signature(self, name: str, expires: str, version: str) -> str:
        text = f"{name}\n{expires}\n{version}".encode()
        return hmac.digest(self._secret, text, "sha256").hex()[:40]


def refresh_links(task: Task) -> None:
    """Called on a lookup: links handed out from now on are newer than those declared stale."""
    task.link_version = max(task.link_version, task.stale_version)


def split_name(name: str) -> tuple[str, str]:
    """Split a result's name into task id and part."""
    task_id, _, part = name.partition(".")[0].rpartition("-")
    return task_id, part
