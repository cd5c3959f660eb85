"""
Files that libraries read again for every new client, read once a process.

Tests make hundreds of clients. Botocore's description of S3 is 0.2 s of JSON, and the certificate authorities that
every HTTP client loads, also one that only ever speaks plain HTTP, take 0.03 s.
"""

import ssl
from functools import cache
from typing import Any

import certifi
from botocore.loaders import JSONFileLoader, Loader


def share_descriptions() -> None:
    """Have all boto3 sessions of this process share what the first one reads, and its list of all services."""
    load_file, list_services = cache(JSONFileLoader().load_file), cache(Loader().list_available_services)
    JSONFileLoader.load_file = lambda _, path: load_file(path)
    Loader.list_available_services = lambda _, type_name: list_services(type_name)


def share_authorities() -> None:
    """Have all HTTP clients of this process that trust certifi's authorities share one TLS context."""
    create, everybody = ssl.create_default_context, certifi.where()
    shared = cache(lambda: create(cafile=everybody))

    def context(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        is_usual = not args and kwargs == {"cafile": everybody}
        return shared() if is_usual else create(*args, **kwargs)

    ssl.create_default_context = context
