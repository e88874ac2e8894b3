"""Tables as shown to people and other programs."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from engine.node import Context
from engine.values import Table, Video
from nodes.dataset.nodes import PreviewTable, SaveTable, VideoFrameFilter
from nodes.dataset.table import of_arrow, thumbnail


def table(**columns: list[Any]) -> Table:
    return of_arrow(pa.table(columns))


def shown(table: Table, rows: int = 20) -> Any:
    (item,) = PreviewTable(table=table, rows=rows).run(Context()).items
    assert (item.extension, item.prefix) == ("json", "preview")
    return json.loads(item.data)


def saved(table: Table) -> list[list[str]]:
    (item,) = SaveTable(table=table).run(Context()).items
    assert (item.extension, item.prefix) == ("csv", "table")
    return list(csv.reader(io.StringIO(item.data.decode())))


def test_the_first_rows_are_shown_with_names_and_how_many_there_are() -> None:
    found = shown(table(video=["a", "b", "c"], clip=[0, 1, None]), rows=2)
    assert found == {"columns": ["video", "clip"], "rows": [["a", 0], ["b", 1]], "total": 3}
    assert shown(table(video=[]))["rows"] == []


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (0.1, 0.1),
        (float("nan"), None),
        (float("-inf"), None),
        (True, True),
        ("Grüße, 世界", "Grüße, 世界"),
        (["worst 25% motion"], ["worst 25% motion"]),
        ([0.5] * 128, "128 values"),
        (b"\0" * 1234, "1,234 bytes"),
        ({"x": 1}, "{'x': 1}"),
    ],
)
def test_whatever_a_table_holds_can_be_shown(value: Any, seen: Any) -> None:
    assert shown(table(x=[value]))["rows"] == [[seen]]


def test_numbers_are_shown_to_their_precision() -> None:
    narrow = pa.array([0.07], pa.float32())
    assert shown(of_arrow(pa.table({"x": narrow})))["rows"] == [[0.07]]


def test_pictures_can_be_seen() -> None:
    address = shown(table(picture=[thumbnail(np.zeros((90, 160, 3), np.uint8))]))["rows"][0][0]
    assert address.startswith("data:image/jpeg;base64,")
    png = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    assert shown(table(picture=[png]))["rows"][0][0].startswith("data:image/png;base64,")


def test_a_spreadsheet_gets_all_rows_without_bytes() -> None:
    whole = table(name=['a "b", c', "d\ne"], score=[0.25, None], why=[["x", "y"], []], picture=[b"1", b"2"])
    assert saved(whole) == [["name", "score", "why"], ['a "b", c', "0.25", "x;y"], ["d\ne", "", ""]]


def test_the_frames_of_a_video_can_be_listed() -> None:
    found = VideoFrameFilter(source=Video(torch.rand(3, 3, 32, 32), 8.0), rules="brightness >= 0").run(Context())
    assert [row[:2] for row in saved(found.table)] == [["frame", "time"], ["0", "0.0"], ["1", "0.125"], ["2", "0.25"]]
    assert shown(found.table)["total"] == 3
