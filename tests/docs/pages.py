"""Markdown pages taken apart: their blocks of code, their links, their anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from myst_parser.slugs import github_slugify, unique_slug

from tests.stack.environment import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"

_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+?) -->\s*\Z")
_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    :param language: what follows the fence
    :param code: what is in it
    :param line: where it begins, from 1
    :param why_not_run: the reason of the comment above it; None if there is no such comment
    """

    language: str
    code: str
    line: int
    why_not_run: str | None


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        """The path below the checkout."""
        return str(self.path.relative_to(ROOT))

    @cached_property
    def _tokens(self) -> list[Token]:
        return _MARKDOWN.parse(self.path.read_text())

    def blocks(self, *languages: str) -> Iterator[Block]:
        """Yield the blocks in some languages, in order."""
        before: Token | None = None
        for token in self._tokens:
            if token.type == "fence" and token.map is not None and token.info.strip() in languages:
                yield Block(token.info.strip(), token.content, token.map[0] + 1, _reason(before))
            before = token

    def links(self) -> Iterator[str]:
        """Yield where links and images lead."""
        for token in self._tokens:
            for child in token.children or []:
                target = child.attrs.get("href" if child.type == "link_open" else "src")
                if child.type in {"link_open", "image"}:
                    yield str(target)

    def headings(self) -> Iterator[str]:
        """Yield the text of every heading."""
        for heading, words in zip(self._tokens, self._tokens[1:], strict=False):
            if heading.type == "heading_open":
                parts = (child.content for child in words.children or [] if child.type in {"text", "code_inline"})
                yield "".join(parts)

    def anchors(self) -> set[str]:
        """Return the anchors of the headings, as GitHub makes them, and Sphinx as conf.py tells it."""
        anchors: set[str] = set()
        for text in self.headings():
            anchors.add(unique_slug(github_slugify(text), anchors))
        return anchors

    def sections(self, level: int) -> dict[str, str]:
        """Return the text under every heading of a level, by heading."""
        parts = re.split(rf"^{'#' * level} (.+)$", self.path.read_text(), flags=re.MULTILINE)
        return {
            title.strip("`"): re.split(r"^#", text, maxsplit=1, flags=re.MULTILINE)[0]
            for title, text in zip(parts[1::2], parts[2::2], strict=True)
        }


def all_pages() -> list[Page]:
    """Return the README and every page of the docs."""
    pages = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
    return [Page(path) for path in (README, *pages)]


def _reason(before: Token | None) -> str | None:
    if before is None or before.type != "html_block":
        return None
    found = _NOT_RUN.search(before.content)
    return found["reason"] if found else None
