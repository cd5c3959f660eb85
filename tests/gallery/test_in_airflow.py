"""The gallery as people meet it. One file: the suite's processes take whole files, and one Airflow is enough."""

import pytest
from airflow import __version__

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

pytestmark = pytest.mark.skipif(__version__.startswith("3.1.0"), reason="There is no gallery in Airflow 3.1.0.")
