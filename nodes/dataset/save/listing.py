"""Tables as texts: JSON for display, CSV for other programs."""

from __future__ import annotations

import csv
import json
from base64 import b64encode
from io import StringIO
from math import isfinite
from typing import Any

import pyarrow as pa

from engine.values import Table
from nodes.dataset.table import to_arrow

PICTURES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
"""The first bytes of pictures, by format."""
LONGEST = 16
"""Most values of a list that are shown."""


def as_json(table: Table, most: int) -> str:
    """The first rows, as {"columns": [name, …], "rows": [[value, …], …], "total": rows in all}.

    Pictures become `data:` URLs; other bytes and long lists are shown as their length.
    """
    arrow = to_arrow(table)
    listed = [[_shown(value) for value in row.values()] for row in arrow.slice(0, most).to_pylist()]
    return json.dumps({"columns": arrow.column_names, "rows": listed, "total": table.rows}, ensure_ascii=False)


def _shown(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return float(f"{value:.6g}") if isfinite(value) else None
        case bytes():
            kind = next((kind for start, kind in PICTURES.items() if value.startswith(start)), None)
            return f"data:image/{kind};base64,{b64encode(value).decode()}" if kind else f"{len(value):,} bytes"
        case list():
            return [_shown(item) for item in value] if len(value) <= LONGEST else f"{len(value):,} values"
        case _:
            return str(value)


def as_csv(table: Table) -> str:
    """All rows under a line of names; a list is one text with semicolons between its values. Bytes are left out."""
    arrow = to_arrow(table)
    binary = {pa.binary(), pa.large_binary()}
    arrow = arrow.select([field.name for field in arrow.schema if field.type not in binary])
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(arrow.column_names)
    for batch in arrow.to_batches():
        for row in batch.to_pylist():
            writer.writerow([";".join(map(str, cell)) if isinstance(cell, list) else cell for cell in row.values()])
    return text.getvalue()
