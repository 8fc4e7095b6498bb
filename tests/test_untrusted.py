"""Files that others made: what is not a file, or no JSON, is one line."""

from __future__ import annotations

import os
import socket

import pytest

from crossband.core.json_text import parse_json
from crossband.core.regular_file import check_regular_file
from crossband.errors import InputError, ModelError


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
        with pytest.raises(InputError, match=f"{path}: {words}, and no regular file"):
            check_regular_file(path)
    with pytest.raises(ModelError):
        check_regular_file(tmp_path / "fifo", ModelError)


@pytest.mark.parametrize(
    "content",
    ["[" * 10**5, '{"a":' * 10**5, b"\xff\xfe", b'{"a": "\xe9"}', "[" + "1" * 5000 + "]", "\0", ""],
)
def test_what_is_no_json_is_a_value_error(content):
    with pytest.raises(ValueError, match="."):
        parse_json(content)
