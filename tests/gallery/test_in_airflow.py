"""The gallery as people meet it. One file: the suite's processes take whole files, and one Airflow is enough."""

from tests.gallery.whole.in_browser import (
    TestAccessibility,
    TestBehindAPathPrefix,
    TestCards,
    TestDetail,
    TestInAirflow,
    TestPermissionInTheBrowser,
    TestRunThatGoesOn,
    TestThousandPictures,
)

__all__ = [
    "TestAccessibility",
    "TestBehindAPathPrefix",
    "TestCards",
    "TestDetail",
    "TestInAirflow",
    "TestPermissionInTheBrowser",
    "TestRunThatGoesOn",
    "TestThousandPictures",
]
