"""Botocore's descriptions of S3, read once a process: 0.2 s of JSON, which every new session would read again."""

from functools import cache

from botocore.loaders import JSONFileLoader, Loader


def read_descriptions_once() -> None:
    """Have all sessions of this process share what the first one reads, and its list of all services."""
    load_file, list_services = cache(JSONFileLoader().load_file), cache(Loader().list_available_services)
    JSONFileLoader.load_file = lambda _, path: load_file(path)
    Loader.list_available_services = lambda _, type_name: list_services(type_name)
