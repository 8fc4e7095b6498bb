"""Limits for files from others, and the environment variables that raise them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from crossband.errors import CrossbandError


def check_whole_numbers(*variables: str) -> None:
    """Raise CrossbandError for an environment variable that is set, but to no whole number."""
    for name in variables:
        text = os.environ.get(name)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 19):
            raise CrossbandError(f"{name}={text}: a whole number is needed")


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
