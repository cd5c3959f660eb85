"""Links on a task's page: to the run's images, to AWS's console, to the gateway. Cheap to import at DAG parse."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf

from airflow_provider_imagegen.gallery.addresses import run_tab
from airflow_provider_imagegen.gallery.settings import is_enabled

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskInstanceKey
    from airflow.sdk import BaseOperator

_CONSOLES = {"amazonaws.com": "https://console.aws.amazon.com", "amazonaws.com.cn": "https://console.amazonaws.cn"}
_GOVERNMENT_CONSOLE = "https://console.amazonaws-us-gov.com"


class ImagesLink(BaseOperatorLink):
    """Leads to the tab with the images of the run."""

    name = "Images"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the tab's address, relative without ``[api] base_url``; empty where the gallery is off."""
        if not is_enabled():
            return ""
        base_url = conf.get("api", "base_url", fallback="") or ""
        return f"{base_url.rstrip('/')}{run_tab(ti_key.dag_id, ti_key.run_id)}"


class S3Link(BaseOperatorLink):
    """Leads to the images' prefix in AWS's console; there is no such link to stores that are not AWS's."""

    name = "S3"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the console's address; empty if the store is another's, or the task did not get that far."""
        # Airflow calls links in the worker, after every part of a task, and keeps the result as XCom: so this may be
        # what only a running operator knows, and a part that ended before it knew has no link.
        s3_location = getattr(operator, "s3_location", None)
        return "" if s3_location is None else console_address(*s3_location)


class GatewayTaskLink(BaseOperatorLink):
    """Leads to the page on which the gateway shows its task, where it has such pages."""

    name = "Gateway task"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page of the first task that the gateway was given; empty if there is none."""
        return getattr(operator, "gateway_page", None) or ""


def console_address(endpoint: str, bucket: str, prefix: str) -> str:
    """Return the address of a prefix in AWS's console; empty if the endpoint is not AWS's."""
    host = urlsplit(endpoint).hostname or ""
    console = next((page for domain, page in _CONSOLES.items() if host.endswith(f".{domain}")), None)
    if console is None:
        return ""
    if ".us-gov-" in host:
        console = _GOVERNMENT_CONSOLE
    query = f"?{urlencode({'prefix': f'{prefix}/'}, quote_via=quote, safe='/')}" if prefix else ""
    return f"{console}/s3/buckets/{quote(bucket, safe='')}{query}"
