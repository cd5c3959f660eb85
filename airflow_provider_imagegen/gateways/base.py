"""The protocol every gateway speaks: it builds requests and reads answers, and opens no socket.

The client sends what a gateway builds; sync code, async code and tests share the same gateway.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import httpx

from airflow_provider_imagegen.connection import GatewaySettings
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What a gateway can do; the engine asks these, never the gateway's name.

    :param tasks: It answers a submit with a task id that can be looked up.
    :param ids_per_look_up: How many tasks one look-up may name.
    :param look_up_by_trace_id: A task can be found by a trace id that we chose.
    """

    tasks: bool = False
    ids_per_look_up: int = 1
    look_up_by_trace_id: bool = False


class Gateway(ABC):
    """One image API.

    :param settings: Where it is and how to speak to it.
    """

    name: ClassVar[str]
    """The registered name."""
    hosts: ClassVar[tuple[str, ...]] = ()
    """Host names by which a connection's base URL is recognised."""
    abilities: ClassVar[Abilities]
    timeout: ClassVar[float] = 60.0
    """Seconds an answer may take, unless the connection says otherwise."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings

    def images_per_call(self, model: str | None) -> int:
        """Return how many images one call makes at most; more are asked for in further calls.

        :param model: Name of the model; the gateway may treat an unknown one with caution.
        """
        return 1

    @abstractmethod
    def submit(self, request: ImageRequest, trace_id: str) -> httpx.Request:
        """Build the paid call.

        :param request: What to draw.
        :param trace_id: Our id of the call, sent where the gateway takes one.
        """

    @abstractmethod
    def read_submitted(self, response: httpx.Response) -> ImageTask:
        """Read the answer to :meth:`submit`.

        :raises GatewayError: As the answer says; an answer with neither task nor image is
            :class:`~airflow_provider_imagegen.exceptions.OutcomeUnknown`.
        """

    @abstractmethod
    def look_up(self, task_ids: Sequence[str]) -> httpx.Request:
        """Build the free call that asks for tasks, at most ``abilities.ids_per_look_up`` of them."""

    @abstractmethod
    def read_looked_up(self, response: httpx.Response, task_ids: Sequence[str]) -> dict[str, ImageTask]:
        """Read the answer to :meth:`look_up`: one task for every id asked for.

        :raises GatewayError: As the answer says.
        """

    @abstractmethod
    def probe(self) -> httpx.Request:
        """Build a free call that proves base URL and token."""

    @property
    def submit_url(self) -> str:
        """Address of the paid call."""
        return f"{self.settings.base_url}{self.settings.submit_path or self.default_submit_path}"

    @property
    @abstractmethod
    def default_submit_path(self) -> str:
        """Path of the paid call where the connection names none."""

    def request(self, url: str, body: object) -> httpx.Request:
        """Build a JSON ``POST`` with the bearer token and the connection's own headers."""
        headers = {
            "accept": "application/json",
            **self.settings.headers,
            "authorization": f"Bearer {self.settings.token}",
        }
        return httpx.Request("POST", url, json=body, headers=headers)
