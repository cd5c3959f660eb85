"""Who may see what: every route asks Airflow whether this user may read the XComs of this DAG."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, HTTPException, Request

from airflow_provider_imagegen.gallery.airflow_api import NO_IDS, AirflowApi
from airflow_provider_imagegen.gallery.asgi import HOST

_TOKEN_SECONDS = 60


def _refuse_wildcards(request: Request) -> None:
    """Refuse ids that are none: the permission is checked for one DAG, and paths must mean what they say."""
    if not NO_IDS.isdisjoint(request.path_params.values()):
        raise HTTPException(404, "DAG, run or task not found.")


async def _airflow_api(request: Request, user: GetUserDep) -> AirflowApi:
    """Return Airflow's API with the rights of the user.

    By a token of its own, which is good for a minute: the session's may be about to be renewed.
    """
    server, root_path = request.scope[HOST]
    token = get_auth_manager().generate_jwt(user, expiration_time_in_seconds=_TOKEN_SECONDS)
    return AirflowApi(server, root_path, token)


#: What every route depends on: 401 without a login, 403 without permission. Takes ``dag_id`` from path or query;
#: where there is none, the user must be allowed to read XComs at all, and Airflow's API filters what they get.
REQUIRED = [Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM)), Depends(_refuse_wildcards)]

AirflowApiDep = Annotated[AirflowApi, Depends(_airflow_api)]
