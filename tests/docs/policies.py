"""The IAM policies that the documentation offers, and logins to the test's S3 server that may do what they allow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from tests.docs.pages import DOCS
from tests.stack.object_store import Identity

COMPONENTS = ("worker", "triggerer", "API server")
BUCKET = "my-images"
IMAGES, LEDGER = "imagegen", "_imagegen/ledger"

# SeaweedFS knows coarser actions.
_ALLOWS = {"s3:GetObject": "Read", "s3:GetObjectVersion": "Read", "s3:PutObject": "Write", "s3:ListBucket": "List"}


def statements(component: str) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Yield what a component's policy allows: actions, and buckets or keys that begin with a bucket."""
    policy = json.loads((DOCS / "operations" / f"{_name(component)}.json").read_text())
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        resources = (resource.removeprefix("arn:aws:s3:::") for resource in statement["Resource"])
        yield frozenset(statement["Action"]), frozenset(resources)


def actions(component: str) -> set[str]:
    """Return all actions of a component's policy."""
    return {action for allowed, _ in statements(component) for action in allowed}


def identity(component: str, bucket: str, prefixes: Mapping[str, str]) -> Identity:
    """Return a login that may do what a policy allows, with other prefixes in another bucket.

    :param prefixes: The prefix to use, for each of the policy's.
    """
    allowed = {
        f"{_ALLOWS[action]}:{_moved(resource, bucket, prefixes)}"
        for acts, resources in statements(component)
        for action in acts
        for resource in resources
    }
    return Identity(_name(component), f"secret-{_name(component)}", tuple(sorted(allowed)))


def _name(component: str) -> str:
    return f"iam-{component.lower().replace(' ', '-')}"


def _moved(resource: str, bucket: str, prefixes: Mapping[str, str]) -> str:
    place, _, key = resource.partition("/")
    assert place == BUCKET
    return f"{bucket}/{prefixes[key.removesuffix('/*')]}/*" if key else bucket
