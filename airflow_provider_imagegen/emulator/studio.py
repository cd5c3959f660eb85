"""The state that all routes of one emulator share, and the one way in which a request becomes a task."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_imagegen.emulator.books import Books, Clock, Failure, Task
from airflow_provider_imagegen.emulator.calls import Call, Refusal
from airflow_provider_imagegen.emulator.faults import Concern, FaultSchedule, Phase
from airflow_provider_imagegen.emulator.gallery import Gallery
from airflow_provider_imagegen.emulator.outcomes import strike
from airflow_provider_imagegen.emulator.painter import Drawing
from airflow_provider_imagegen.emulator.settings import EmulatorSettings, Latency, LognormalLatency
from airflow_provider_imagegen.emulator.tickets import Tickets

MODERATION_MARKER = "[[moderation]]"


@dataclass(frozen=True)
class Order:
    """A valid paid request, on its way to becoming a task.

    :param request: the body as the task record echoes it
    """

    dialect: str
    model: str
    prompt: str
    request: dict[str, Any]
    drawings: tuple[Drawing, ...]
    call: Call


@dataclass
class Studio:
    """One emulator's books, images, pace and token.

    :param settings: as given at start
    :param clock: unix seconds
    """

    settings: EmulatorSettings
    clock: Clock = time.time
    token: str = field(init=False, repr=False)
    latency: Latency | LognormalLatency = field(init=False)
    max_in_flight: int | None = field(init=False)
    image_bytes: int | None = field(init=False)
    books: Books = field(init=False)
    gallery: Gallery = field(init=False)
    tickets: Tickets = field(init=False)
    faults: FaultSchedule = field(init=False)

    def __post_init__(self) -> None:
        self.gallery = Gallery(self.settings.cache_bytes)
        self._start()

    def reset(self) -> None:
        """Forget all tasks, counts and faults, and go back to the settings given at start."""
        self.release()
        self._start()

    def _start(self) -> None:
        self.token = self.settings.token
        self.latency = self.settings.latency
        self.max_in_flight = self.settings.max_in_flight
        self.image_bytes = self.settings.image_bytes
        self.books = Books(self.clock)
        self.tickets = Tickets(self.settings.result_ttl)
        self.faults = FaultSchedule()
        self._released = asyncio.Event()
        self._dice = random.Random(self.settings.seed)
        self._asked: Counter[tuple[str, tuple[Drawing, ...]]] = Counter()

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens that are accepted now."""
        return (self.token, *self.settings.more_tokens)

    def place(self, order: Order) -> Task:
        """Turn an order into a task; it will be billed when it is finished.

        :raises Refusal: ``rate_limited`` when too many tasks of its token are in flight
        """
        if self.max_in_flight is not None and self.books.in_flight_of(order.call.payer) >= self.max_in_flight:
            raise Refusal("rate_limited", f"more than {self.max_in_flight} tasks in flight")
        task = self._task(order)
        concern = Concern((order.prompt,), (task.id,))
        for fault in self.faults.take_all(Phase.OUTCOME, order.call.route, concern):
            self.books.counts["faults"] += 1
            strike(task, fault)
        self.books.accept(task)
        return task

    def _task(self, order: Order) -> Task:
        now = self.clock()
        return Task(
            id=str(uuid.uuid4()),
            trace_id=order.call.trace_id or str(uuid.uuid4()),
            dialect=order.dialect,
            route=order.call.route,
            model=order.model,
            prompt=order.prompt,
            request=order.request,
            payer=order.call.payer,
            drawings=self._fresh(order),
            failure=self._moderation(order.prompt),
            created_at=now,
            ready_at=now + self.latency.draw(self._dice),
            preview=bool(order.drawings) and self._share(order.prompt) < self.settings.preview_share,
            headers=order.call.header_names,
        )

    def _fresh(self, order: Order) -> tuple[Drawing, ...]:
        """Return what to draw when a vendor is asked the same again: another image, the same on every run."""
        again = self._asked[order.dialect, order.drawings]
        self._asked[order.dialect, order.drawings] += 1
        # Images of a given weight are noise, drawn once because they are large.
        if not again or self.image_bytes is not None:
            return order.drawings
        return tuple(replace(drawing, salt=f"{drawing.salt}\n{again}") for drawing in order.drawings)

    @staticmethod
    def _moderation(prompt: str) -> Failure | None:
        if MODERATION_MARKER not in prompt:
            return None
        return Failure("moderation_blocked", "the prompt was rejected by the safety system")

    def _share(self, prompt: str) -> float:
        """Place a prompt between 0 and 1, the same on every run with one seed."""
        digest = hashlib.sha256(f"{self.settings.seed}\n{prompt}".encode()).digest()
        return digest[0] / 256

    def release(self, prompt: str = "") -> int:
        """Finish the held tasks whose prompt contains this, and hold no more of them; return how many there were."""
        self.faults.disarm_holds(prompt)
        released = self.books.release(prompt)
        self._wake_waiters()
        return released

    def cancel(self, task_id: str) -> bool:
        """End a running task unbilled; return whether it was running."""
        was_running = self.books.cancel(task_id)
        self._wake_waiters()
        return was_running

    async def until_ready(self, task: Task) -> None:
        """Wait as long as the drawing takes; for answers that come with the image in them."""
        while task.held:
            await self._released.wait()
        await self.until(task.ready_at)

    def _wake_waiters(self) -> None:
        released, self._released = self._released, asyncio.Event()
        released.set()

    async def until(self, moment: float) -> None:
        """Wait until a moment of our clock."""
        await asyncio.sleep(max(0.0, moment - self.clock()))
