"""The fuzzer (`benchmarks/fuzz.py`): its cases can be repeated, and it sees what is wrong."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from fuzzing import tiff, worker
from fuzzing.areas import AREAS, area_of, make_case
from fuzzing.case import REFUSED, RIGHT, Case, Draw
from fuzzing.scenes import LINE, compare, draw_scene


@pytest.mark.parametrize("area", AREAS)
def test_a_case_is_known_by_seed_and_number(area):
    number = next(n for n in range(1000) if area_of(n) == area)
    first, again = make_case(3, number), make_case(3, number)
    assert (first.arguments, first.files, first.must) == (again.arguments, again.files, again.must)


def refuse(text="crossband: in.tif: no\n"):
    sys.stderr.write(text)
    return 2


def raise_error():
    raise RuntimeError("x")


def write(name):
    Path(name).write_bytes(b"x")
    return 0


ENDINGS = {
    REFUSED: refuse,
    RIGHT: lambda: write("out.tif"),
    "traceback": raise_error,
    "several lines": lambda: refuse("crossband: a\ncrossband: b\n"),
    "no line": lambda: refuse(""),
    "stray text": lambda: refuse("crossband: a\n0it [00:00]\n"),
    "warning of a library": lambda: refuse("crossband: a\nx.py:1: RuntimeWarning: y\n"),
    "control characters": lambda: refuse("crossband: \x1b[2J\n"),
    "exit code": lambda: 1,
    "memory": lambda: refuse("crossband: out of memory\n"),
    "input changed": lambda: write("in.tif"),
    "leftover": lambda: write("other.tif"),
}


@pytest.mark.parametrize("kind", ENDINGS)
def test_each_ending_is_told(kind, tmp_path):
    case = Case([], {"in.tif": b"", "model/": b""})
    assert worker.run(case, tmp_path / "case", lambda arguments: ENDINGS[kind]()).kind == kind


def test_what_must_be_is_held_against_what_was(tmp_path):
    def verdict(must, main, check=lambda folder: None):
        return worker.run(Case([], {}, must, check), tmp_path / "case", main).kind

    assert verdict(RIGHT, lambda a: refuse()) == "refused a valid input"
    assert verdict(REFUSED, lambda a: 0) == "accepted an invalid input"
    assert verdict(None, lambda a: 0, lambda folder: "pixel [0, 0] is 1") == "wrong answer"
    assert verdict(None, lambda a: 0, lambda folder: str(1 / 0)) == "wrong answer"


def test_one_wrong_pixel_is_found(tmp_path):
    scene = draw_scene(Draw("one"), ("float32",))
    values, valid = scene.physical()
    answer, _ = LINE.answer(values, "reflectance")
    answer = answer.astype("float32")
    answer[~valid] = float("nan")
    nodata = {tiff.NODATA: (2, b"nan\0")}
    (tmp_path / "out.tif").write_bytes(tiff.write(answer[None], None, nodata))
    assert compare(tmp_path / "out.tif", scene) is None
    answer[tuple(zip(*valid.nonzero(), strict=True))[-1]] += 1e-4
    (tmp_path / "out.tif").write_bytes(tiff.write(answer[None], None, nodata))
    assert "not" in compare(tmp_path / "out.tif", scene)


@pytest.mark.slow
def test_a_process_that_dies_is_a_crash_and_the_others_go_on(tmp_path):
    def make(number):
        return Case([str(number)], {}, made=())

    def main(arguments):
        if arguments == ["2"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    found = dict(worker.run_all(iter(range(5)), make, main, tmp_path, 2))
    assert {n: v.kind for n, v in found.items()} == dict.fromkeys(range(5), RIGHT) | {2: "crash"}
