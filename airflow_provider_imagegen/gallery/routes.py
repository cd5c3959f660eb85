"""The gallery's data: lists of cards, images and their small versions. Addresses are those of ``addresses``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError

from airflow_provider_imagegen.gallery.access import AirflowApiDep
from airflow_provider_imagegen.gallery.airflow_api import Instance
from airflow_provider_imagegen.gallery.cards import Status, Wish
from airflow_provider_imagegen.gallery.listing import Listing, Page, position_text, read_position
from airflow_provider_imagegen.gallery.run_pages import START, Position
from airflow_provider_imagegen.gallery.services import ServicesDep
from airflow_provider_imagegen.schemas import LandedImage
from airflow_provider_imagegen.schemas.base import StrictModel

router = APIRouter()

_OF_RUN, _OF_NEWEST = len(START), 1 + len(START)
_IMAGE = "/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}/images/{index}"
_IMAGE_OF_ROW = "/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}/rows/{row}/images/{index}"

Limit = Annotated[int, Query(ge=1, le=200)]
Text = Annotated[str, Query(max_length=200)]
KnownTags = Annotated[str, Header(alias="if-none-match")]


class Place(StrictModel):
    """Which image a path means."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = Field(ge=-1)
    row: int | None = Field(default=None, ge=0)
    index: int = Field(ge=0)


def _wish(model: Text = "", status: Status = "", text: Text = "") -> Wish:
    return Wish(model=model, status=status, text=text)


async def _image(
    request: Request, api: AirflowApiDep, services: ServicesDep, at: Annotated[int | None, Query(ge=0)] = None
) -> LandedImage:
    try:
        place = Place.model_validate(request.path_params)
    except ValidationError:
        raise HTTPException(404, "Image not found.") from None
    instance = Instance(place.dag_id, place.run_id, place.task_id, place.map_index)
    return await services.reader.image(api, instance, place.index, place.row, at)


WishDep = Annotated[Wish, Depends(_wish)]
ImageDep = Annotated[LandedImage, Depends(_image)]


@router.get("/dags/{dag_id}/runs/{run_id}/images")
async def images_of_run(
    *,
    dag_id: str,
    run_id: str,
    wish: WishDep,
    api: AirflowApiDep,
    services: ServicesDep,
    after: str = "",
    limit: Limit = 60,
) -> JSONResponse:
    """List the cards of a run."""
    run = await api.run(dag_id, run_id)
    page = await Listing(api, services.reader).of_run(dag_id, run_id, wish, _start(after, _OF_RUN), limit)
    return _listed(page, is_finished=run.is_finished)


@router.get("/images")
async def newest_images(
    *,
    wish: WishDep,
    api: AirflowApiDep,
    services: ServicesDep,
    dag_id: Text = "",
    after: str = "",
    limit: Limit = 60,
) -> JSONResponse:
    """List the cards of the newest runs of all DAGs that the user may read, or of one of them."""
    start = _start(after, _OF_NEWEST)
    page = await Listing(api, services.reader).of_newest(dag_id or None, wish, start, limit)
    return _listed(page, is_finished=True)


@router.get(_IMAGE)
@router.get(_IMAGE_OF_ROW)
async def image_path(image: ImageDep, services: ServicesDep) -> Response:
    """Send the browser to an image."""
    return await services.delivery.whole(image, as_download=False)


@router.get(f"{_IMAGE}/download")
@router.get(f"{_IMAGE_OF_ROW}/download")
async def image_to_keep(image: ImageDep, services: ServicesDep) -> Response:
    """Send the browser to an image, which it is to keep as a file."""
    return await services.delivery.whole(image, as_download=True)


@router.get(f"{_IMAGE}/thumbnail")
@router.get(f"{_IMAGE_OF_ROW}/thumbnail")
async def thumbnail(image: ImageDep, services: ServicesDep, known: KnownTags = "") -> Response:
    """Return the small version of an image."""
    return await services.delivery.thumbnail(image, known)


def _start(after: str, length: int) -> Position | None:
    if not after:
        return None
    if (position := read_position(after, length)) is None:
        raise HTTPException(422, 'invalid query parameter "after" (expected the value of an earlier page)')
    return position


def _listed(page: Page, *, is_finished: bool) -> JSONResponse:
    content: dict[str, Any] = {
        "cards": [card.as_json() for card in page.cards],
        "after": None if page.then is None else position_text(page.then),
        "warnings": page.warnings,
        "is_finished": is_finished,
    }
    return JSONResponse(content)
