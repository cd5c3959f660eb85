"""Record and count all side effects of a try, and kill the try at the configured point."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from typing import Any

import httpx
from botocore.awsrequest import AWSPreparedRequest

from tests.crash.tries import Point


class Recorder:
    """Watches the process it lives in.

    :param kill: Where to kill it.
    """

    def __init__(self, kill: Point | None) -> None:
        self._kill = kill
        self._lock = threading.Lock()
        self._seen: Counter[tuple[str, str]] = Counter()
        self.points: list[Point] = []
        self.s3: list[str] = []
        self.http: list[str] = []

    def see(self, effect: str, moment: str) -> None:
        """Take note of a point, or die there."""
        with self._lock:
            self._seen[effect, moment] += 1
            point = Point(str(effect), moment, self._seen[effect, moment])
            if point == self._kill:
                os.kill(os.getpid(), signal.SIGKILL)
            self.points.append(point)

    def see_s3(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> None:
        """Take note of a request to S3: a handler of botocore's ``before-send``."""
        self.s3.append(f"{event_name.rpartition('.')[2]} {_kind_of_object(request.url.partition('?')[0])}")

    async def see_http(self, request: httpx.Request) -> None:
        """Take note of a request to the gateway: an event hook of httpx."""
        self.http.append(_kind_of_request(request))


def _kind_of_object(url: str) -> str:
    if "/ledger" in url:
        return "probe" if url.endswith("/conditional-writes") else "ledger"
    return "manifest" if url.endswith("/manifest.json") else "image"


def _kind_of_request(request: httpx.Request) -> str:
    if not request.url.path.endswith("/tasks"):
        return "submit"
    return "look_up_by_trace_id" if "trace_ids" in json.loads(request.content) else "look_up_by_id"
