"""The native nano-banana endpoint of Ace Data Cloud: aspect ratios and resolutions instead of sizes.

Source: https://docs.acedata.cloud, pages *Nano Banana Images* and *Nano Banana Tasks*.
"""

from __future__ import annotations

from typing import Any

import httpx

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway
from airflow_provider_imagegen.gateways.base import Capabilities
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest

_OWN_PARAMETERS = frozenset({"prompt", "model", "n", "callback_url"})
_RESOLUTIONS = ("1K", "2K", "4K")


class NanoBananaGateway(AceDataCloudGateway):
    """Generates and edits through one endpoint, with the task protocol of Ace Data Cloud.

    ``extra`` takes ``aspect_ratio`` (e.g. ``16:9``) and ``resolution`` (``1K``, ``2K`` or ``4K``).
    """

    name = "nano_banana"
    hosts = ()
    capabilities = Capabilities(
        tasks=True, ids_per_look_up=100, look_up_by_trace_id=True, callbacks=True, edit_urls=True
    )
    default_submit_path = "/nano-banana/images"
    default_edit_path = "/nano-banana/images"
    default_tasks_path = "/nano-banana/tasks"

    def images_per_call(self, request: ImageRequest) -> int:
        """Return how many images one call makes at most."""
        return 4

    def check(self, request: ImageRequest) -> None:
        """Refuse parameters that this endpoint does not have."""
        super().check(request)
        for name, value in request.parameters().items():
            if name not in _OWN_PARAMETERS:
                raise InvalidRequest(
                    name, value, f"nothing, {self.name} has no such parameter; extra takes aspect_ratio and resolution"
                )
        if isinstance(request, EditRequest) and request.mask is not None:
            raise InvalidRequest("mask", "(hidden)", f"nothing, {self.name} edits without one")
        resolution = request.extra.get("resolution")
        if resolution is not None and resolution not in _RESOLUTIONS:
            raise InvalidRequest("extra.resolution", resolution, f"one of {', '.join(_RESOLUTIONS)}")

    def submit(self, request: ImageRequest, trace_id: str) -> httpx.Request:
        """Build the paid call."""
        return self.request(self.submit_url, {"action": "generate", **self._body(request, trace_id)})

    def edit(self, request: EditRequest, trace_id: str) -> httpx.Request:
        """Build the paid call to edit images, which the gateway fetches itself."""
        body = {"action": "edit", "image_urls": [image.url for image in request.images]}
        return self.request(self.edit_url, body | self._body(request, trace_id))

    def _body(self, request: ImageRequest, trace_id: str) -> dict[str, Any]:
        body = super()._body(request, trace_id)
        if "n" in body:
            body["count"] = body.pop("n")
        return body
