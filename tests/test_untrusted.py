"""Files that others made: regular ones, so many bytes, plain data; all else is one line."""

from __future__ import annotations

import os
import socket

import pytest
import yaml

from crossband.core.json_text import parse_json, parse_strict_json, read_strict_json
from crossband.core.regular_file import (
    check_regular_file,
    open_regular_file,
    read_bytes,
    read_text,
)
from crossband.core.yaml_text import parse_yaml, read_yaml
from crossband.errors import InputError, ManifestError, ModelError
from crossband.training import recipe

LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)
)


def test_only_regular_files_pass(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    check_regular_file(file)
    check_regular_file(tmp_path / "link")
    check_regular_file(tmp_path / "missing")
    check_regular_file("a\0b")
    cases = {"fifo": "a FIFO", "socket": "a socket", "/dev/zero": "a device", ".": "a folder"}
    for path, words in cases.items():
        with pytest.raises(InputError, match=rf"{path}: {words}, and no regular file"):
            check_regular_file(path)
    with pytest.raises(ModelError):
        check_regular_file(tmp_path / "fifo", ModelError)


@pytest.mark.parametrize(
    "content",
    ["[" * 10**5, '{"a":' * 10**5, b"\xff\xfe", b'{"a": "\xe9"}', "[" + "1" * 5000 + "]", "\0", ""],
)
def test_what_is_no_json_is_a_value_error(content):
    with pytest.raises(ValueError, match=r"."):
        parse_json(content)


@pytest.mark.parametrize("read", [open_regular_file, read_bytes, read_text, read_strict_json])
def test_what_is_read_is_a_regular_file(tmp_path, read):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for path, words in (("fifo", "a FIFO"), ("link", "a FIFO"), (".", "a folder")):
        with pytest.raises(ModelError, match=f"{words}, and no regular file"):
            read(tmp_path / path, ModelError)


@pytest.mark.parametrize("name", ["gone", "file/gone", "nul\0byte", "x" * 5000, "half\udcff\ud800"])
def test_a_path_that_cannot_be_opened_is_one_line(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match=r"no such file|too long|NUL byte"):
        open_regular_file(tmp_path / name, ManifestError)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: real(tmp_path / "pipe", flags))
    with pytest.raises(ModelError, match="a FIFO"):
        open_regular_file(tmp_path / "file", ModelError)


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
        ("9" * 5000, "4300 digits"),
        ("", "Expecting value"),
    ],
)
def test_hostile_json(tmp_path, text, reason):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ModelError, match=f"file: not readable JSON: .*{reason}"):
        read_strict_json(tmp_path / "file", ModelError)


def test_json_may_nest_and_say_all_that_is_plain():
    text = "[" * 64 + '{"a": [1, -2.5e3, null, true, "\\u00e9"]}' + "]" * 64
    with pytest.raises(ValueError, match="nested"):
        parse_strict_json(text)
    assert parse_strict_json(text[3:-3]) is not None


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
