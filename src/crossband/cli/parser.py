"""An argparse parser with errors in one line that suggest the nearest option."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from crossband.core.messages import say
from crossband.errors import CrossbandError, nearest


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with errors in one line that suggest the nearest option.

    It takes no abbreviations: with a later option, one could mean another, or nothing.

    Attributes:
        commands: subcommands by name.
        deprecated: an old name of a command, which hints for mistyped names do not offer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})
        self.commands: dict[str, Parser] = {}
        self.deprecated = False

    def error(self, message: str) -> NoReturn:
        """Raise CrossbandError, which `main` prints in one line with exit code 2."""
        for kind, words in (("int", "a whole number"), ("float", "a number")):
            message = re.sub(rf"invalid {kind} value: (.*)$", rf"\1 is not {words}", message)
        raise CrossbandError(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help or version."""
        say(message.removesuffix("\n"), error=file is sys.stderr)

    def check_unknown(self, unknown: Sequence[str]) -> None:
        """Raise CrossbandError for unknown options."""
        if unknown:
            options = [o for a in self._actions for o in a.option_strings if o.startswith("--")]
            name = unknown[0].split("=")[0]
            raise CrossbandError(f"unknown option {unknown[0]!r}: {nearest(name, options)}")

    def check_values(self, arguments: argparse.Namespace) -> None:
        """Raise CrossbandError for an option or input with an empty value."""
        for action in self._actions:
            value = getattr(arguments, action.dest, None)
            # argparse makes an empty list of `--batch=--`.
            lost = value == [] != action.default and action.nargs is None
            if lost or "" in (value if isinstance(value, list) else [value]):
                name = action.option_strings[-1:] or [str(action.metavar or action.dest)]
                raise CrossbandError(f"{name[0]} is empty; give a value, or leave it out")

    def chosen(self, words: Sequence[str]) -> Parser:
        """Return the parser of the command in the first words, as `data degrade`."""
        if not self.commands or not words or words[0].startswith("-"):
            return self
        if words[0] not in self.commands:
            known = [name for name, parser in self.commands.items() if not parser.deprecated]
            raise CrossbandError(f"unknown command {words[0]!r}: {nearest(words[0], known)}")
        return self.commands[words[0]].chosen(words[1:])
