"""Errors for users: each is one line that says what to do, and gives exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: A hint lists all known names up to so many, and the three nearest of more.
MOST_NAMES = 30
#: A part of a name of this many letters suggests all that begin with it, of these at most so many.
SHORTEST, MOST_LONGER = 3, 4


class CrossbandError(Exception):
    """Base of every error that a user can cause and mend."""

    exit_code = 2

    def __str__(self) -> str:
        # GDAL and jsonargparse messages may span lines; a user gets one.
        return " ".join(super().__str__().split())


class InputError(CrossbandError):
    """The source cannot be read: missing, truncated, not an image, complex numbers, all nodata."""


class MaskedError(InputError):
    """Every pixel of the source is masked: there is nothing to translate."""


class GuideError(InputError):
    """A finished result cannot be brought to its reference; what was computed is kept."""


class BandError(CrossbandError):
    """The bands that a model needs are not there, or cannot be told apart."""


class UnitError(CrossbandError):
    """The physical unit of the values is unknown, or is not one that the model was trained on."""


class OutputError(CrossbandError):
    """The result cannot be written: exists already, folder not writable, disk full."""


class UpToDate(OutputError):
    """The result exists, and the same command has made it from the same: nothing is left to do."""

    exit_code = 0


class ChangedError(OutputError):
    """What was begun or made before comes from another source, model or option."""


class FinishError(OutputError):
    """All windows are there, and the file could not be made of them; they are kept."""


class ClusterError(CrossbandError):
    """The scheduler is not there, or gave the work up; what came back of a scene is kept."""


class SomeFailed(CrossbandError):
    """Of many scenes some failed; the others are finished, and the summary says which."""

    exit_code = 1


class ModelError(CrossbandError):
    """A model folder is missing, incomplete, altered, or in a form that is never loaded."""


class RecipeError(CrossbandError):
    """A recipe or one of its options is unknown or has a wrong value."""


class ManifestError(CrossbandError):
    """A manifest is missing a column, a file, or a split."""


class UnreadableError(ManifestError):
    """A file of a pair cannot be read: truncated, gone, not an image."""


class TrainingError(CrossbandError):
    """Training cannot go on: a loss that is not finite, a checkpoint that does not fit."""


class Interrupted(CrossbandError):
    """The user pressed Ctrl-C; nothing half-written is left under a final name."""

    exit_code = 130


class Preempted(CrossbandError):
    """A signal of the cluster ended the run between two steps; --resume goes on.

    The code is EX_TEMPFAIL of sysexits.h: no failure, try again.
    """

    exit_code = 75


class CrossbandWarning(UserWarning):
    """Something that a user should know, though the work goes on; the command prints one line."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the closest known one, or the list.

    >>> nearest("rgb2nri", ["rgb2nir", "sar2optical"])
    "did you mean 'rgb2nir'?"
    >>> nearest("xyz", ["a", "b"])
    'known: a, b'
    >>> nearest("NVDI", ["NMDI", "NDVI"])
    "did you mean 'NDVI'?"
    >>> nearest("rgb2nir/cmm", ["rgb2nir/cnn", "rgb2nir/mlp"])
    "did you mean 'rgb2nir/cnn'?"
    >>> nearest("FOO", [*(f"X{n}" for n in range(40)), "NDVI", "FAI", "BOB"])
    'nearest of 43: BOB, FAI, X9'
    >>> nearest("sentinel-1", ["sentinel-1-db", "sentinel-1-linear", "sentinel-2"])
    "did you mean 'sentinel-1-db' or 'sentinel-1-linear'?"
    """
    names = sorted(known)
    lowered = {n.lower(): n for n in names}
    wanted = name.lower()[:80]  # comparing with a longer one would take long
    longer = [n for start, n in lowered.items() if start.startswith(wanted)]
    if len(wanted) >= SHORTEST and 0 < len(longer) <= MOST_LONGER:
        return f"did you mean {' or '.join(map(repr, longer))}?"
    close = difflib.get_close_matches(wanted, list(lowered), n=5, cutoff=0.6)
    if close:  # of those that are equally close, the one with the same beginning
        best = [c for c in close if _likeness(wanted, c) == _likeness(wanted, close[0])]
        start = max(best, key=lambda c: _common(wanted, c))
        close = [start, *(c for c in close if c != start)]
    if close:
        # Two letters swapped is the most common slip; difflib does not count it as one.
        swapped = [c for c in close if sorted(c) == sorted(wanted)]
        return f"did you mean {lowered[(swapped or close)[0]]!r}?"
    if len(names) > MOST_NAMES:
        some = difflib.get_close_matches(wanted, list(lowered), n=3, cutoff=0.0)
        return f"nearest of {len(names)}: {', '.join(sorted(lowered[s] for s in some))}"
    return f"known: {', '.join(names)}" if names else "none is known"


def _likeness(wanted: str, name: str) -> float:
    return difflib.SequenceMatcher(None, name, wanted).ratio()


def _common(wanted: str, name: str) -> int:
    """Return how many letters at the beginning are the same."""
    return next(
        (i for i, (a, b) in enumerate(zip(wanted, name, strict=False)) if a != b), len(name)
    )
