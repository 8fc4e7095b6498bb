"""The command `crossband serve`: a page to look at scenes and to translate them."""

from __future__ import annotations

import argparse
from typing import Any

from crossband.cli.options import add_options, parsed_options
from crossband.errors import CrossbandError
from crossband.translate.options import TileOptions
from crossband.web.settings import ServeOptions, Settings, default_models


def add_serve(sub: Any) -> None:
    """Add the command to the parser's commands."""
    p = sub.add_parser(
        "serve",
        help="open a page in the browser to look at scenes and translate them",
        epilog="The page works offline. Jobs that a kill interrupted continue at the next start "
        "with the same --folder. See docs/web.md.",
    )
    p.set_defaults(run=_serve)
    add_options(p, ServeOptions)
    p.add_argument(
        "--model",
        action="append",
        help="offer this model: a bundled name, a folder or hf://owner/name; may be repeated "
        "(default: all bundled ones)",
    )
    g = p.add_argument_group("computing")
    add_options(g, TileOptions, ("device", "precision", "tile"))


def _serve(a: argparse.Namespace) -> int:
    try:
        from crossband.web.serve import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "anyio"):
            raise
        raise CrossbandError(
            f"the page needs {error.name}, which is not installed: pip install 'crossband[web]'"
        ) from None
    options = parsed_options(ServeOptions, a)
    models = tuple(a.model or default_models())
    settings = Settings.of(options, models, parsed_options(TileOptions, a))
    serve(settings, options.host, options.port, options.prefix)
    return 0
