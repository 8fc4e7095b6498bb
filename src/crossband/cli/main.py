"""The command `crossband`: parses arguments and calls the packages below.

What lies at the top is imported before Ctrl-C is handled, so it is little. Nothing here imports
torch before a subcommand needs it, so that `--help` is fast.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from crossband.cli.events import wants_events, with_events
from crossband.cli.streams import exit_code, lasting_streams
from crossband.core.file_names import not_text
from crossband.core.memory import is_out_of_memory, memory_words
from crossband.core.messages import printable, say, say_warning, tell
from crossband.core.python_words import naming_options
from crossband.core.signals import (
    end_at_once,
    ignore_signals,
    interrupts_after_imports,
    preempted,
)
from crossband.core.version import __version__
from crossband.errors import (
    CrossbandError,
    CrossbandWarning,
    Interrupted,
    RecipeError,
    UpToDate,
)

if TYPE_CHECKING:
    import argparse

    from crossband.cli.parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Args:
        argv: the arguments; None for those of the process, which then ends with this command.
    """
    with lasting_streams() as out, interrupts_after_imports(), _plain_warnings(), naming_options():
        words = list(sys.argv[1:] if argv is None else argv)
        if wants_events(words):
            code = with_events(_exit_code, words, sys.stdout)
        else:
            code = _exit_code(words)
        code = exit_code(code, out)
    if argv is None:
        # The work is done, and its exit code stands; the interpreter takes a while to end.
        ignore_signals()
        end_at_once(code)
    return code


def _exit_code(argv: list[str]) -> int:
    """Run a command; print an error that a user can mend in one line."""
    try:
        # Only a training has an exit code for the signals of a cluster; others end as by a kill.
        with preempted() if argv[:1] == ["fit"] else contextlib.nullcontext():
            return _run(argv)
    except SystemExit as end:  # --help, --version; a further process of a training
        return end.code if isinstance(end.code, int) else 0
    except CrossbandError as error:
        _say_error(type(error), str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say_error(Interrupted, "interrupted; nothing half-written was left")
        return Interrupted.exit_code
    except Exception as error:
        line = _line_of(error, argv)
        if line is None:
            raise
        _say_error(type(error), line)
        return CrossbandError.exit_code


def _say_error(kind: type[BaseException], text: str) -> None:
    """Print why a command ends; that all is done already is no error for a program."""
    event = "message" if issubclass(kind, UpToDate) else "error"
    if not tell(event, kind=kind.__name__, text=printable(text)):
        say(f"crossband: {text}", error=True)


def _check_working_folder() -> None:
    """Raise CrossbandError where the current folder was deleted; C libraries end the process."""
    try:
        os.getcwd()
    except OSError as error:
        raise CrossbandError(f"the current folder: {error.strerror}; change to another") from error


def _line_of(error: Exception, argv: list[str]) -> str | None:
    """Return what to print of an error that may come at any place; None of another one."""
    if is_out_of_memory(error):
        words = memory_words(str(error))
        tiled = "asked for" in words and argv[:1] in (["translate"], ["series"])
        return f"out of memory{words}" + ("; a smaller --tile needs less" if tiled else "")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, UnicodeEncodeError):  # a name with bytes that are no text of this locale
        around = error.object[max(error.start - 60, 0) : error.end + 60]
        return f"{around}: {not_text(error.object) or error.reason}"
    package = _failed_import(error)
    if package is not None:
        said = str(error).strip().splitlines() or [type(error).__name__]
        return (
            f"{package} cannot be imported: {said[0][:200]} (is an environment variable set that "
            "it does not take?)"
        )
    return None


def _failed_import(error: Exception) -> str | None:
    """Return the package, not one of ours, that failed while it was imported."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package not in ("crossband", "__main__"):
            found = package
    return found


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print each of our own warnings in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CrossbandWarning)
        # rasterio's NotGeoreferencedWarning, by its text: rasterio would slow down --help. `gdal()`
        # silences it in one thread, while another one leaves that context.
        warnings.filterwarnings("ignore", "Dataset has no geotransform")
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, CrossbandWarning):
                say_warning(message)
            else:
                others(printable(message), category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _run(argv: list[str]) -> int:
    parser = _parser()
    if not argv:
        parser.print_help()
        return 0
    command = parser.chosen(argv)
    if argv[0] == "fit" and {"-h", "--help"} & set(argv) and not argv[1].startswith("-"):
        return _recipe_help(argv[1])
    arguments, unknown = parser.parse_known_args(argv)
    if getattr(arguments, "run", None) is _fit:
        arguments.overrides = unknown
    else:
        command.check_unknown(unknown)
    command.check_values(arguments)
    _check_working_folder()
    result: int = arguments.run(arguments)
    return result


def _parser() -> Parser:
    from crossband.cli.calibrate import add_calibrate
    from crossband.cli.data import add_data
    from crossband.cli.evaluate import add_evaluate
    from crossband.cli.export import add_export
    from crossband.cli.import_ import add_import
    from crossband.cli.options import add_options
    from crossband.cli.parser import Parser
    from crossband.cli.push import add_push
    from crossband.cli.series import add_series
    from crossband.cli.serve import add_serve
    from crossband.cli.translate import add_translate
    from crossband.translate.options import TileOptions

    parser = Parser(
        prog="crossband",
        description="Translate the image of one sensor into the image another would have taken.",
    )
    parser.add_argument("--version", action="version", version=f"crossband {__version__}")
    sub = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)

    add_translate(sub)
    add_series(sub)
    add_serve(sub)

    p = sub.add_parser("models", help="list the bundled models, or describe one")
    p.set_defaults(run=_models)
    p.add_argument("model", nargs="?", help="print this model's card")
    p.add_argument("--recipes", action="store_true", help="list what can be trained instead")

    p = sub.add_parser("sensors", help="list the sensors that --sensor takes")
    p.set_defaults(run=_sensors)

    p = sub.add_parser(
        "fit",
        help="train a recipe on a manifest of pairs",
        epilog="Any constructor argument is an option, as in --data.manifest pairs.csv "
        "--method.max_steps 5000 --method.generator.width 32; 'crossband fit RECIPE --help' lists "
        "those of a recipe with their defaults. --trainer.max_time 00:00:01:00 stops after one "
        "minute. Exit codes: 0 done, 2 an error, 130 "
        "Ctrl-C, 75 stopped by SIGTERM or SIGUSR1 (the state is saved: continue with --resume).",
    )
    p.set_defaults(run=_fit)
    p.add_argument(
        "recipe", nargs="?", help="bundled recipe or YAML file; without it recipes are listed"
    )
    p.add_argument(
        "-o", "--output", help="run folder (default: runs/NAME, by the recipe's key name)"
    )
    p.add_argument("--sweep", metavar="YAML", help="search for the best values of options")
    p.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    p.add_argument("--overwrite", action="store_true", help="replace an existing run folder")
    p.add_argument(
        "--no-baselines",
        action="store_true",
        help="fit the network only, without baselines and without a blend with them",
    )
    p.add_argument("--fast-run", action="store_true", help="train two steps, to see that all fits")

    add_evaluate(sub)
    add_calibrate(sub)
    _blending(sub)
    add_import(sub)
    add_export(sub)
    add_push(sub)
    add_data(sub)

    p = sub.add_parser("demo", help="translate a real Sentinel-2 scene and measure the error")
    p.set_defaults(run=_demo)
    p.add_argument("--out", default="out/demo", help="folder for the results")
    p.add_argument("--model", default="rgb2nir", help="bundled name, folder or hf://owner/name")
    add_options(p, TileOptions, ("device", "precision"))
    parser.commands = dict(sub.choices)
    return parser


def _blending(sub: Any) -> None:
    p = sub.add_parser(
        "blend",
        help="make a model whose weights lie between those of two models",
        epilog="The weights are interpolated, so the result is one network. A recipe's key `blend` "
        "averages the answers of several networks instead.",
    )
    p.set_defaults(run=_blend)
    p.add_argument("a", metavar="A", help="bundled name, folder or hf://owner/name")
    p.add_argument("b", metavar="B", help="another of the same architecture and signature")
    p.add_argument("--weight", type=float, default=0.5, help="share of B, 0 to 1 (default 0.5)")
    p.add_argument("-o", "--output", required=True, help="folder of the new model")
    p.add_argument("--overwrite", action="store_true", help="replace an existing model folder")


def _models(a: argparse.Namespace) -> int:
    if a.recipes:
        if a.model:
            raise CrossbandError(f"--recipes lists recipes: leave out {a.model}")
        return _recipes(differs=True)
    from crossband.core.regular_file import read_text
    from crossband.model.files import CARD
    from crossband.model.folder import bundled, load, models_table

    if a.model:
        model = load(a.model)
        card = model.folder / CARD if model.folder else None
        say(read_text(card) if card and card.exists() else model.name)
    else:
        say(models_table(bundled()))
    return 0


def _recipes(*, differs: bool = False) -> int:
    import shutil

    from crossband.training import recipe
    from crossband.training.recipe_table import recipe_info, recipe_table

    rows = [recipe_info(name) for name in recipe.available()]
    say(recipe_table(rows, shutil.get_terminal_size().columns, differs))
    return 0


def _sensors(a: argparse.Namespace) -> int:
    from crossband.core.sensors import SENSORS

    width = max(map(len, SENSORS))
    for sensor in SENSORS.values():
        bands = " ".join(b.name for b in sensor.bands)
        say(f"{sensor.name:{width}}  {sensor.unit:11}  {sensor.title}\n{'':{width}}  {bands}")
    return 0


def _fit(a: argparse.Namespace) -> int:
    if a.sweep is not None:
        return _sweep(a)
    if a.recipe is None:
        given = (a.overrides, a.output, a.resume, a.overwrite, a.fast_run, a.no_baselines)
        if any(given):
            raise RecipeError("name a recipe first; crossband fit alone lists them")
        return _recipes()
    from crossband.training.fit import fit

    folder = fit(
        a.recipe,
        a.overrides,
        output=Path(a.output) if a.output else None,
        resume=a.resume,
        overwrite=a.overwrite,
        fast_run=a.fast_run,
        baselines=not a.no_baselines,
    )
    say(folder)
    _say_next(folder)
    return 0


def _recipe_help(name: str) -> int:
    """Print the options of `fit`, then those of a recipe."""
    from crossband.training.recipe_help import recipe_help

    text = recipe_help(name)
    _parser().commands["fit"].print_help()
    say(f"\n{text}")
    return 0


def _say_next(model: Path) -> None:
    """Print what to do with a trained model."""
    from crossband.training.run_folder import PAIRS

    name, pairs = shlex.quote(str(model)), model.parent / PAIRS
    if pairs.is_file():
        report = shlex.quote(str(model.parent / "report"))
        manifest = shlex.quote(str(pairs))
        say(
            f"next: crossband evaluate --model {name} --manifest {manifest} -o {report}", error=True
        )
    say(f"next: crossband translate SCENE.tif -o RESULT.tif --model {name}", error=True)


def _sweep(a: argparse.Namespace) -> int:
    from crossband.training.sweep import sweep
    from crossband.training.trials import trials_table

    if a.recipe is None:
        raise CrossbandError("--sweep needs a recipe; 'crossband fit' lists them")
    if a.no_baselines:
        raise CrossbandError("--sweep fits no baselines: leave out --no-baselines")
    rows, best = sweep(
        a.recipe,
        Path(a.sweep),
        a.overrides,
        output=Path(a.output) if a.output else None,
        resume=a.resume,
        overwrite=a.overwrite,
        fast_run=a.fast_run,
    )
    say(trials_table(rows))
    say(best)
    return 0


def _blend(a: argparse.Namespace) -> int:
    from crossband.model.interpolate import blend

    folder, line = blend(a.a, a.b, Path(a.output), weight=a.weight, overwrite=a.overwrite)
    say(line, error=True)
    say(folder)
    return 0


def _demo(a: argparse.Namespace) -> int:
    from crossband import load
    from crossband.cli.demo import PICTURE, run, scores_table

    folder = Path(a.out)
    say(scores_table(run(folder, load(a.model), device=a.device, precision=a.precision)))
    say(f"look at {folder / PICTURE}; the files lie beside it", error=True)
    return 0
