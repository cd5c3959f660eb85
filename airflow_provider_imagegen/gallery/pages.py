"""The gallery's pages and what they are made of. No inline scripts, no foreign hosts but S3, nothing built."""

from __future__ import annotations

import asyncio
import hashlib
import html
import logging
from functools import cache
from pathlib import Path
from string import Template
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import HTMLResponse, Response

from airflow_provider_imagegen.gallery.services import Services, ServicesDep

router = APIRouter()
log = logging.getLogger(__name__)

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_PAGE = "page.html"


@router.get("/newest")
async def newest_page(services: ServicesDep) -> HTMLResponse:
    """Show the newest images of all DAGs."""
    return await _page(services, root="", view="newest", title="Newest images")


@router.get("/dags/{dag_id}/runs/{run_id}")
async def run_page(dag_id: str, run_id: str, services: ServicesDep) -> HTMLResponse:
    """Show the images of one run."""
    return await _page(services, root="../../../", view="run", title="Images", dag_id=dag_id, run_id=run_id)


@router.get("/static/{name}")
async def static(name: str, known: Annotated[str, Header(alias="if-none-match")] = "") -> Response:
    """Return a stylesheet or a script."""
    if (file := _files().get(name)) is None:
        raise HTTPException(404, "File not found.")
    content, media_type, tag = file
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in known:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


async def _page(
    services: Services, *, root: str, view: str, title: str, dag_id: str = "", run_id: str = ""
) -> HTMLResponse:
    fields = {"root": root, "view": view, "title": title, "dag_id": dag_id, "run_id": run_id}
    content = _template().substitute({name: html.escape(value, quote=True) for name, value in fields.items()})
    return HTMLResponse(content, headers={"Content-Security-Policy": _policy(await _origins(services))})


def _policy(origins: list[str]) -> str:
    """Return what the page may do; images are redirected to S3, which the policy is asked for again."""
    images = " ".join(["'self'", *origins])
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src {images}; "
        "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )


async def _origins(services: Services) -> list[str]:
    if not services.redirects:
        return []
    try:
        objects = await services.store.objects()
        return await asyncio.to_thread(objects.origins)
    except HTTPException as error:
        # The page still tells what there is, and that S3 is not to be had.
        log.warning("The gallery cannot access S3: %s", error.detail)
        return []


@cache
def _template() -> Template:
    return Template((_STATIC / _PAGE).read_text("utf-8"))


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Return content, media type and entity tag of every file by its name."""
    files = {path.name: path for path in _STATIC.iterdir() if path.suffix in _MEDIA_TYPES}
    contents = {name: path.read_bytes() for name, path in files.items()}
    return {
        name: (content, _MEDIA_TYPES[files[name].suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
        for name, content in contents.items()
    }
