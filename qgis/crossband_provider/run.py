"""Run a command of Crossband for an algorithm: its events become QGIS' progress and messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qgis.core import QgsProcessingException, QgsProcessingFeedback

from .child import Cancelled, Child, Failed, Leftovers, events
from .environment import find_command
from .settings import chosen_folder, own_environment, plugin_version

#: The version of the events that the plugin understands; see docs/progress.md.
PROTOCOL = 1


@dataclass
class Outcome:
    """What a command has told.

    Attributes:
        files: that it finished.
        exit_code: 0, or that of a command whose findings are no error.
    """

    files: list[str] = field(default_factory=list)
    exit_code: int = 0


def run_crossband(
    words: Sequence[str],
    outputs: Sequence[str],
    feedback: QgsProcessingFeedback,
    findings: Sequence[int] = (),
    scenes: int = 1,
) -> Outcome:
    """Run a command until it ends, or the user cancels it.

    Args:
        words: its arguments.
        outputs: files and folders that it writes; nothing unfinished is left of them.
        feedback: of the algorithm.
        findings: exit codes that are answers, and no errors.
        scenes: how many the command goes through, for the bar.

    Raises:
        QgsProcessingException: it failed; the text is the line that Crossband says.
    """
    leftovers = Leftovers(outputs)
    listener = Listener(feedback, scenes)
    try:
        command = find_command(chosen_folder(), own_environment())
        feedback.pushCommandInfo(" ".join(_quoted(word) for word in ("crossband", *words)))
        child = Child([command, *words, "--progress", "json"], feedback.isCanceled)
        for event in events(child):
            listener.hear(event)
        code = child.exit_code
        if not listener.started:
            raise Failed(_no_events(command, child))
        if listener.error:
            raise Failed(listener.error)
        if code not in (0, *findings):
            last = child.errors[-1] if child.errors else "it said nothing"
            raise Failed(f"{command} ended with exit code {code}: {last}")
    except Cancelled as cancelled:
        leftovers.remove()
        raise QgsProcessingException("cancelled; nothing half-written was left") from cancelled
    except Failed as failed:
        if not listener.ended:  # killed, so that it could not tidy up itself
            leftovers.remove()
        raise QgsProcessingException(str(failed)) from failed
    return Outcome(listener.files, code)


def _no_events(command: str, child: Child) -> str:
    """Return why a command that is not ours, or too old, told nothing."""
    said = child.errors[-1] if child.errors else "it said nothing"
    if "unknown option" in said:
        return f"{command} is too old for this plugin, which needs Crossband {plugin_version()}"
    return f"{command} does not run: {said}"


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


class Listener:
    """Hears the events of a command.

    Attributes:
        files: that are finished.
        error: why the command ended; empty where it did not fail.
        started, ended: whether the first event came, and the last one.
    """

    def __init__(self, feedback: QgsProcessingFeedback, scenes: int) -> None:
        self._feedback = feedback
        self._finished, self._scenes = 0, scenes
        self.files: list[str] = []
        self.error = ""
        self.started, self.ended = False, False

    def hear(self, event: dict[str, Any]) -> None:
        """Take an event; those of later versions are ignored."""
        hear = getattr(type(self), f"_{event['event']}", None)  # no attribute of the listener
        if callable(hear):
            hear(self, event)

    def _start(self, event: dict[str, Any]) -> None:
        self.started = True
        theirs, ours = event["crossband"], plugin_version()
        if event["protocol"] != PROTOCOL:
            raise Failed(
                f"Crossband {theirs} does not fit this plugin, which is for {ours}: update it"
            )
        if theirs != ours:
            self._feedback.pushWarning(f"Crossband is {theirs}, and this plugin is for {ours}")

    def _progress(self, event: dict[str, Any]) -> None:
        share = event["done"] / max(event["total"], 1)
        self._feedback.setProgress(100 * min((self._finished + share) / self._scenes, 1.0))
        self._feedback.setProgressText(
            f"{event['name']}: {event['done']:,} of {event['total']:,} {event['unit']}"
        )

    def _scene(self, event: dict[str, Any]) -> None:
        self._finished, self._scenes = event["finished"], event["total"]
        line = f"[{self._finished}/{self._scenes}] {event['output']}: {event['status']}"
        if event["status"] == "failed":
            self._feedback.reportError(f"{line}: {event['reason']}")
        else:
            self._feedback.pushInfo(line)
        self._feedback.setProgress(100 * self._finished / self._scenes)

    def _end(self, event: dict[str, Any]) -> None:
        self.ended = True

    def _message(self, event: dict[str, Any]) -> None:
        self._feedback.pushInfo(event["text"])

    def _warning(self, event: dict[str, Any]) -> None:
        self._feedback.pushWarning(event["text"])

    def _file(self, event: dict[str, Any]) -> None:
        self.files.append(event["path"])

    def _error(self, event: dict[str, Any]) -> None:
        self.error = event["text"]
