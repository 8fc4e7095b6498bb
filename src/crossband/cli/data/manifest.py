"""`crossband data manifest`: write the manifest of a dataset on a disk."""

from __future__ import annotations

import argparse
import inspect
import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from crossband.core.messages import say
from crossband.core.warned import warn
from crossband.errors import CrossbandError

if TYPE_CHECKING:
    from crossband.cli.parser import Parser
    from crossband.data.layouts import Layout


#: The name of the command in version 0.1. Version 0.3 removes it.
OLD_NAME = "index"


def add_options(sub: Any) -> None:
    """Add the parser of `manifest`, and the one of its old name, which no help text lists."""
    # The options depend on the layout. No argument begins with this prefix character, so argparse
    # passes all arguments on as they are.
    take_all: dict[str, Any] = {"prefix_chars": "\0", "add_help": False}
    p = sub.add_parser("manifest", help="write the manifest of a dataset on a disk", **take_all)
    old = sub.add_parser(OLD_NAME, **take_all)
    old.deprecated = True
    p.set_defaults(run=_manifest)
    old.set_defaults(run=_old_name)
    for parser in (p, old):
        parser.add_argument("words", nargs="*")


def _old_name(a: argparse.Namespace) -> int:
    warn(f"'data {OLD_NAME}' is deprecated: call 'data manifest' instead")
    return _manifest(a)


def _manifest(a: argparse.Namespace) -> int:
    from crossband.core.registry import build
    from crossband.data import layouts, manifest

    if not a.words or a.words[0] in ("-h", "--help"):
        say(_layouts())
        return 0
    if a.words[0].startswith("-"):
        raise CrossbandError(
            "data manifest: name a layout first, as in crossband data manifest sen12 ."
        )
    layout = layouts.get(a.words[0])
    parser = _layout_parser(layout)
    b, unknown = parser.parse_known_args(a.words[1:])
    parser.check_unknown(unknown)
    manifest.check_writable(b.output, b.overwrite)
    options = {k: v for k, v in vars(b).items() if k not in ("root", "output", "overwrite")}
    found = layouts.build_manifest(build(layouts.Layout, layout.name, options), b.root)
    manifest.write(found.table, b.output, overwrite=b.overwrite)
    say("\n".join([*found.lines(), b.output]))
    return 0


def _layouts() -> str:
    """List the layouts."""
    from crossband.data import layouts

    names = layouts.names()
    width = max(map(len, names))
    return "\n".join(
        [
            "usage: crossband data manifest LAYOUT ROOT -o MANIFEST [--overwrite] "
            "[options of LAYOUT]",
            "",
            "Write the manifest of a dataset as it lies on a disk; no image is copied or changed.",
            "",
            "layouts ('crossband data manifest LAYOUT --help' describes one and its options):",
            *(f"  {name:{width}}  {layouts.get(name).origin}" for name in names),
        ]
    )


def _layout_parser(layout: type[Layout]) -> Parser:
    """Make the options of a layout from its constructor's arguments and its docstring."""
    from crossband.cli.parser import Parser

    text, _, arguments = inspect.cleandoc(layout.__doc__ or "").partition("\nArgs:\n")
    p = Parser(
        prog=f"crossband data manifest {layout.name}",
        description=f"{layout.origin}\n\n{text}".replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("root", metavar="ROOT", help="where the dataset is")
    p.add_argument("-o", "--output", required=True, help="the manifest, .parquet or .csv")
    p.add_argument("--overwrite", action="store_true", help="replace an existing manifest")
    group = p.add_argument_group(f"options of the layout {layout.name}")
    helps = _helps(arguments)
    hints = get_type_hints(layout.__init__)
    for name, parameter in inspect.signature(layout.__init__).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        kind, default, said = hints.get(name, str), parameter.default, helps.get(name, "")
        option: dict[str, Any] = {"default": default}
        if kind is bool:
            option["action"] = argparse.BooleanOptionalAction
        elif get_origin(kind) is Literal:
            option |= {"type": type(get_args(kind)[0]), "choices": get_args(kind)}
        else:
            option |= {"type": kind, "metavar": name.upper()}
        if default is parameter.empty:
            option |= {"default": None, "required": True}
        elif default != "" and kind is not bool:
            said += f" (default {default})"
        group.add_argument(f"--{name.replace('_', '-')}", help=said.replace("%", "%%"), **option)
    return p


def _helps(arguments: str) -> dict[str, str]:
    """Read `name: text` from the part `Args` of a docstring; a text goes on where indented more."""
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", arguments, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
