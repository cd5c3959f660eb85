"""Airflow's simple auth manager, with two more users whose permissions it cannot express.

``guest`` may see only the DAGs called ``gallery_open…``, ``reader`` sees XComs but no task instances.
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

OPEN = "gallery_open"


class PickyAuthManager(SimpleAuthManager):
    def is_authorized_dag(
        self, *, user: SimpleAuthManagerUser, details: Any = None, access_entity: Any = None, **kwargs: Any
    ) -> bool:
        is_closed = details is not None and details.id is not None and not details.id.startswith(OPEN)
        if user.username == "guest" and is_closed:
            return False
        if user.username == "reader" and access_entity is DagAccessEntity.TASK_INSTANCE:
            return False
        return super().is_authorized_dag(user=user, details=details, access_entity=access_entity, **kwargs)
