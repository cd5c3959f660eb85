"""The data that travels between the packages: requests, tasks, outputs, landed images, the manifest.

All models are frozen. They are strict on the way out and lenient on the way in: whatever a gateway adds
tomorrow is ignored, and only what is known to be wrong is refused.
"""

from airflow_provider_imagegen.schemas.requests import MAX_PROMPT_IN_LOGS, EditRequest, ImageRequest, ImageSource
from airflow_provider_imagegen.schemas.results import (
    FAILURE,
    CancelContext,
    Failure,
    LandedImage,
    Manifest,
    MissingImage,
    OpenTask,
    Origin,
    Sidecar,
    SlotWait,
    Submission,
)
from airflow_provider_imagegen.schemas.tasks import ImageOutput, ImageTask, TaskFailure, TaskState

__all__ = [
    "FAILURE",
    "MAX_PROMPT_IN_LOGS",
    "CancelContext",
    "EditRequest",
    "Failure",
    "ImageOutput",
    "ImageRequest",
    "ImageSource",
    "ImageTask",
    "LandedImage",
    "Manifest",
    "MissingImage",
    "OpenTask",
    "Origin",
    "Sidecar",
    "SlotWait",
    "Submission",
    "TaskFailure",
    "TaskState",
]
