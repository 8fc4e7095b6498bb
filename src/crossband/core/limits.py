"""Bounds on what a file of others may ask for, and the environment variables that raise them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from crossband.errors import CrossbandError


@dataclass(frozen=True)
class Limit:
    """A bound that a user may raise.

    Attributes:
        variable: the environment variable that raises it.
        default: the bound where the variable is not set.
    """

    variable: str
    default: int

    @property
    def value(self) -> int:
        """The bound.

        Raises:
            CrossbandError: the variable is set to something else than a whole number above 0.
        """
        text = os.environ.get(self.variable, "").strip()
        if not text:
            return self.default
        if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text)):
            raise CrossbandError(f"{self.variable}={text}: a whole number above 0 is needed")
        return int(text)
