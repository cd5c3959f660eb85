"""Puts the emulator together: which path is answered by whom."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from airflow_provider_imagegen.emulator.books import Clock
from airflow_provider_imagegen.emulator.control import control_routes
from airflow_provider_imagegen.emulator.dialects.ace_callbacks import Messenger
from airflow_provider_imagegen.emulator.dialects.acedatacloud import AceDataCloud
from airflow_provider_imagegen.emulator.dialects.apigo import apigo
from airflow_provider_imagegen.emulator.dialects.openai import OpenAI
from airflow_provider_imagegen.emulator.gate import Gate
from airflow_provider_imagegen.emulator.results import Results
from airflow_provider_imagegen.emulator.settings import DialectName, EmulatorSettings
from airflow_provider_imagegen.emulator.studio import Studio

PREFIXES = {
    DialectName.ACEDATACLOUD: "/acedatacloud",
    DialectName.OPENAI: "/openai-api",
    DialectName.APIGO: "/apigo",
}


def create_app(settings: EmulatorSettings, clock: Clock = time.time) -> FastAPI:
    """Return an emulator as an ASGI application.

    :param clock: unix seconds; what every task's state is derived from
    """
    studio = Studio(settings, clock)
    messenger = Messenger(studio)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await messenger.close()
        studio.gallery.close()

    app = FastAPI(title="Image gateway emulator", lifespan=lifespan)
    app.state.studio = studio
    app.include_router(control_routes(studio))
    app.add_route("/results/{name}", Results(studio).serve, methods=["GET"])
    for path, gate in _gates(studio, messenger):
        app.add_route(path, gate.answer, methods=["POST"])
    for path, gate in _probes(studio):
        app.add_route(path, gate.answer, methods=["GET"])
    return app


def _probes(studio: Studio) -> Iterator[tuple[str, Gate]]:
    """Yield each path that is only read, with its gate."""
    dialects = {DialectName.OPENAI: OpenAI(studio), DialectName.APIGO: apigo(studio)}
    for name, dialect in dialects.items():
        yield from _under(PREFIXES[name], dialect.probe_routes())
    if studio.settings.dialect in dialects:
        yield from dialects[studio.settings.dialect].probe_routes()


def _gates(studio: Studio, messenger: Messenger) -> Iterator[tuple[str, Gate]]:
    """Yield each path with its gate: every dialect under its prefix, and the chosen one at the root."""
    ace = AceDataCloud(studio, messenger)
    dialects: dict[DialectName, AceDataCloud | OpenAI] = {
        DialectName.ACEDATACLOUD: ace,
        DialectName.OPENAI: OpenAI(studio),
        DialectName.APIGO: apigo(studio),
    }
    yield from ace.own_routes()
    yield from dialects[studio.settings.dialect].shared_routes()
    yield from _under(PREFIXES[DialectName.ACEDATACLOUD], ace.own_routes())
    for name, dialect in dialects.items():
        yield from _under(PREFIXES[name], dialect.shared_routes())


def _under(prefix: str, routes: Iterator[tuple[str, Gate]]) -> Iterator[tuple[str, Gate]]:
    return ((prefix + path, gate) for path, gate in routes)
