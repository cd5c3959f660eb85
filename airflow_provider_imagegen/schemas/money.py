"""How amounts of money travel: exact inside, plain JSON numbers in XCom and S3, which anybody can add up."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import PlainSerializer

Money = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]
"""An amount; at most nine decimal places, which a JSON number holds exactly enough to be read back the same."""
