"""Every command line of the documentation is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from crossband.cli.main import _parser
from crossband.model.folder import bundled
from crossband.training import recipe

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in p.parts),
]
#: Of a usage, in which a part is left to the reader.
_OPEN = re.compile(r"\.\.\.|\[-|…| \| |<\w")


def commands(page: Path) -> list[str]:
    """Return the lines of the blocks of a page that call crossband, their continuations joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    blocks += re.findall(r"(?:^    .*\n)+", page.read_text(encoding="utf-8"), re.M)
    text = "\n".join(blocks).replace("\\\n", " ")
    text = re.sub(r"'[^'\n]*\n[^'\n]*'", lambda quoted: quoted[0].replace("\n", " "), text)
    lines = (line.strip().removeprefix("$ ") for line in text.splitlines())
    found = (re.sub(r"\s+#.*$", "", line) for line in lines)
    return [line for line in found if re.match(r"crossband [a-z]", line)]


KNOWN = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in commands(page)]
#: Names that some command of the documentation writes.
MADE = {name for _, line in KNOWN for name in re.findall(r"-o (\S+)", line)}


def test_commands_are_found():
    assert len(KNOWN) > 100
    assert {line.split()[1] for _, line in KNOWN} >= set(_parser().commands)


@pytest.mark.parametrize(("page", "line"), KNOWN)
def test_the_parser_takes_it(page, line, capsys):
    if _OPEN.search(line):
        pytest.skip("a usage, not a command")
    words = shlex.split(re.split(r" (?:&&|;|&?>|2>|\||&$) ?", line)[0])[1:]
    parser = _parser()
    try:
        arguments, unknown = parser.parse_known_args(words)
    except SystemExit as end:
        pytest.fail(f"{page}: {line}: {capsys.readouterr().err or end.code}")
    if words[0] == "fit":
        name = arguments.recipe
        if name in recipe.available():
            recipe.load(name, unknown)
    else:
        assert not unknown, f"{page}: {line}"
    model = getattr(arguments, "model", None)
    for name in model if isinstance(model, list) else [model]:
        if isinstance(name, str) and re.fullmatch(r"[a-z0-9-]+", name):
            assert name in bundled() or name in MADE, f"{page}: {line}"
