"""A page for each command with all of its options, from the parser of the command line."""

from __future__ import annotations

import argparse

from crossband.cli.main import _parser
from crossband.cli.parser import Parser
from site_pages.markdown import cell, escape, table


def pages() -> dict[str, str]:
    """Return name -> text of a page for each command, and one that lists them."""
    commands = _parser().commands
    listed = "".join(f"commands/{name}\n" for name in commands)
    helps = _helps(_parser())
    rows = [[f"[`crossband {name}`](commands/{name}.md)", cell(helps[name])] for name in commands]
    index = (
        "# Which options does a command have?\n\n"
        "These pages are made from the parser of the command line. `crossband COMMAND --help` "
        "prints the same.\n\n"
        + table(["command", "what it does"], rows)
        + f"```{{toctree}}\n:hidden:\n\n{listed}```\n"
    )
    made = {"commands": index}
    for name, command in commands.items():
        made[f"commands/{name}"] = _page(name, command, helps[name])
    return made


def _helps(parser: Parser) -> dict[str, str]:
    """Return the line of help of each subcommand."""
    found = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return {a.dest: a.help or "" for action in found for a in action._choices_actions}


def _page(name: str, command: Parser, line: str) -> str:
    text = f"# `crossband {name}`\n\n{_sentence(line)}\n\n"
    if not command.commands:
        return text + _options(command)
    helps = _helps(command)
    for sub, parser in command.commands.items():
        if not parser.deprecated:
            text += f"## `crossband {name} {sub}`\n\n{_sentence(helps[sub])}\n\n"
            text += _options(parser)
    return text


def _sentence(line: str) -> str:
    line = escape(line).strip()
    return line[:1].upper() + line[1:] + ("" if line.endswith((".", ")")) else ".")


def _options(parser: Parser) -> str:
    """Return the usage, a table for each group of options, and the closing words of a parser."""
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    required = [a for a in parser._actions if a.required or not a.option_strings]
    words = [_called(a) for a in required if not isinstance(a, argparse._SubParsersAction)]
    program = usage.split(" [")[0].split(" -")[0].split(" <")[0]
    program = " ".join(w for w in program.split() if w.islower())
    text = f"```\n{' '.join([program, *words, '[options]'])}\n```\n\n"
    for group in parser._action_groups:
        shown = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        shown = [a for a in shown if not isinstance(a, argparse._HelpAction)]
        if not shown:
            continue
        title = {"positional arguments": "arguments", "options": "options"}.get(
            str(group.title), str(group.title)
        )
        rows = [[_called_in_table(a), _default(a), cell(_help(a))] for a in shown]
        text += f"**{title[:1].upper()}{title[1:]}**\n\n"
        text += table(["option", "default", "meaning"], rows)
    for name, choice in _sublayouts(parser):
        text += f"**`{name}`**: {_sentence(choice)}\n\n"
    return text + (f"{escape(parser.epilog)}\n\n" if parser.epilog else "")


def _sublayouts(parser: Parser) -> list[tuple[str, str]]:
    return list(_helps(parser).items())


def _metavar(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.metavar or action.dest.upper()


def _called(action: argparse.Action) -> str:
    """Return an option as it is typed, in its shortest form."""
    if not action.option_strings:
        return _metavar(action) if action.required else f"[{_metavar(action)}]"
    return f"{action.option_strings[0]} {_metavar(action)}".strip()


def _called_in_table(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return "`LAYOUT`"
    if not action.option_strings:
        return f"`{_metavar(action)}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    value = _metavar(action)
    return names + (f" `{value}`" if value else "")


def _default(action: argparse.Action) -> str:
    if action.default in (None, False, argparse.SUPPRESS, [], ()) or action.nargs == 0:
        return "required" if action.required and action.option_strings else ""
    return f"`{action.default}`"


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    return text % {**vars(action), "prog": "crossband"} if "%(" in text else text.replace("%%", "%")
