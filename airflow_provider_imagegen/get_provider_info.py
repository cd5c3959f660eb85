"""What Airflow's provider manager learns about this package, without importing its hooks."""

from __future__ import annotations

from importlib.metadata import entry_points
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
                    "airflow_provider_imagegen.operators.landing",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": integration,
                "python-modules": ["airflow_provider_imagegen.sensors.imagegen"],
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
        "task-decorators": [
            {
                "name": "generate_image",
                "class-name": "airflow_provider_imagegen.decorators.imagegen.generate_image_task",
            }
        ],
        "extra-links": [
            "airflow_provider_imagegen.links.imagegen.ImagesLink",
            "airflow_provider_imagegen.links.imagegen.S3Link",
            "airflow_provider_imagegen.links.imagegen.GatewayTaskLink",
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
        "config": {"imagegen": _configuration()},
    }


def _gateways() -> list[str]:
    """Return the names of all installed gateways, without importing them."""
    return sorted({entry.name for entry in entry_points(group="airflow_provider_imagegen.gateways")})


def _connection_fields() -> dict[str, dict[str, Any]]:
    return {
        "gateway": {
            "label": "Gateway",
            "description": "Which API the base URL speaks.",
            "schema": {
                "type": ["string", "null"],
                # The form makes a drop-down list of these, and a field for any text of examples.
                "enum": [None, *_gateways()],
                "values_display": {"null": "(as the base URL's host tells)"},
            },
        },
        "submit_path": {
            "label": "Submit path",
            "description": "Path of the generation call, if not the gateway's usual one.",
            "schema": {"type": ["string", "null"]},
        },
        "tasks_path": {
            "label": "Tasks path",
            "description": "Path of the task lookup, if not the gateway's usual one.",
            "schema": {"type": ["string", "null"]},
        },
        "timeout": {
            "label": "Response timeout (seconds)",
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
            "description": "How long an accepted request may stay invisible to lookups (default 60).",
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
        "prices": {
            "label": "Prices",
            "description": "What images cost, by model, as a JSON object: "
            '{"gpt-image-1": {"per_image": {"1024x1024:high": "0.17", "default": "0.25"}}}.',
            "schema": {"type": ["object", "null"]},
        },
        "currency": {
            "label": "Currency",
            "description": "What prices and budgets are in (default USD).",
            "schema": {"type": ["string", "null"], "minLength": 3, "maxLength": 12},
        },
        "list_prices": {
            "label": "List prices",
            "description": "Whether the gateway bills what the model's vendor lists; empty lets the host decide.",
            "schema": {"type": ["boolean", "null"]},
        },
    }


def _configuration() -> dict[str, Any]:
    return {
        "description": "Image generation: deferral, and the gallery in Airflow's UI.",
        "options": {
            "minimum_deferral": {
                "description": "Seconds a deferred task waits at least. The scheduler fails a task that returns before "
                "it has handled the end of the task's worker process; raise this where its loop takes longer.\n",
                "version_added": "0.1.0",
                "type": "float",
                "example": "30",
                "default": "7",
            },
            "gallery": {
                "description": "Whether Airflow's UI has the gallery. Off, the API server answers none of its "
                "addresses, and tasks have no link to it.\n",
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "True",
            },
            "gallery_aws_conn_id": {
                "description": "AWS connection by which the API server reads the images that it shows.\n",
                "version_added": "0.1.0",
                "type": "string",
                "example": "aws_gallery",
                "default": "aws_default",
            },
            "gallery_redirects": {
                "description": "Whether browsers fetch whole images from S3 themselves, by addresses that are good "
                "for some minutes; if not, the API server hands them out, for S3 that browsers cannot reach.\n",
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "True",
            },
            "gallery_cache_directory": {
                "description": "Where the API server keeps thumbnails; empty for a directory of its own under the "
                "system's temporary one. Nobody else may be able to write there.\n",
                "version_added": "0.1.0",
                "type": "string",
                "example": "/var/cache/airflow-imagegen",
                "default": "",
            },
            "gallery_cache_megabytes": {
                "description": "How much of them it keeps, in MiB; a thumbnail takes about 20 KiB.\n",
                "version_added": "0.1.0",
                "type": "integer",
                "example": None,
                "default": "256",
            },
        },
    }
