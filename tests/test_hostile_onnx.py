"""ONNX files of a few bytes that ask for much memory or time: one line, and it is not taken."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from crossband.cli.main import main

onnx = pytest.importorskip("onnx", reason="crossband[onnx] is not installed")
pytest.importorskip("onnxruntime", reason="crossband[onnx] is not installed")

from onnx import helper, numpy_helper  # noqa: E402

FLOAT = onnx.TensorProto.FLOAT
#: 2**32 numbers: twice the bound.
SIDE = 2**16
BOUND = "graphs may take 8,192 MiB in all; smaller tiles need less, CROSSBAND_MAX_ONNX_MIB="


def constant(name, values, kind):
    tensor = numpy_helper.from_array(np.array(values, kind), name)
    return helper.make_node("Constant", [], [name], value=tensor)


def shape(values):
    return constant("n", values, np.int64)


def one():
    return constant("one", [1.0], np.float32)


def call(kind, *given, **attributes):
    return helper.make_node(kind, given, ["big"], **attributes)


#: Nodes that make `big`, and what is said.
GRAPHS = {
    "ConstantOfShape": ([shape([SIDE, SIDE]), call("ConstantOfShape", "n")], BOUND),
    "Expand": ([one(), shape([SIDE, SIDE]), call("Expand", "one", "n")], BOUND),
    "Tile": ([one(), shape([SIDE**2]), call("Tile", "one", "n")], "it asks for|4294967296 bytes"),
    "Range": (
        [
            constant("a", 0, np.int64),
            constant("b", SIDE**2, np.int64),
            constant("c", 1, np.int64),
            helper.make_node("Range", ["a", "b", "c"], ["d"]),
            call("Cast", "d", to=FLOAT),
        ],
        BOUND,
    ),
    "Pad": ([shape([0, 0, 0, 0, 0, 0, SIDE, SIDE]), call("Pad", "source", "n")], BOUND),
    "Resize": (
        [constant("n", [1, 1, 2**13, 2**13], np.float32), call("Resize", "source", "", "n")],
        BOUND,
    ),
    "ConvTranspose": (
        [
            constant("k", np.ones((3, 1, 1, 1)), np.float32),
            call("ConvTranspose", "source", "k", strides=[2**13, 2**13]),
        ],
        BOUND,
    ),
}


def graph_of(nodes, initializers=()):
    """A graph of the mean of its source plus the largest number of `big`."""
    nodes = [
        *nodes,
        helper.make_node("ReduceMax", ["big"], ["most"], keepdims=0),
        helper.make_node("ReduceMean", ["source"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Add", ["mean", "most"], ["target"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, FLOAT, ["n", bands, "h", "w"])]
        for name, bands in (("source", 3), ("target", 1))
    ]
    graph = helper.make_graph(nodes, "g", *ends, list(initializers))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return made.SerializeToString()


@pytest.fixture
def refusal(tmp_path, capsys):
    """Return a function that imports a file, which must be refused; gives the line."""

    def of(content):
        path, named = tmp_path / "small.onnx", tmp_path / "named.onnx"
        path.write_bytes(content)
        words = [
            "import",
            str(path),
            "-o",
            str(named),
            "--task",
            "rgb2nir",
            "--unit",
            "reflectance",
        ]
        assert main([*words, "--source-bands", "red,green,blue", "--target-bands", "nir"]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert not named.exists()
        return line

    return of


@pytest.mark.parametrize("kind", GRAPHS)
def test_an_operator_that_makes_much_of_little(kind, refusal):
    nodes, words = GRAPHS[kind]
    content = graph_of(nodes)
    assert len(content) < 1000
    line = refusal(content)
    assert any(word in line for word in words.split("|")), line


def test_weights_that_are_stated_and_not_there(refusal):
    tensor = onnx.TensorProto(name="big", data_type=FLOAT, dims=[SIDE, SIDE])
    assert "ONNX Runtime cannot open it" in refusal(graph_of([], [tensor]))


def test_sparse_weights_of_one_number(refusal):
    held = onnx.ModelProto.FromString(graph_of([]))
    sparse = held.graph.sparse_initializer.add(dims=[SIDE, SIDE])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "big"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "at"))
    refusal(held.SerializeToString())


def products(side, count):
    """Nodes that multiply a matrix with itself again and again."""
    first = helper.make_node("ConstantOfShape", ["n"], ["m0"])
    names = [*(f"m{number}" for number in range(count)), "big"]
    return [
        shape([side, side]),
        first,
        *(
            helper.make_node("MatMul", [one, one], [other])
            for one, other in itertools.pairwise(names)
        ),
    ]


def test_a_graph_that_takes_long_is_ended(refusal, monkeypatch):
    monkeypatch.setenv("CROSSBAND_MAX_ONNX_SECONDS", "1")
    line = refusal(graph_of(products(1000, 2000)))
    assert "small.onnx: it took longer than 1 seconds" in line
    assert "CROSSBAND_MAX_ONNX_SECONDS=2 allows more" in line


@pytest.mark.slow
def test_one_operator_that_takes_long_is_left_and_the_command_ends(tmp_path):
    """ONNX Runtime does not end within an operator: 2 x 20,000^3 operations here."""
    path = tmp_path / "small.onnx"
    path.write_bytes(graph_of(products(20_000, 1)))
    words = ["import", path, "-o", tmp_path / "named.onnx", "--task", "rgb2nir"]
    words += ["--source-bands", "red,green,blue", "--target-bands", "nir", "--unit", "reflectance"]
    done = subprocess.run(
        [sys.executable, "-m", "crossband", *map(str, words)],
        env={**os.environ, "CROSSBAND_MAX_ONNX_SECONDS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "it took longer than 1 seconds" in done.stderr
    assert not (tmp_path / "named.onnx").exists()


def test_graphs_within_graphs(refusal):
    """Each branch of an If holds the next one; the innermost has an operator that is refused."""
    inner = helper.make_node("Evil", ["source"], ["big"], domain="com.evil")
    end, yes = helper.make_tensor_value_info("big", FLOAT, None), constant("yes", True, bool)
    for _ in range(25):
        branch = helper.make_graph([yes, inner], "b", [], [end])
        inner = helper.make_node("If", ["yes"], ["big"], then_branch=branch)
    content = graph_of([yes, inner])
    assert "custom operators are code" in refusal(content)


def test_more_graphs_within_graphs_than_a_reader_takes(refusal):
    """Field 7 of a model is its graph, 1 its node, 5 its attribute, and 6 a graph again."""
    held = b""
    for field in (6, 5, 1) * 2000:
        held = bytes([field << 3 | 2]) + size(len(held)) + held
    held = b"\x08\x08" + b"\x3a" + size(len(held)) + held
    assert "no ONNX file, or a damaged one" in refusal(held)


def size(number):
    """Return a number as protobuf writes it."""
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])
