"""What goes between the server and its workers: lines of JSON, and pictures behind those that announce them.

{"job": "9f…", "events": […]}
{"job": "9f…", "preview": "2", "bytes": 5120}     followed by as many bytes
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

LONGEST = 64 << 20
"""Bytes of one line."""


def frame(message: Mapping[str, Any], data: bytes = b"") -> bytes:
    """A message as it is sent, with the bytes that belong to it."""
    if data:
        message = {**message, "bytes": len(data)}
    return json.dumps(message).encode() + b"\n" + data


def read_commands(lines: IO[bytes]) -> Iterator[dict[str, Any]]:
    """The messages without bytes that come in."""
    for line in lines:
        yield json.loads(line)
