"""The hops of one download: followed by hand, each as strictly checked as the first."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin

from airflow_provider_imagegen.exceptions import DownloadFailed
from airflow_provider_imagegen.landing.download.hosts import Place, shown

MAX_REDIRECTS = 3
"""Redirects that are followed."""
_REDIRECTS = {301, 302, 303, 307, 308}


class Journey:
    """Where one download is: at its address, or where that redirects to.

    :param url: The result's address.
    :param allow_insecure: Whether https may redirect to http.
    :raises DownloadFailed: If it is no address to fetch from.
    """

    def __init__(self, url: str, allow_insecure: bool) -> None:
        self._start = url
        self._allow_insecure = allow_insecure
        self._redirects = 0
        self.place = self._place_of(url)

    def __str__(self) -> str:
        if not self._redirects:
            return shown(self._start)
        return f"{shown(self._start)}, redirected to {shown(self.place.url)} (redirect {self._redirects}),"

    def is_redirected(self, status: int, headers: Mapping[str, str]) -> bool:
        """Go where a response leads.

        :return: Whether it leads anywhere.
        :raises DownloadFailed: If it leads where downloads do not go.
        """
        location = headers.get("location")
        if status not in _REDIRECTS or not location:
            return False
        if self._redirects == MAX_REDIRECTS:
            raise DownloadFailed(f"{shown(self._start)} redirects more than {MAX_REDIRECTS} times")
        place = self._redirect_to(location)
        if (self.place.scheme, place.scheme) == ("https", "http") and not self._allow_insecure:
            raise DownloadFailed(
                f"{self} redirects from https to {shown(place.url)}, which anybody on the way can read and change: "
                "set the connection's allow_insecure_results if it is meant to"
            )
        self._redirects += 1
        self.place = place
        return True

    def _redirect_to(self, location: str) -> Place:
        try:
            url = urljoin(self.place.url, location)
        except ValueError:
            raise DownloadFailed(f"{self} redirects to what is no address") from None
        return self._place_of(url)

    def _place_of(self, url: str) -> Place:
        try:
            return Place.of(url)
        except ValueError as error:
            what = "is" if url == self._start else f"redirects to {shown(url)}, which is"
            raise DownloadFailed(f"{shown(self._start)} {what} no address to fetch from: {error}") from None
