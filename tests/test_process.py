"""What a process may meet: closed and full streams, little memory, signals at any time."""

from __future__ import annotations

import ast
import importlib
import resource
import signal
import sys
import threading
import types
from pathlib import Path

import pytest
from commands import PATIENCE, one_line
from tiers import slow

from crossband.cli import main as command
from crossband.cli.parser import Parser
from crossband.core.memory import is_out_of_memory
from crossband.core.signals import Interrupter, preempted
from crossband.errors import CrossbandError, Preempted
from crossband.translate.threads import DeferredInterrupt

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full, forks, RLIMIT_AS")

#: What the interpreter makes of `>&-` and of `2>&-`, and the command after it.
CLOSED = """
import os, sys
for number, name in ((1, "stdout"), (2, "stderr")):
    if name in sys.argv[1]:
        os.close(number)
        setattr(sys, name, None)
        setattr(sys, "__" + name + "__", None)
del sys.argv[1]
from crossband.cli.main import main
sys.exit(main())
"""
#: A stream of `/dev/full`, or one of ASCII.
FULL = """
import os, sys
os.dup2(os.open("/dev/full", os.O_WRONLY), int(sys.argv.pop(1)))
from crossband.cli.main import main
sys.exit(main())
"""
ASCII = """
import sys
sys.stdout.reconfigure(encoding="ascii", errors="strict")
from crossband.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize("arguments", [["models"], ["data", "split", "a.csv", "-o", "b.csv"]])
def test_a_current_folder_that_was_deleted(arguments, tmp_path, monkeypatch, capsys):
    """Without one, a C library ends the process, and no relative name can be resolved."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert command.main(arguments) == 2
    words = "the current folder: No such file or directory; change to another"
    assert capsys.readouterr().err == f"crossband: {words}\n"


@pytest.fixture
def run(interpreters, make_raster, tiny_model, tmp_path):
    """Run a script before `crossband translate`; return its end, and whether the file is there."""
    scene = make_raster()

    def translate(script, *first, out="nir.tif", source=scene):
        arguments = ["translate", source, "-o", tmp_path / out, "--model", tiny_model]
        done = interpreters.run("-c", script, *first, *arguments)
        return done, (tmp_path / out).is_file()

    return translate


@pytest.mark.parametrize("closed", ["stdout", "stderr", "stdout stderr"])
def test_a_closed_stream_ends_no_work(run, closed):
    done, written = run(CLOSED, closed)
    assert written
    assert done.returncode == 0
    assert "Traceback" not in done.stdout + done.stderr


def test_an_error_without_stderr_is_an_exit_code(run, tmp_path):
    done, written = run(CLOSED, "stderr", source=tmp_path / "none.tif")
    assert not written
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_full_stdout_is_one_line_after_the_work(run):
    done, written = run(FULL, "1")
    assert written
    one_line(done, "the work is done; stdout: No space left on device")


def test_a_full_stderr_ends_no_work(run):
    done, written = run(FULL, "2")
    assert written
    assert done.returncode == 0
    assert "nir.tif" in done.stdout


def test_help_into_a_full_stdout(interpreters):
    one_line(interpreters.run("-c", FULL, "1", "--help"), "No space left")


def test_a_character_that_stdout_lacks(run):
    done, written = run(ASCII, out="é.tif")
    assert written
    assert done.returncode == 0, done.stderr
    assert "\\xe9.tif  0.002 MPix" in done.stdout


def test_a_reader_that_has_exited(interpreters):
    script = "import os, sys\nread, write = os.pipe()\nos.close(read)\nos.dup2(write, 1)\n"
    script += "from crossband.cli.main import main\nsys.exit(main())"
    done = interpreters.run("-c", script, "sensors")
    assert (done.returncode, done.stderr) == (141, "")


def test_what_c_libraries_print_is_seen(interpreters):
    """As the last words of a library that ends the process."""
    script = "import os, sys\nfrom crossband.cli import main\n"
    script += "def last(a):\n    os.write(2, b'FATAL ERROR')\n    os._exit(2)\n"
    script += "main._sensors = last\nsys.exit(main.main())"
    done = interpreters.run("-c", script, "sensors")
    assert (done.returncode, done.stderr) == (2, "FATAL ERROR")


# Memory


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory\n"),
        (MemoryError("Unable to allocate 3.05 GiB for an array with shape (9,)"), ", 3.05 GiB ask"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4194304 "
                      "bytes. Error code 12 (Cannot allocate memory)"), ", 4.0 MiB asked for"),
        (ImportError("numpy\n\nis broken: liba.so: failed to map segment from shared object"),
         "out of memory: liba.so: failed to map segment\n"),
        (RuntimeError("can't start new thread"), "out of memory: can't start new thread\n"),
        (OSError(12, "Cannot allocate memory"), "out of memory\n"),
    ],
)  # fmt: skip
def test_out_of_memory_anywhere_is_one_line(monkeypatch, capsys, error, words):
    def fail(arguments):
        raise error

    monkeypatch.setattr(command, "_sensors", fail)
    assert command.main(["sensors"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("crossband: out of memory")
    assert said.count("\n") == 1
    assert words in said


def test_a_library_that_fails_while_it_is_imported_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "moody").mkdir()
    (tmp_path / "moody" / "__init__.py").write_text("int('x')  # as of an environment variable\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(command, "_sensors", lambda _: importlib.import_module("moody"))
    assert command.main(["sensors"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("crossband: moody cannot be imported: invalid literal for int()")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_NTASKS", "SLURM_PROCID"])
def test_numbers_of_launchers_are_named(monkeypatch, name):
    import crossband.training as package

    monkeypatch.setenv(name, "3")
    importlib.reload(package)
    monkeypatch.setenv(name, "x")
    with pytest.raises(CrossbandError, match=f"{name}=x: a whole number is needed"):
        importlib.reload(package)


def test_other_errors_are_not_taken_for_it():
    assert not is_out_of_memory(SystemError("error return without exception set"))
    assert not is_out_of_memory(ImportError("cannot import name 'x'"))
    assert not is_out_of_memory(OSError(13, "Permission denied"))


@pytest.mark.parametrize("megabytes", [60, slow(300)])
def test_memory_too_small_for_the_libraries(crossband_command, make_raster, tmp_path, megabytes):
    """A limit as by `ulimit -v`: the libraries of a fresh interpreter do not fit."""
    limits = {resource.RLIMIT_AS: (megabytes * 2**20,) * 2}
    arguments = ["translate", make_raster(), "-o", tmp_path / "nir.tif"]
    done = crossband_command(*arguments, fresh=True, limits=limits)
    one_line(done, "out of memory")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


# Signals


#: A library that is met by a signal while it is imported, and swallows what a handler raises.
LIBRARY = """
import signal
try:
    signal.raise_signal({number})
except BaseException:
    pass
imported = True
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Make a command import a library that a signal meets, and then wait for the signal."""

    def make(number):
        (tmp_path / "met_by_a_signal.py").write_text(LIBRARY.format(number=int(number)))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "met_by_a_signal", raising=False)

        def work(argv):
            import met_by_a_signal

            assert met_by_a_signal.imported
            threading.Event().wait(PATIENCE)
            raise AssertionError("the signal was lost")

        monkeypatch.setattr(command, "_run", work)

    return make


@pytest.mark.parametrize("name", ["translate", "series", "fit", "evaluate", "data", "models"])
def test_ctrl_c_during_an_import(library, capsys, name):
    library(signal.SIGINT)
    assert command.main([name]) == 130
    assert capsys.readouterr().err == "crossband: interrupted; nothing half-written was left\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_preempted_during_an_import(library, capsys, name):
    library(getattr(signal, name))
    assert command.main(["fit"]) == 75
    said = f"stopped by {name} before the training began; give the same command again"
    assert capsys.readouterr().err == f"crossband: {said}\n"
    assert signal.getsignal(getattr(signal, name)) == signal.SIG_DFL


def test_preempted_outside_an_import():
    with pytest.raises(Preempted, match="by SIGTERM before"), preempted():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), preempted():
        signal.raise_signal(signal.SIGINT)


def test_a_program_that_is_a_module_is_interrupted():
    """What is imported since a handler was made counts, not what imports the program."""
    importing = types.FunctionType(
        compile("def run(f): return f()", "<frozen importlib._bootstrap>", "exec").co_consts[0], {}
    )

    def program():
        interrupter = Interrupter()
        return interrupter.postpone(signal.SIGINT, sys._getframe())

    assert importing(program) is False


def test_ctrl_c_of_the_command_is_deferred_as_pythons_own():
    before = signal.signal(signal.SIGINT, Interrupter())
    try:
        with DeferredInterrupt() as deferred:
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                deferred.check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_signals_after_the_work_change_no_exit_code(interpreters):
    script = "import os, signal, sys\nfrom crossband.cli.main import main\ncode = main()\n"
    script += "for name in ('SIGINT', 'SIGTERM'): os.kill(os.getpid(), getattr(signal, name))\n"
    done = interpreters.run("-c", script + "sys.exit(code)", "--version")
    assert (done.returncode, done.stderr) == (0, "")


# Abbreviations


def parsers(parser):
    yield parser
    for inner in parser.commands.values():
        yield from parsers(inner)


def test_no_parser_takes_abbreviations():
    found = list(parsers(command._parser()))
    assert len(found) > 15
    assert [p.prog for p in found if p.allow_abbrev] == []


@pytest.mark.parametrize(
    "words", [["models", "--recipe"], ["translate", "a", "-o", "b", "--overwrit"]]
)
def test_an_abbreviation_is_unknown(capsys, words):
    assert command.main(words) == 2
    assert "unknown option" in capsys.readouterr().err


def test_no_parser_of_scripts_takes_abbreviations():
    """Every one that the sources make says so; the class of the command's parsers does."""
    found = []
    for path in (*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/**/*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "ArgumentParser" in text else ():
            if not isinstance(node, ast.Call) or "ArgumentParser" not in ast.unparse(node.func):
                continue
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if given.get("allow_abbrev") != "False":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found
    assert not Parser().allow_abbrev
