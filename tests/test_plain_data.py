"""Files that others made: regular ones only, so many bytes, and plain data in them."""

from __future__ import annotations

import os
import socket

import pytest
import yaml

from crossband.core.plain_data import parse_json, parse_yaml, read_json, read_yaml
from crossband.core.regular_files import check_regular, open_regular, read_bytes, read_text
from crossband.errors import ManifestError, ModelError
from crossband.training import recipe

LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)
)


@pytest.fixture(params=["folder", "pipe", "socket", "device", "link to a pipe"])
def irregular(request, tmp_path, monkeypatch):
    """Return a path that is there and is no regular file, and the word that names its kind."""
    path, kind = tmp_path / "it", request.param
    if kind == "folder":
        path.mkdir()
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("it")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe") if "link" in kind else (tmp_path / "pipe").rename(path)
    return path, kind.split()[-1]


@pytest.mark.parametrize("read", [check_regular, open_regular, read_bytes, read_text, read_json])
def test_only_regular_files_are_read(irregular, read):
    path, kind = irregular
    with pytest.raises(ModelError, match=rf"it: a .*{kind}, and not a regular file$"):
        read(path, ModelError)


@pytest.mark.parametrize("name", ["gone", "file/gone", "nul\0byte", "x" * 5000, "half\udcff\ud800"])
def test_a_path_that_cannot_be_opened_is_one_line(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match=r"no such file|too long|NUL byte"):
        open_regular(tmp_path / name, ManifestError)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: real(tmp_path / "pipe", flags))
    with pytest.raises(ModelError, match="a named pipe"):
        open_regular(tmp_path / "file", ModelError)


def test_no_more_bytes_are_read_than_are_stated(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfab")
    assert read_bytes(path, ModelError, 5) == path.read_bytes()
    assert read_text(path, ModelError) == "ab"
    with pytest.raises(ModelError, match="larger than"):
        read_bytes(path, ModelError, 4)
    os.truncate(path, 2**40)  # a file of holes
    with pytest.raises(ModelError, match="larger than 16 MiB"):
        read_text(path, ModelError)
    path.write_bytes(b"ab\xe9")
    with pytest.raises(ModelError, match=r"not text in UTF-8 \(byte 2\)"):
        read_text(path, ModelError)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested more than 64 deep"),
        ('{"a":' * 100_000, "nested more than 64 deep"),
        ("[" * 65 + "1" + "]" * 65, "nested more than 64 deep"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' is there twice"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[1e999]", "1e999 is too large a number"),
        ("9" * 5000, "4300 digits"),
        ("", "Expecting value"),
    ],
)
def test_hostile_json(tmp_path, text, reason):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ModelError, match=f"file: not readable JSON: .*{reason}"):
        read_json(tmp_path / "file", ModelError)


def test_json_may_nest_and_say_all_that_is_plain():
    text = "[" * 64 + '{"a": [1, -2.5e3, null, true, "\\u00e9"]}' + "]" * 64
    with pytest.raises(ValueError, match="nested"):
        parse_json(text)
    assert parse_json(text[3:-3]) is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested more than 64 deep"),
        ("- " * 100_000, "nested more than 64 deep"),
        ("{a: " * 100_000, "nested more than 64 deep"),
        (LAUGHS, "more than 100,000 values"),
        ("a: &a [1, *a]", r"\*a stands for nothing"),
        ("a: *b", r"\*b stands for nothing"),
        ("a: 1\na: 2", "line 2: the key 'a' is there twice"),
        ("{1: 2}", "a key that is no text"),
        ("? [1]\n: 2", "a key that is no text"),
        ("!!python/object/apply:os.system [ls]", "tag !!python/object/apply:os.system"),
        ("!!bool x", "tag !!bool"),
        ("a: \x00", "special characters"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: b: c", "mapping values"),
    ],
)
def test_hostile_yaml(tmp_path, text, reason):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ModelError, match=f"file: not YAML that can be read: .*{reason}"):
        read_yaml(tmp_path / "file", ModelError)


def test_references_in_yaml_are_copies():
    found = parse_yaml("{a: &a {x: [1], y: 2}, b: *a, c: {<<: *a, y: 3}}")
    assert found == {"a": {"x": [1], "y": 2}, "b": {"x": [1], "y": 2}, "c": {"x": [1], "y": 3}}
    found["a"]["x"].append(2)
    assert found["b"]["x"] == found["c"]["x"] == [1]


def test_recipes_say_the_same_as_before():
    for path in recipe.available().values():
        assert read_yaml(path) == yaml.safe_load(path.read_text())
