"""Untrusted XML (XMP, svg), read without entities, files or URLs, and without keeping the document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from xml.parsers import expat

from airflow_provider_imagegen.landing.formats.parts import BrokenImage

OnStart = Callable[[str, Mapping[str, str], int], None]
"""Called for every start tag with its name (``namespace local``), its attributes and its position in bytes."""

MAX_DEPTH = 1000
"""Most nested elements; expat keeps the name of each that is open, so depth is memory."""


class BadMarkup(BrokenImage):
    """Not well-formed XML, or XML with declarations that can be abused."""


def read_markup(pieces: Iterable[bytes], on_start: OnStart) -> None:
    """Read a document piece by piece; refuse deep nesting, entities and internal subsets."""
    parser = _parser(on_start)
    try:
        for piece in pieces:
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise BadMarkup(f"it is not well-formed XML: {error}") from None
    except BadMarkup:
        raise
    except (LookupError, ValueError) as error:
        raise BadMarkup(f"its encoding cannot be read: {error}") from None


def _parser(on_start: OnStart) -> expat.XMLParserType:
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = 0

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise BadMarkup(f"its elements are nested more than {MAX_DEPTH} deep")
        on_start(name, attributes, parser.CurrentByteIndex)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    # Entities that name each other grow to gigabytes ("billion laughs"), and external ones read local files.
    parser.StartDoctypeDeclHandler = _check_doctype
    parser.EntityDeclHandler = _refuse_entity
    return parser


def _check_doctype(name: str, system_id: str | None, public_id: str | None, has_internal_subset: bool) -> None:
    # Without one it only names the document type, as many drawing programs do; nothing is fetched.
    if has_internal_subset:
        raise BadMarkup("its document type declares something")


def _refuse_entity(*_: object) -> None:
    raise BadMarkup("it declares an entity")
