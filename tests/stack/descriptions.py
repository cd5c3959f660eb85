"""Botocore's descriptions of S3, read once a process: 0.2 s of JSON, which every new session would read again."""

from functools import cache

from botocore.loaders import JSONFileLoader


def read_descriptions_once() -> None:
    """Have all sessions of this process share what the first one reads."""
    load_file = cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = lambda _, path: load_file(path)
