"""Links within the repository and their anchors are valid, on GitHub and in the built site."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import DOCS, Page, all_pages
from tests.stack.environment import ROOT

PAGES = all_pages()


def _broken(page: Page, link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None if parts.scheme in {"http", "https", "mailto"} else f"{link}: no such scheme"
    target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
    if not target.exists() or not target.is_relative_to(ROOT):
        return f"{link}: there is no {target}"
    if parts.fragment and (target.suffix != ".md" or parts.fragment not in Page(target).anchors()):
        return f"{link}: no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    broken = [words for link in page.links() if (words := _broken(page, link))]
    assert broken == []


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    page = Page(DOCS / "index.md")
    assert _broken(page, "no-such-page.md")
    assert _broken(page, "connections.md#no-such-heading")
    assert _broken(page, "connections.md#the-connection-to-s3") is None
