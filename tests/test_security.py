"""What SECURITY.md promises of the source: limits that it names, and nothing that runs data."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossband.core.limits import Limit
from crossband.core.onnx_session import MAX_MEMORY, MAX_SECONDS
from crossband.data.table_file import MAX_MIB, MAX_ROWS
from crossband.model.weights import MAX_WEIGHTS
from crossband.raster.block_limit import MAX_BLOCK
from crossband.raster.gdal import GDAL_OPTIONS
from crossband.translate.tiling import MAX_TILES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
OURS = re.compile("CROSSBAND_")
LIMITS = (MAX_BLOCK, MAX_TILES, MAX_WEIGHTS, MAX_MEMORY, MAX_ROWS, MAX_MIB, MAX_SECONDS)


#: Functions that run what they are given, or unpack any object: module -> names.
RUNNING = {
    "builtins": "eval exec compile __import__",
    "os": "system popen exec.* spawn.* posix_spawnp?",
    "pty": "spawn",
    "asyncio": "create_subprocess_.*",
    **dict.fromkeys(("pickle", "cloudpickle", "dill", "joblib", "marshal"), "loads? Unpickler"),
    "shelve": "open",
    "pandas": "read_pickle",
    "runpy": "run_.*",
    "shutil": "unpack_archive",
    "torch.jit": "load",
    "torch.hub": "load.*",
    "yaml": "(unsafe|full)_load.*",
}
#: Files that import a module whose name is data: of registered classes, extras and recipes.
IMPORTING = ("core/registry.py", "core/extras.py", "training/recipe_classes.py")


#: A file without any of these words has no such call; to parse all files takes seconds.
WORDS = re.compile(
    r"\b(eval|exec|compile|__import__)\(|import .*\b(system|popen|exec|load)|"
    r"os\.(system|popen|exec)|create_subprocess|spawn|pickle|dill|joblib|marshal|shelve|runpy|unpack_archive|extractall|"
    r"torch\.(load|jit|hub)|yaml|ckpt_path|load_from_checkpoint|import_module|shell"
)


def trees(folder: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, ast.Module]]:
    """Yield the modules whose text has a pattern."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if pattern.search(text):
            yield str(path.relative_to(ROOT)), ast.parse(text)


def name_of(node: ast.AST) -> str:
    """Return a dotted name, as `os.environ.get`; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def variables(tree: ast.Module) -> Iterator[str]:
    """Yield the environment variables of ours that a module reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.search(r"Limit$|environ|getenv", name_of(node.func)):
            texts = [*node.args, *(word.value for word in node.keywords)]
        elif isinstance(node, ast.Subscript) and name_of(node.value).endswith("environ"):
            texts = [node.slice]
        elif isinstance(node, ast.Compare) and name_of(node.comparators[0]).endswith("environ"):
            texts = [node.left]
        else:
            continue
        for text in texts:
            if isinstance(text, ast.Constant) and str(text.value).startswith("CROSSBAND_"):
                yield str(text.value)


def test_the_page_names_every_variable_of_ours():
    found = {name for _, tree in trees("src", OURS) for name in variables(tree)}
    assert found == {limit.variable for limit in LIMITS}
    assert found == set(re.findall(r"^\| `(CROSSBAND_\w+)`", PAGE, re.MULTILINE))


def test_the_search_for_variables_finds_each_way_to_read_one():
    code = """
Limit("CROSSBAND_A", 1); Limit(variable="CROSSBAND_B", default=2)
os.environ["CROSSBAND_C"]; os.environ.get("CROSSBAND_D"); os.getenv("CROSSBAND_E", "")
"CROSSBAND_F" in os.environ; out.update_tags(CROSSBAND_G="x"); tags["CROSSBAND_H"]
"""
    assert sorted(name[-1] for name in variables(ast.parse(code))) == list("ABCDEF")


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.variable)
def test_the_page_has_the_defaults_of_limits(limit: Limit):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{limit.variable}`"))
    assert row.endswith(f" {limit.default:,} |")


def test_the_page_names_the_options_of_gdal():
    ours = {"CPL_DEBUG", "CPL_VSIL_CURL_NON_CACHED"}  # they limit nothing
    assert [name for name in GDAL_OPTIONS if name not in ours and f"`{name}`" not in PAGE] == []


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in found}


def test_the_lock_has_hashes_of_all_that_is_pinned_and_of_nothing_else():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert pins(lock) == pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    one = r"[\w.-]+==[\w.]+( ; [\w ._<>=\"'()]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    assert re.fullmatch(f"({one})+", lock)  # so no index, address, path or option


def test_links_of_the_page_lead_somewhere():
    for target, _, anchor in (t.partition("#") for t in re.findall(r"\]\(([^)]+)\)", PAGE)):
        heads = re.findall(r"^#+ (.+)", (ROOT / target).read_text(encoding="utf-8"), re.MULTILINE)
        assert not anchor or anchor in {head.lower().replace(" ", "-") for head in heads}


class Danger(ast.NodeVisitor):
    """Finds calls that run what they are given; `found` has the line and the name of each."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[tuple[int, str]] = []
        self.known: dict[str, str] = {}  # name in this module -> what it is elsewhere
        self.safe = {"yaml.SafeLoader", "yaml.CSafeLoader"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.known |= {a.asname: a.name for a in node.names if a.asname}
            elif isinstance(node, ast.ImportFrom):
                self.known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            elif isinstance(node, ast.ClassDef) and self.safe & {*map(self.name, node.bases)}:
                self.safe.add(node.name)
        self.visit(tree)

    def name(self, node: ast.AST) -> str:
        first, dot, rest = name_of(node).partition(".")
        return self.known.get(first, first) + dot + rest

    def visit_Call(self, node: ast.Call) -> None:
        name = self.name(node.func)
        words = {word.arg: word.value for word in node.keywords}
        if self.runs(name) or self.opens(name, words) or self.imports(name, node):
            self.found.append((node.lineno, name))
        self.generic_visit(node)

    def runs(self, name: str) -> bool:
        module, _, last = name.rpartition(".")
        patterns = RUNNING.get(module if "." in name else "builtins", "").split()
        return last == "extractall" or any(re.fullmatch(pattern, last) for pattern in patterns)

    def opens(self, name: str, words: dict[str | None, ast.expr]) -> bool:
        """Return whether a call unpacks any object, or asks for a shell."""

        def given(key: str) -> object:
            return getattr(words.get(key), "value", None)

        if name == "torch.load" or "ckpt_path" in words or name.endswith("load_from_checkpoint"):
            return given("weights_only") is not True
        if name in ("yaml.load", "yaml.load_all"):
            return self.name(words.get("Loader", ast.Pass())) not in self.safe
        unsafe = "shell" in words and given("shell") is not False
        return unsafe or ("allow_pickle" in words and given("allow_pickle") is not False)

    def imports(self, name: str, node: ast.Call) -> bool:
        return name == "importlib.import_module" and not isinstance(node.args[0], ast.Constant)


DANGEROUS = """
eval("1")
exec(text)
__import__(name)
compile(text, "a", "exec")
os.system("ls")
os.execv(a, b)
from os import popen as run; run("ls")
subprocess.run("ls", shell=True)
subprocess.run("ls", shell=flag)
pickle.load(file)
import pickle as p; p.loads(data)
from pickle import Unpickler; Unpickler(file)
torch.load(path)
torch.load(path, weights_only=False)
torch.load(path, weights_only=flag)
torch.jit.load(path)
trainer.fit(a, b, ckpt_path=c)
Method.load_from_checkpoint(path)
yaml.load(text)
yaml.load(text, Loader=yaml.Loader)
yaml.load_all(text, yaml.FullLoader)
yaml.unsafe_load(text)
import numpy as np; np.load(path, allow_pickle=True)
import pandas as pd; pd.read_pickle(path)
importlib.import_module(name)
archive.extractall(folder)
"""
HARMLESS = """
network.eval()
re.compile("a")
torch.compile(network)
pickle.dumps(data)
torch.load(path, map_location="cpu", weights_only=True)
trainer.fit(a, b, ckpt_path=c, weights_only=True)
yaml.safe_load(text)
yaml.load(text, Loader=yaml.SafeLoader)
importlib.import_module("optuna")
np.load(path)
subprocess.run(["ls"], shell=False)
"""


@pytest.mark.parametrize("line", DANGEROUS.strip().splitlines())
def test_a_call_that_runs_data_is_found(line: str):
    assert WORDS.search(line)
    assert Danger(ast.parse(line)).found


def test_other_calls_are_not():
    assert not Danger(ast.parse(HARMLESS)).found
    loader = "class Plain(yaml.SafeLoader): pass\nyaml.load(text, Loader=Plain)"
    assert not Danger(ast.parse(loader)).found
    assert Danger(ast.parse(loader.replace("Safe", "Full"))).found


def test_nothing_in_the_source_runs_data():
    found = {(file, call) for file, tree in trees("src", WORDS) for _, call in Danger(tree).found}
    ours = {(f"src/crossband/{file}", "importlib.import_module") for file in IMPORTING}
    assert found == ours


def test_the_package_starts_no_other_program():
    """What the name of a file holds can reach no command line."""
    starting = re.compile(r"^\s*(import|from)\s+(subprocess|pty|pexpect)\b", re.M)
    assert [file for file, _ in trees("src", starting)] == []
