"""List prices of vendors: those of the ``genai-prices`` library, from the data that it ships, without a network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from urllib.parse import urlsplit

from airflow_provider_imagegen.catalog.tokens import Tokens

OPENAI = "openai"
"""The one vendor among the gateways whose prices the library knows."""

_HOSTS = {"api.openai.com": OPENAI}
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class Listed:
    """The prices that a vendor lists for a model, in USD."""

    vendor: str
    model: str

    def of(self, tokens: Tokens) -> Decimal | None:
        """Return what so many tokens cost, or ``None`` if the library cannot tell."""
        # Here, because the library takes some tenths of a second to import, and most connections never ask it.
        from genai_prices import Usage, calc_price

        usage = Usage(
            input_tokens=tokens.input_text + tokens.input_image,
            input_image_tokens=tokens.input_image,
            output_tokens=tokens.output_text + tokens.output_image,
            output_image_tokens=tokens.output_image,
        )
        try:
            return calc_price(usage, self.model, provider_id=self.vendor).total_price
        except (LookupError, ValueError, ArithmeticError):
            # Unknown, not free: a budget must refuse what has no price.
            return None


def vendor_of(base_url: str) -> str | None:
    """Return the vendor to whom a gateway's address belongs, or ``None``."""
    return _HOSTS.get(urlsplit(base_url).hostname or "")


@cache
def listed(vendor: str, model: str) -> Listed | None:
    """Return what a vendor lists for a model, or ``None`` if the library knows nothing of it.

    :param model: Its name as users write it: with another's prefix (``openai/…``), or of a certain day.
    """
    name = model.rpartition("/")[2]
    for candidate in dict.fromkeys((name, _DATE.sub("", name))):
        price = Listed(vendor, candidate)
        if price.of(Tokens(input_text=1, output_image=1)):
            return price
    return None
