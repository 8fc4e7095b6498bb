"""Compile loops over pixels by Numba.

Where PyTorch or NumPy write the result of each operation to memory and read it again, a compiled
loop keeps it in registers. Modules with such loops are imported where they are needed, because
Numba takes a while to be imported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba

Loop = Callable[..., Any]
#: A compiler of functions that hold no Python object, and let other threads run.
compiler: Any = functools.partial(numba.njit, nogil=True, error_model="numpy")
#: LLVM may add in any order. NaN and infinity stay what they are, unlike with `fastmath=True`.
ANY_ORDER = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Loop, *, any_order: bool = False) -> Loop:
    """Compile a function at its first call; the result is kept on disk for later processes.

    Args:
        function: in the subset of Python that Numba knows. It is cached by its file and by the
            numbers of the functions around it. So functions that it calls stand in the same file:
            a change of another one would not be noticed.
        any_order: sums may be computed in any order, which is faster, and rounded otherwise.
    """
    options = {"fastmath": ANY_ORDER} if any_order else {}
    try:
        made: Loop = compiler(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        made = compiler(**options)(function)
    return made


def inlined(function: Loop) -> Loop:
    """Return a function that loops of the same file may call; it becomes a part of them."""
    made: Loop = numba.njit(inline="always")(function)
    return made
