"""Where to compute, and in which precision: what the machine does natively by default."""

from __future__ import annotations

import ctypes
import os
import platform

import torch

from crossband.errors import CrossbandError, nearest

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")
#: Shapes of layers for which a processor's kernels are kept, see `limit_kernel_caches`.
KERNELS = 32


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device to use; CrossbandError where the one asked for is not there."""
    if name not in DEVICES:
        raise CrossbandError(f"unknown device {name!r}: {nearest(name, DEVICES)}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((d for d, ok in there.items() if ok), "cpu"))
    if not there.get(name, True):
        raise CrossbandError(f"--device {name}: this machine has none; use --device auto or cpu")
    return torch.device(name)


def has_native_bf16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 in hardware; emulation is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        can = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return False


def resolve_precision(device: torch.device, name: str = "auto") -> str:
    """Return `fp32` or `bf16`; `auto` takes bf16 where the device has it natively."""
    if name not in PRECISIONS:
        raise CrossbandError(f"unknown precision {name!r}: {nearest(name, PRECISIONS)}")
    if name == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    return name


def limit_kernel_caches() -> None:
    """Keep the kernels of few shapes: call it before the first layer runs on the processor.

    oneDNN compiles kernels for each shape of each layer, up to 2.5 MiB of them for one, and it and
    torch's layer above it keep 1,024 of them each: over scenes of many sizes 6 MiB a scene, and
    more than a GiB in the end. 32 are more than the shapes in a row of tiles of the bundled model;
    compiling one again takes milliseconds (`benchmarks/soak_scenes.py`). Both read these variables
    once, when the first layer runs; what is set in the environment wins.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS))


def keep_freed_memory() -> None:
    """Keep memory that is freed for the next step, instead of handing it back to the system.

    glibc hands back every block above 32 MiB. The next one of that size then costs a page fault
    for every 4 KiB, in each training step. It holds for the whole process, which
    stays as large as it ever was. Without glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    mmap_max, trim_threshold = -4, -1  # parameters of mallopt, see malloc.h
    libc.mallopt(mmap_max, 0)  # no block of its own mapping
    libc.mallopt(trim_threshold, -1)  # and the heap never shrinks
