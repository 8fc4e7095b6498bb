"""Parse YAML from others: numbers, texts, lists and mappings; anything else is a ValueError.

YAML can say little and mean much: references that multiply, objects of other kinds, a key that is
given twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from crossband.core.json_text import DEEPEST, TOO_DEEP
from crossband.core.regular_file import read_text
from crossband.errors import CrossbandError, InputError

#: Values of a text, at most; a reference counts as all values that it stands for.
MOST_VALUES = 100_000
#: Largest file in bytes; reading takes seconds for each MiB.
_MOST_BYTES = 2**20


class TooMuchError(ValueError):
    """A text says more than is read: it nests too deeply, or its references multiply."""


def parse_yaml(text: str) -> Any:
    """Return the data of a YAML text.

    A reference (`*name`) gives a copy. A date is the text that it is written as.

    Raises:
        TooMuchError: nested too deeply, or too many values.
        ValueError: not YAML; a key that is no text or is there twice; a tag, which could name
            something else than plain data.

    >>> parse_yaml("{one: &a [1, 2.5], two: *a, day: 2024-05-01}")
    {'one': [1, 2.5], 'two': [1, 2.5], 'day': '2024-05-01'}
    >>> parse_yaml("!!python/name:os.system ''")
    Traceback (most recent call last):
    ValueError: the tag !!python/name:os.system: data in YAML is read without tags
    """
    try:
        _check_events(text)
        return _copied(yaml.load(text, Loader=_PlainLoader))  # a SafeLoader
    except yaml.YAMLError as problem:
        raise ValueError(" ".join(str(problem).split())) from problem


def read_yaml(path: str | Path, error: type[CrossbandError] = InputError) -> Any:
    """Return the data of a file in YAML; see `parse_yaml` and `regular_file.read_text`."""
    try:
        return parse_yaml(read_text(path, error, _MOST_BYTES))
    except ValueError as problem:
        raise error(f"{path}: not YAML that can be read: {problem}") from problem


def _check_events(text: str) -> None:
    """Raise ValueError for tags, too many nodes or too many levels, before any node is made."""
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the count when it began
    sizes: dict[str, int] = {}
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if tag := getattr(event, "tag", None):
            tag = str(tag).replace("tag:yaml.org,2002:", "!!")
            raise ValueError(f"the tag {tag}: data in YAML is read without tags")
        if isinstance(event, yaml.AliasEvent):
            # That of a node that is still open would stand for itself.
            if event.anchor not in sizes:
                raise ValueError(f"the reference *{event.anchor} stands for nothing before it")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            count += 1
            open_nodes.append((event.anchor, count - 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        if len(open_nodes) > DEEPEST:
            raise TooMuchError(TOO_DEEP)
        if count > MOST_VALUES:
            raise TooMuchError(f"more than {MOST_VALUES:,} values, references counted")


def _copied(data: Any) -> Any:
    """Copy lists and mappings: those that several references name would change together."""
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data


class _PlainLoader(yaml.SafeLoader):
    """Makes texts of dates, and refuses keys that are given twice or are no texts."""

    yaml_implicit_resolvers = {  # noqa: RUF012, as the base has it
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the node of a mapping, whose keys are texts that differ."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        known = set()
        for key, _ in node.value:
            line = f"line {key.start_mark.line + 1}"
            if str(key.tag).rpartition(":")[2] not in ("str", "merge"):
                raise ValueError(f"{line}: a key that is no text: put it in quotes")
            if key.value in known:
                raise ValueError(f"{line}: the key {key.value!r} is there twice")
            known.add(key.value)
        return node
