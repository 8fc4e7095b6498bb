"""Choose the device and the precision; the default is what the hardware supports natively."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crossband.core.limits import Limit
from crossband.errors import CrossbandError, nearest

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")
#: Number of layer shapes whose CPU kernels are cached, see `limit_kernel_caches`.
KERNELS = 32
#: Kernels that torch keeps above those of oneDNN.
CACHE = Limit("LRU_CACHE_CAPACITY", KERNELS)


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device to use.

    Raises:
        CrossbandError: the requested one does not exist; or `LRU_CACHE_CAPACITY` is set to
            something else than a whole number above 0, at which torch would end the process.
    """
    _ = CACHE.value
    if name not in DEVICES:
        raise CrossbandError(f"unknown device {name!r}: {nearest(name, DEVICES)}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((d for d, ok in there.items() if ok), "cpu"))
    if not there.get(name, True):
        raise CrossbandError(f"--device {name}: this machine has none; use --device auto or cpu")
    return torch.device(name)


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the device computes bfloat16 in hardware; emulation is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        can = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return False


def resolve_precision(device: torch.device, name: str = "auto") -> str:
    """Return `fp32` or `bf16`; `auto` means bf16 if the device supports it natively."""
    if name not in PRECISIONS:
        raise CrossbandError(f"unknown precision {name!r}: {nearest(name, PRECISIONS)}")
    if name == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    return name


def resolve_for(runtime: str | None, device: str, precision: str) -> tuple[torch.device, str]:
    """Return device and precision of a network; see `resolve_device` and `resolve_precision`.

    Args:
        runtime: the program that computes it; None for torch. Others compute on the CPU in fp32.
        device: the requested one.
        precision: the requested one.

    Raises:
        CrossbandError: another device or precision than that of the runtime is requested.
    """
    if runtime is None:
        found = resolve_device(device)
        return found, resolve_precision(found, precision)
    for option, given, only in (("--device", device, "cpu"), ("--precision", precision, "fp32")):
        if given not in ("auto", only):
            raise CrossbandError(f"{option} {given}: {runtime} computes with {only} here")
    return resolve_device("cpu"), "fp32"


def limit_kernel_caches() -> None:
    """Limit the number of cached CPU kernels; call this before the first layer runs on the CPU.

    oneDNN compiles a kernel for each input shape of each layer, up to 2.5 MiB each. By default
    oneDNN and the cache of torch above it keep 1,024 kernels each. Over scenes of many sizes this
    costs 6 MiB a scene and more than 1 GiB in the end. A row of tiles of the bundled model needs
    fewer than 32 shapes, and compiling a kernel again takes milliseconds
    (`benchmarks/soak_scenes.py`). Both caches read these variables once, when the first layer runs.
    Values that are already set in the environment are kept.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
    os.environ[CACHE.variable] = str(CACHE.value)


def keep_freed_memory() -> None:
    """Keep freed memory for the next step instead of returning it to the operating system.

    glibc returns every freed block above 32 MiB. Allocating a block of that size again costs a page
    fault for every 4 KiB, in each training step. This setting holds for the whole process, whose
    memory then never shrinks. Without glibc this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    mmap_max, trim_threshold = -4, -1  # parameters of mallopt, see malloc.h
    libc.mallopt(mmap_max, 0)  # allocate no block with mmap
    libc.mallopt(trim_threshold, -1)  # never shrink the heap


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread of the processor: small operations lose more by waiting than they gain.

    It holds for this thread, and for threads that begin meanwhile. A thread that leaves gets back
    the number of before all of these contexts, as it may have begun in that of another one.
    """
    _alone.begin()
    try:
        yield
    finally:
        _alone.end()


class _OneThread:
    """Who computes in one thread, and how many threads there were before."""

    def __init__(self) -> None:
        self._lock, self._users, self._before = threading.Lock(), 0, 1

    def begin(self) -> None:
        with self._lock:
            here = torch.get_num_threads()  # a thread that never asked would forget what is set
            if not self._users:
                self._before = here
            torch.set_num_threads(1)
            self._users += 1

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            torch.set_num_threads(self._before)


_alone = _OneThread()
