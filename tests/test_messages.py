"""What is printed: names cannot control the terminal, and any encoding of the streams will do."""

from __future__ import annotations

import ast
import io
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio

import crossband
from crossband.cli.main import main
from crossband.core.file_names import check_output_name, not_text
from crossband.core.messages import printable, say
from crossband.errors import CrossbandError, CrossbandWarning, InputError, OutputError
from crossband.raster.dataset import check_exists
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Box, Grid
from crossband.raster.scene_writer import SceneWriter

#: Latin-1, as Python has the bytes of such a name.
LATIN = os.fsdecode(b"gr\xe9en")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\rb\x07", "a\\x0db\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("nir\u202efit.exe", "nir\\u202efit.exe"),
        (LATIN, "gr\\xe9en"),
        ("\ud800", "\\ud800"),
        ("grün µ 値\tone\ntwo", "grün µ 値\tone\ntwo"),
    ],
)
def test_what_would_control_a_terminal_is_escaped(text, shown, capsys):
    assert printable(text) == shown
    say(text)
    say(text, error=True)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (shown + "\n", shown + "\n")


def test_a_stream_may_be_ascii_or_closed(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    say("µ of grün")
    assert stream.buffer.getvalue() == b"\\xb5 of gr\\xfcn\n"
    monkeypatch.setattr(sys, "stderr", None)
    say("nobody hears this", error=True)
    assert stream.buffer.getvalue().count(b"\n") == 1


def test_the_command_escapes_names_in_errors_and_warnings(monkeypatch, capsys, recwarn):
    name = "\x1b[2J" + LATIN

    def fail(arguments):
        warnings.warn(name, UserWarning, stacklevel=1)
        warnings.warn(name, CrossbandWarning, stacklevel=1)
        raise CrossbandError(f"{name}: no such file")

    monkeypatch.setattr("crossband.cli.main._sensors", fail)
    assert main(["sensors"]) == 2
    said = capsys.readouterr().err
    shown = "\\x1b[2Jgr\\xe9en"
    assert said == f"crossband: {shown}\ncrossband: {shown}: no such file\n"
    assert [str(w.message) for w in recwarn] == [shown]


def test_help_can_be_printed_in_ascii(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["models", "rgb2nir"]) == 0
    assert main(["translate", "--help"]) == 0
    assert b"usage: crossband translate" in stream.buffer.getvalue()


def test_names_are_refused_before_any_work(tmp_path):
    for name in ("a\x1b[2J.tif", "a\n.tif", "a\t.tif", "\x7f", "a\u202eb.tif"):
        with pytest.raises(OutputError, match="control characters in a name; choose"):
            check_output_name(tmp_path / name)
        with pytest.raises(OutputError, match="control characters"):
            check_output_name(tmp_path / name / "nir.tif")
    with pytest.raises(OutputError, match="its name is not UTF-8; rename it"):
        check_output_name(tmp_path / (LATIN + ".tif"))
    check_output_name(tmp_path / "grün 値 (1).tif")
    (tmp_path / LATIN).write_bytes(b"x")
    with pytest.raises(InputError, match="its name is not UTF-8; rename it"):
        check_exists(tmp_path / LATIN)


def test_a_locale_that_lacks_a_name_is_named(monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    words = "the locale's encoding is ascii, which cannot spell it: set LC_ALL=C.UTF-8"
    assert not_text("gr\udcc3\udcbcn") == words  # how Python then has the bytes of a name
    assert not_text("green") is None


def test_names_of_others_in_a_finished_file_are_escaped(tmp_path):
    """In the tags and bands of a GeoTIFF, which GDAL makes of XML, and in the text of a PNG."""
    name, shown = "\x1b[2J" + LATIN, "\\x1b[2Jgr\\xe9en"
    for path in (tmp_path / "a.tif", tmp_path / "a.png"):
        encoding, tags = Encoding("uint8", 0.01), {"CROSSBAND_SOURCE": name}
        with SceneWriter(path, Grid(2, 2), (name,), "reflectance", encoding, tags) as writer:
            writer.write(Box(0, 0, 2, 2), np.ones((1, 2, 2), np.float32), np.ones((2, 2), bool))
            writer.commit()
        with rasterio.open(path) as file:
            assert any(shown in tag for tag in file.tags().values())
            assert file.descriptions[0] == (shown if path.suffix == ".tif" else None)


def test_a_text_that_cannot_be_encoded_is_one_line(monkeypatch, capsys):
    def fail(arguments):
        (("x" * 500) + LATIN + ("y" * 500)).encode()

    monkeypatch.setattr("crossband.cli.main._sensors", fail)
    assert main(["sensors"]) == 2
    said = capsys.readouterr().err
    assert "gr\\xe9en" in said
    assert said.endswith(": its name is not UTF-8; rename it\n")
    assert len(said) < 250


# The rules that keep it so.


def test_everything_is_printed_by_say_and_text_has_its_encoding():
    """Nothing else writes to the streams; no file of text depends on the locale."""
    for path in Path(crossband.__file__).parent.rglob("*.py"):
        if path.name == "messages.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert not is_wrong(node), f"{path}:{node.lineno}: {ast.unparse(node)}"


def is_wrong(node):
    called = ast.unparse(node.func)
    has_encoding = "encoding" in {keyword.arg for keyword in node.keywords}
    if called in ("print", "sys.stderr.write", "sys.stdout.write"):
        return True
    if called.endswith((".read_text", ".write_text")):
        return not has_encoding
    modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
    if called in ("open", "os.fdopen") or (called.endswith(".open") and "w" in modes):
        binary = any("b" in mode for mode in modes if isinstance(mode, str))
        return not (binary or has_encoding or called == "rasterio.open")
    return False
