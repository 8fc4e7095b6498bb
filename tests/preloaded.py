"""Processes that need not import: forks of one that has imported what the commands import.

A process that starts `crossband fit` imports for five seconds before it does anything, and tests
start more than a hundred of them. On Linux one process of a test session imports once and waits;
each command is then a fork of it, with arguments, environment, folder, output, signals and exit
code of its own. It ends as an interpreter does, but for taking its modules apart, which costs
another second. What is read while Python or a library is
imported (PYTHONPATH, the number of threads) is the session's: a test of such a thing starts a
fresh interpreter, as do those of what is imported, and one of each command.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path

#: What `fit`, `translate` and `evaluate` import, and Lightning with them.
MODULES = (
    *(
        "crossband.cli.main",
        "crossband.cli.data",
        "crossband.cli.translate",
        "crossband.training.fit",
    ),
    *(
        "crossband.evaluation.evaluate",
        "crossband.training.sweep",
        "crossband.translate.scene",
        "lightning",
        "matplotlib",
    ),
    *("crossband.training.loggers", "crossband.core.atomic", "torch._dynamo"),
)
#: Of a message: arguments, environment, folder.
LONGEST = 2**17


class Process:
    """A started copy, with the methods of `subprocess.Popen` that tests use.

    Args:
        arguments: What would follow the interpreter's name: `-m crossband ...`, `-c code ...`,
            or a script and its arguments.
        env: The whole environment; this process's by default.
        cwd: The folder to work in; this process's by default.
        session: Whether it leads a process group of its own.
        limits: Of `resource.setrlimit`: resource -> soft and hard limit.
    """

    def __init__(self, server, arguments, *, env=None, cwd=None, session=False, limits=None):
        self.returncode = None
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        message = {
            "arguments": [str(a) for a in arguments],
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or Path.cwd()),
            "session": session,
            "limits": list((limits or {}).items()),
        }
        told, tell = os.pipe()
        self._told = os.fdopen(told, "r")
        with open(os.devnull, "rb") as nothing:
            fds = [nothing.fileno(), *(f.fileno() for f in self._files), tell]
            socket.send_fds(server, [json.dumps(message).encode()], fds)
        os.close(tell)
        self.pid = int(self._told.readline())

    def poll(self):
        """Return the exit code; None while it runs."""
        if self.returncode is None and _readable(self._told, 0):
            self.returncode = int(self._told.readline())
        return self.returncode

    def wait(self, timeout=None):
        """Return the exit code when it has ended."""
        if self.returncode is None and not _readable(self._told, timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return self.poll()

    def communicate(self, timeout=None):
        """Return all of stdout and stderr when it has ended."""
        self.wait(timeout)
        return tuple(_text(file) for file in self._files)

    def send_signal(self, number):
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def _readable(file, timeout):
    return bool(select.select([file], [], [], timeout)[0])


def _text(file):
    file.seek(0)
    return file.read().decode()


class Server:
    """The process that waits and forks; it ends with the session."""

    def __init__(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # a Ctrl-C in the terminal is not for it
            )

    def start(self, *arguments, **options):
        """Start a copy; see `Process`."""
        return Process(self.socket, arguments, **options)

    def run(self, *arguments, timeout=300, **options):
        """Run a copy to its end, as `subprocess.run` does."""
        process = self.start(*arguments, **options)
        try:
            out, err = process.communicate(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def close(self):
        """Let it end; what it started ends by itself."""
        self.socket.close()
        self._process.wait()


class Fresh(Server):
    """The same where there is no safe fork: each process is a new interpreter."""

    def __init__(self):
        pass

    def start(self, *arguments, env=None, cwd=None, session=False, limits=None):
        """Start an interpreter."""

        def limit():
            import resource

            for name, values in limits.items():
                resource.setrlimit(name, values)

        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=env,
            cwd=cwd,
            start_new_session=session,
            preexec_fn=limit if limits else None,  # noqa: PLW1509  (no threads)
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def close(self):
        """Nothing waits."""


def serve(connection):
    """Import, then fork for every message until the other end is closed.

    Returns:
        In a fork, the message; None at the end.
    """
    for name in MODULES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    while True:
        text, fds, *_ = socket.recv_fds(connection, LONGEST, 4)
        if not text:
            return None
        if os.fork() == 0:
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            *streams, tell = fds
            if child := os.fork():
                _wait(child, streams, tell)
            os.close(tell)
            message = json.loads(text)
            _settle(message, streams)
            return message
        for fd in fds:
            os.close(fd)


def _wait(child, streams, tell):
    """Tell the child's number, and its exit code when it has ended."""
    for fd in streams:
        os.close(fd)
    os.write(tell, f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(tell, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _settle(message, streams):
    """Be where and what the message says."""
    import resource

    import numpy as np

    if message["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(message["cwd"])
    os.environ.clear()
    os.environ.update(message["env"])
    for name, values in message["limits"]:
        resource.setrlimit(name, values)
    np.random.seed()  # the forks would all draw the same


def become(arguments):
    """Do what the interpreter does with these arguments."""
    first, *rest = arguments
    sys.path[0] = {"-m": os.getcwd(), "-c": ""}.get(first, os.path.dirname(first))
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), module.__dict__)
    else:
        sys.argv = arguments
        runpy.run_path(first, run_name="__main__")


def end(error):
    """End as the interpreter does after this exception, or after none."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it was closed
            stream.flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


if __name__ == "__main__":
    message = serve(socket.socket(fileno=int(sys.argv[1])))
    if message is not None:
        try:
            become(message["arguments"])
        except BaseException as error:  # noqa: BLE001  (the end of the program)
            end(error)
        end(None)
