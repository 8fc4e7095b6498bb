"""Recognise out-of-memory errors of all libraries."""

from __future__ import annotations

import contextlib
import errno
import os
import re

#: Messages of libraries without an exception class: torch on CPU, MPS, cuDNN, cuBLAS, oneDNN, the
#: loader of shared libraries, and Python's threads, whose stacks do not fit.
OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|ALLOC_FAILED|bad_alloc|"
    r"failed to map segment|cannot allocate memory$|can't start new thread",
    re.IGNORECASE | re.MULTILINE,
)
#: How torch on the CPU, torch on a device and NumPy say what they asked for.
_BYTES = re.compile(r"tried to allocate (\d+) bytes", re.IGNORECASE)
_SIZE = re.compile(r"(?:tried|unable) to allocate ([\d.]+ [KMGT]i?B)", re.IGNORECASE)


def total_memory() -> int | None:
    """Return the bytes of this machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # on Windows
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # of torch
        return True
    if isinstance(error, SystemError):  # C code that failed without saying why
        return _is_limited()
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    kinds = (RuntimeError, ImportError, OSError)
    return isinstance(error, kinds) and OUT_OF_MEMORY.search(str(error)) is not None


def _is_limited() -> bool:
    """Return whether the memory of this process has a limit, as by `ulimit -v`."""
    with contextlib.suppress(ImportError):  # on Windows
        import resource

        return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    return False


def memory_words(message: str) -> str:
    r"""Return the amounts of memory that an error message states, or what was to be loaded.

    >>> memory_words("Tried to allocate 2.00 GiB. GPU 0 has 8 GiB of which 512.00 MiB is free.")
    ', 2.00 GiB asked for, 512.00 MiB free'
    >>> memory_words("DefaultCPUAllocator: you tried to allocate 3145728 bytes.")
    ', 3.0 MiB asked for'
    >>> memory_words("Error importing numpy:\nlibc.so: failed to map segment")
    ': libc.so: failed to map segment'
    >>> memory_words("std::bad_alloc")
    ''
    """
    text = ""
    if asked := _BYTES.search(message):
        text = f", {int(asked[1]) / 2**20:.1f} MiB asked for"
    elif asked := _SIZE.search(message):
        text = f", {asked[1]} asked for"
    if free := re.search(r"([\d.]+ [KMGT]i?B) is free", message):
        text += f", {free[1]} free"
    if not text and (found := re.search(r"\S+: failed to map segment|can't start.*", message)):
        text = f": {found[0]}"
    return text
