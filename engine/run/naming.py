"""Fill in the patterns of a file prefix, as ComfyUI and its editor know them.

    %year%, %month%, %day%, %hour%, %minute%, %second%   the time when the file is written
    %date:yyyy-MM-dd_hh-mm-ss%                           the same as one pattern
    %batch_num%                                          the file's place in its batch, from 0
    %KeyframeSampler.seed%                               the value of a node's input; the node by kind, title or id

Kinds that save pictures fill in `%width%` and `%height%` themselves. What has no value, such as an input that is
linked, is left as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from engine.document.workflow import NodeEntry, Workflow, as_constant, as_link, splits
from engine.registry import Registry

TIMES = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
"""The words between % that stand for a part of the time, with the time formats that replace them."""
DATE = "date:"
PART_BYTES = 200
"""The most bytes of a file's or folder's name before its number: file systems allow 255 in all."""
_PATTERN = re.compile(r"%([^%]+)%")
_DATE_PART = re.compile(r"yyy?y?|dd?|MM?|hh?|mm?|ss?")
_DATE_FIELDS = {"d": "tm_mday", "M": "tm_mon", "h": "tm_hour", "m": "tm_min", "s": "tm_sec"}
_FORBIDDEN = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
_FORBIDDEN_IN_DATES = re.compile(r'[?<>\\:*|"\x00-\x1f\x7f]')


class Names:
    """The names of the files that a workflow saves.

    Args:
        workflow: the document.
        registry: its kinds of node, for inputs that it leaves out.
        flat: its nodes with subgraphs inlined, for patterns that name nodes within those.
    """

    def __init__(self, workflow: Workflow, registry: Registry, flat: Mapping[str, NodeEntry]) -> None:
        self.workflow = workflow
        self.registry = registry
        self._within = {node: entry for node, entry in flat.items() if node not in workflow.graph}

    def of_file(self, prefix: str, now: time.struct_time, batch: int) -> str:
        """The prefix of a file, with folders, with all patterns filled in."""
        return self._filled(prefix, now, batch)

    def of_folder(self, prefix: str) -> str:
        """The prefix of a folder; by its name an unfinished one is found again, so it can't say the time."""
        return self._filled(prefix, None, 0)

    def _filled(self, prefix: str, now: time.struct_time | None, batch: int) -> str:
        def value(match: re.Match[str]) -> str:
            found = _time(match[1], now) if now else None
            if found is None and match[1] == "batch_num":
                found = str(batch)
            if found is None:
                shown = self._value(match[1])
                found = _FORBIDDEN.sub("_", match[0] if shown is None else shown)
            return found

        filled = _PATTERN.sub(value, prefix)
        return filled if filled == prefix else "/".join(map(_part, filled.split("/")))

    def _value(self, pattern: str) -> str | None:
        """The value of an input, as the editor shows it; None if the pattern names none, or one that is linked."""
        for entry, socket in self._named(pattern):
            kind = self.registry.get(entry.class_type)
            own = kind.spec.inputs.get(socket) if kind else None
            value = entry.inputs.get(socket, own.default if own and not own.required else ...)
            if value is not ... and not as_link(value):
                return _shown(as_constant(value))
        return None

    def _named(self, path: str) -> Iterator[tuple[NodeEntry, str]]:
        """The nodes and inputs that "node.input" may mean."""
        return ((entry, socket) for name, socket in splits(path) for entry in self._found(name))

    def _found(self, name: str) -> Iterator[NodeEntry]:
        """The nodes that a name may mean, the likeliest first: by kind, by title, by id."""
        nodes = [*self.workflow.graph.items(), *self._within.items()]
        yield from (entry for _, entry in nodes if entry.class_type == name)
        yield from (entry for _, entry in nodes if entry.meta.get("title") == name)
        yield from (entry for node, entry in nodes if node == name)


def _time(word: str, now: time.struct_time) -> str | None:
    """The time as a pattern asks for it; None if it is another pattern."""
    if word in TIMES:
        return time.strftime(TIMES[word], now)
    if not word.startswith(DATE):
        return None
    return _FORBIDDEN_IN_DATES.sub("_", _DATE_PART.sub(lambda part: _date_part(part[0], now), word.removeprefix(DATE)))


def _date_part(letters: str, now: time.struct_time) -> str:
    if letters[0] == "y":
        year = str(now.tm_year)
        return {2: year[-2:], 4: year}.get(len(letters), letters)
    return str(getattr(now, _DATE_FIELDS[letters[0]])).zfill(len(letters))


def _shown(value: Any) -> str:
    """A constant as the editor writes it, which is written in JavaScript."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(_shown, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _part(name: str) -> str:
    """The name of a file or folder made of values: neither empty, nor hidden, nor too long."""
    name = name.encode("utf-8", "replace")[:PART_BYTES].decode(errors="ignore")
    return name if name[:1] not in ("", ".") else f"_{name[1:]}"
