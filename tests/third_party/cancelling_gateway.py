"""A gateway that can cancel, as another package would bring it: the emulator's tasks, and its cancel call."""

from __future__ import annotations

import dataclasses

import httpx

from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway


class CancellingGateway(AceDataCloudGateway):
    name = "cancelling"
    hosts = ()
    capabilities = dataclasses.replace(AceDataCloudGateway.capabilities, cancel=True)

    def cancel(self, task_id: str) -> httpx.Request:
        return self.request(self.url(f"/_emulator/tasks/{task_id}/cancel"), {})
