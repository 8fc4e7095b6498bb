"""Run cases in forked processes: with limits, with their own streams, watched from outside."""

from __future__ import annotations

import contextlib
import io
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from unittest import mock

from fuzzing.case import Case
from fuzzing.judge import Ending, Verdict, judge, listing

Main = Callable[[list[str]], int]
Make = Callable[[int], Case]

#: What one case may take: seconds of the processor, of the clock, and bytes beyond those that the
#: process has when the case begins. The clock is for a machine that does other work, too.
PROCESSOR_SECONDS, CLOCK_SECONDS, MEMORY = 20, 300, 1536 * 2**20
#: Cases after which a process is replaced, so that memory that libraries keep does not add up.
CASES_OF_A_PROCESS = 200


def write_files(case: Case, folder: Path) -> None:
    """Write the files of a case into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in case.files.items():
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        if name.endswith("/"):
            os.makedirs(path, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if isinstance(content, str):
            os.symlink(content, path)
        else:
            Path(os.fsdecode(path)).write_bytes(content)


def run(case: Case, folder: Path, main: Main) -> Verdict:
    """Run a case in this process and judge it.

    Args:
        case: the case.
        folder: for its files; it is emptied before.
        main: the command.
    """
    write_files(case, folder)
    before = listing(folder)
    with contextlib.chdir(folder):  # a VRT names its files from where it lies
        given = {name: value for name, value in case.environment.items() if value is not None}
        with mock.patch.dict(os.environ, given):
            for name in case.environment.keys() - given:
                os.environ.pop(name, None)
            code, out, err, raised = _captured(case.arguments, main)
        return judge(case, Ending(code, out, err, raised, before, listing(folder)), folder)


def _captured(arguments: list[str], main: Main) -> tuple[int | None, str, str, str]:
    """Return exit code, stdout, stderr and traceback of a command."""
    kept = [os.dup(number) for number in (1, 2)]
    streams = sys.stdout, sys.stderr
    files = [os.memfd_create(name) for name in ("out", "err")]
    code, raised = None, ""
    try:
        for number, file in enumerate(files, start=1):
            os.dup2(file, number)
        # As the interpreter makes them: of the descriptors 1 and 2, which C libraries use, too.
        sys.stdout, sys.stderr = (_stream(number) for number in (1, 2))
        with mock.patch.multiple(sys, __stdout__=sys.stdout, __stderr__=sys.stderr):
            try:
                code = main(arguments)
            except BaseException:  # noqa: BLE001 - that it raised is what is judged
                raised = traceback.format_exc()
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        sys.stdout, sys.stderr = streams
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
    out, err = map(_text, files)
    return code, out, err, raised


def _stream(number: int) -> io.TextIOWrapper:
    raw = io.FileIO(number, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", line_buffering=number == 2)


def _text(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, "rb") as stream:
        return stream.read(2**20).decode("utf-8", "replace")


class Worker:
    """A forked process that runs one case after the other.

    Args:
        numbers: of the cases.
        make: number -> case.
        main: the command.
        folder: to work in; its own.
    """

    def __init__(self, numbers: list[int], make: Make, main: Main, folder: Path) -> None:
        self.numbers, self.folder = numbers, folder
        self.told, tell = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_serve, args=(numbers, make, main, folder, tell))
        self._process.start()
        tell.close()
        self._since = time.monotonic()
        self.dead = False

    def verdict(self) -> Verdict | None:
        """Return how the next case ended; None while it runs."""
        if self.told.poll():
            try:
                found: Verdict = self.told.recv()
            except EOFError:
                return self._ended()
            self._since = time.monotonic()
            return found
        if time.monotonic() - self._since < CLOCK_SECONDS:
            return None
        self.close()
        return Verdict("hang", f"no end after {CLOCK_SECONDS} s")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._ended()

    def _ended(self) -> Verdict:
        self.dead = True
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGXCPU:
            return Verdict("time", f"{PROCESSOR_SECONDS} s of the processor")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Verdict("crash", f"the process ended: {name}")


def _serve(numbers: list[int], make: Make, main: Main, folder: Path, tell: Connection) -> None:
    """Run cases under limits; what a forked process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(spent.ru_utime + spent.ru_stime) + PROCESSOR_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
        try:
            tell.send(run(make(number), folder, main))
        except Exception:  # noqa: BLE001 - of the fuzzer itself
            tell.send(Verdict("fault of the fuzzer", traceback.format_exc()[-600:]))


def run_all(
    numbers: Iterator[int], make: Make, main: Main, folder: Path, workers: int
) -> Iterator[tuple[int, Verdict]]:
    """Run cases, several at a time; yield each number with its verdict as it ends."""
    free = [folder / str(n) for n in range(workers)]
    busy: list[Worker] = []
    try:
        while True:
            while free and (some := list(itertools.islice(numbers, CASES_OF_A_PROCESS))):
                busy.append(Worker(some, make, main, free.pop()))
            if not busy:
                return
            wait([worker.told for worker in busy], 1.0)
            for worker in list(busy):
                found = worker.verdict()
                if found is not None:
                    yield worker.numbers.pop(0), found
                if worker.numbers and not worker.dead:
                    continue
                busy.remove(worker)
                worker.close()
                if worker.numbers:
                    busy.append(Worker(worker.numbers, make, main, worker.folder))
                else:
                    free.append(worker.folder)
    finally:
        for worker in busy:
            worker.close()
