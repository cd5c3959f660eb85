"""The XMP packet that says an image was made by AI: written again, or added to the one that is there.

Source: IPTC Photo Metadata Standard (Digital Source Type, in the Extension schema) and IPTC's guidance on
synthetic media, which search engines follow; XMP specification part 1 (packets may describe a thing in several
``rdf:Description`` elements).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

from airflow_provider_imagegen.landing.formats.parts import NotMarkable
from airflow_provider_imagegen.landing.formats.xml import BadMarkup, read_markup

AI_MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for an image that a trained model made."""
IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMP = "http://ns.adobe.com/xap/1.0/"
_CREATOR_TOOL = f"{_XMP} CreatorTool"
# C2PA data elsewhere, bound to this file's bytes (C2PA specification, "Embedding a reference to the active manifest").
_REMOTE_C2PA = "http://purl.org/dc/terms/ provenance"
_CONTINUED = "http://ns.adobe.com/xmp/note/ HasExtendedXMP"
# The second is the property's former name.
_SOURCE_TYPES = {f"{IPTC_EXTENSION} {name}" for name in ("DigitalSourceType", "DigitalSourcefileType")}
# A model's name is the user's text; one character that XML cannot hold would break the whole packet.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Packet:
    """What a packet states."""

    def __init__(self, content: bytes) -> None:
        # Some tools fill the space they reserved with NUL, which no XML parser takes.
        self.content = content.rstrip(b"\0")
        self._names: set[str] = set()
        self._position: int | None = None
        self._about = ""
        try:
            read_markup([self.content], self._on_start)
        except BadMarkup as error:
            raise NotMarkable(f"the XMP packet cannot be understood: {error}") from None

    @property
    def states_source(self) -> bool:
        """Whether it says how the image was made, whatever it says."""
        return not self._names.isdisjoint(_SOURCE_TYPES)

    @property
    def is_signed(self) -> bool:
        """Whether it refers to C2PA data that is stored elsewhere."""
        return _REMOTE_C2PA in self._names

    def marked(self, model: str | None) -> bytes:
        """Return the packet with the mark in it, all else as it was."""
        if self._position is None or _CONTINUED in self._names:
            raise NotMarkable("the XMP packet has no place for the mark")
        tool = None if _CREATOR_TOOL in self._names else model
        description = _description(self._about, tool)
        content = self.content[: self._position] + description + self.content[self._position :]
        # Read again: in UTF-16, for one, the bytes that were added mean something else.
        if not Packet(content).states_source:
            raise NotMarkable("the XMP packet has no place for the mark")
        return content

    def _on_start(self, name: str, attributes: Mapping[str, str], position: int) -> None:
        # The first description, by its position: written out by an XML library, the packet would lose its layout.
        if self._position is None and f"{_RDF} RDF" in self._names and name == f"{_RDF} Description":
            self._position, self._about = position, attributes.get(f"{_RDF} about", "")
        self._names |= {name, *attributes}


def new_packet(model: str | None) -> bytes:
    """Write a packet that holds the mark."""
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="' + _RDF.encode() + b'">\n'
        + _description("", model)
        + b'</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
    )  # fmt: skip


def _description(about: str, model: str | None) -> bytes:
    tool = f" xmlns:xmp={quoteattr(_XMP)} xmp:CreatorTool={quoteattr(_NOT_XML.sub('', model))}" if model else ""
    text = (
        f"<rdf:Description xmlns:rdf={quoteattr(_RDF)} rdf:about={quoteattr(about)}"
        f" xmlns:Iptc4xmpExt={quoteattr(IPTC_EXTENSION)} Iptc4xmpExt:DigitalSourceType={quoteattr(AI_MADE)}{tool}/>\n"
    )
    return text.encode()
