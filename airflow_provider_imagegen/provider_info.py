"""What Airflow's provider manager learns about this package, without importing its hooks."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in Airflow's ``provider_info`` schema."""
    integration = "Image generation"
    return {
        "package-name": "airflow-provider-imagegen",
        "name": "Image generation",
        "description": "Generate images with any image API and land them in S3.",
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://docs.acedata.cloud/",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [
                    "airflow_provider_imagegen.operators.imagegen",
                    "airflow_provider_imagegen.operators.batch",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": integration,
                "python-modules": ["airflow_provider_imagegen.hooks.imagegen"],
            }
        ],
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": ["airflow_provider_imagegen.triggers.imagegen"],
            }
        ],
        "cli": ["airflow_provider_imagegen.cli.definition.get_imagegen_cli_commands"],
        "connection-types": [
            {
                "connection-type": "imagegen",
                "hook-class-name": "airflow_provider_imagegen.hooks.imagegen.ImageGenHook",
                "hook-name": integration,
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "port"],
                    "relabeling": {"host": "Base URL", "password": "API token"},
                    "placeholders": {"host": "https://api.acedata.cloud"},
                },
                "conn-fields": _connection_fields(),
            }
        ],
    }


def _connection_fields() -> dict[str, dict[str, Any]]:
    return {
        "gateway": {
            "label": "Gateway",
            "description": "Which API the base URL speaks; empty lets the host decide.",
            "schema": {
                "type": ["string", "null"],
                "examples": ["acedatacloud", "apigo", "nano_banana", "openai"],
            },
        },
        "submit_path": {
            "label": "Submit path",
            "description": "Path of the generation call, if not the gateway's usual one.",
            "schema": {"type": ["string", "null"]},
        },
        "tasks_path": {
            "label": "Tasks path",
            "description": "Path of the task look-up, if not the gateway's usual one.",
            "schema": {"type": ["string", "null"]},
        },
        "timeout": {
            "label": "Answer timeout (seconds)",
            "description": "How long the gateway may stay silent; empty leaves it to the gateway.",
            "schema": {"type": ["number", "null"], "minimum": 1},
        },
        "headers": {
            "label": "Headers",
            "description": "Headers to add to every call, as a JSON object.",
            "schema": {"type": ["object", "null"]},
        },
        "max_in_flight": {
            "label": "Requests in flight",
            "description": "How many requests may run at once (default 10).",
            "schema": {"type": ["integer", "null"], "minimum": 1},
        },
        "visibility_grace": {
            "label": "Visibility grace (seconds)",
            "description": "How long an accepted request may stay invisible to look-ups (default 60).",
            "schema": {"type": ["number", "null"], "minimum": 1},
        },
        "private_result_hosts": {
            "label": "Private result hosts",
            "description": "Host names, addresses or networks, with commas between, from which results may be fetched "
            "although they are not public.",
            "schema": {"type": ["string", "null"]},
        },
        "allow_insecure_results": {
            "label": "Allow insecure results",
            "description": "Whether a result's https address may redirect to http (default false).",
            "schema": {"type": ["boolean", "null"]},
        },
        "verify": {
            "label": "Verify TLS",
            "description": "true, false, or the path of a CA bundle (default true).",
            "schema": {"type": ["string", "null"]},
        },
        "proxy": {
            "label": "Proxy",
            "description": "Proxy for calls to the gateway and for downloads.",
            "schema": {"type": ["string", "null"], "format": "password"},
        },
    }
