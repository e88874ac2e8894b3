"""The tables of a data set: their columns, and conversion to and from Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import InputError
from engine.values import Table
from nodes.files.footage import Picture

Row = dict[str, Any]
THUMBNAIL_SIDE = 160
"""Longer side of the pictures that tables keep."""
THUMBNAIL_QUALITY = 80

CLIPS = pa.schema(
    [
        ("video", pa.string()),  # the path, relative to the folder that was given
        ("clip", pa.int32()),  # its number in the video, from 0
        ("first_frame", pa.int32()),
        ("end_frame", pa.int32()),  # the first that is no longer in it
        ("start", pa.float64()),  # seconds
        ("seconds", pa.float64()),
        ("damaged", pa.float32()),  # seconds of it that were noticed to be damaged in the video
        ("width", pa.int32()),  # as shown, as the height
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("audio", pa.bool_()),
        ("motion", pa.float32()),  # percent of the longer side per second, as the next two
        ("camera_motion", pa.float32()),
        ("object_motion", pa.float32()),
        ("text_area", pa.float32()),  # share of the picture, mean of the first, middle and last view
        ("sharpness", pa.float32()),
        ("brightness", pa.float32()),
        ("clipped", pa.float32()),  # share of pixels that are all but black or white
        ("aesthetics", pa.float32()),  # mean of the same three, LAION's scale of 1 to 10
        ("image_caption", pa.string()),
        ("video_caption", pa.string()),
        ("summary", pa.string()),
        ("caption", pa.string()),  # the one of them to train on
        ("image_caption_similarity", pa.float32()),  # cosine of CLIP's embeddings of it and of the middle view
        ("video_caption_similarity", pa.float32()),
        ("summary_similarity", pa.float32()),
        ("caption_similarity", pa.float32()),
        ("duplicate_of", pa.string()),  # the first clip that shows the same, as video#clip; undamaged ones come first
        ("embedding", pa.list_(pa.float16())),  # CLIP's of the middle view, of length 1
        ("fingerprint", pa.binary()),
        ("thumbnail", pa.binary()),  # of the middle view, JPEG
        ("source", pa.string()),  # the absolute path that it was read from
        ("source_digest", pa.string()),  # of what it held then
        ("dropped", pa.list_(pa.string())),  # why it is not in the data set; empty if it is
    ]
)
SCANNED = pa.schema(
    [
        *(CLIPS.field(name) for name in ("first_frame", "end_frame", "start", "seconds", "damaged")),
        *(CLIPS.field(name) for name in ("motion", "camera_motion", "object_motion", "text_area")),
        *(CLIPS.field(name) for name in ("sharpness", "brightness", "clipped", "fingerprint")),
        ("views", pa.list_(pa.binary())),  # JPEG, in order
    ]
)
"""What is known of clips before models have described them."""
VIDEOS = pa.schema(
    [
        ("video", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("seconds", pa.float64()),
        ("frames", pa.int32()),
        ("codec", pa.string()),
        ("pixel_format", pa.string()),
        ("pixel_aspect", pa.float32()),  # width of a pixel as stored, over its height; width and height are as shown
        ("interlaced", pa.bool_()),
        ("hdr", pa.string()),  # "PQ" or "HLG" for a high dynamic range, else ""
        ("audio", pa.bool_()),
        ("clips", pa.int32()),
        ("problem", pa.string()),  # what was wrong with the file, or why it gave no clip; "" if nothing was
    ]
)


def thumbnail(picture: Picture) -> bytes:
    """A picture as the small JPEG that tables keep."""
    factor = THUMBNAIL_SIDE / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))
    reduced = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", reduced, [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])[1].tobytes()


def to_table(rows: Iterable[Row], schema: pa.Schema) -> Table:
    """Rows as a table; columns that a row lacks are null."""
    return of_arrow(pa.Table.from_pylist(list(rows), schema))


def of_arrow(table: pa.Table) -> Table:
    """An Arrow table as a value."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Table(sink.getvalue().to_pybytes(), table.num_rows)


def to_arrow(table: Table) -> pa.Table:
    """A value as an Arrow table, without copying it."""
    return pa.ipc.open_stream(pa.py_buffer(table.data)).read_all()


def read_clips(path: Path) -> Table:
    """A Parquet file of clips as a table; columns that `CLIPS` has and it doesn't are null, others are kept.

    Raises:
        InputError: it isn't a Parquet file, or a column can't be converted to its type in `CLIPS`.
    """
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(path)
        for field in CLIPS:
            if field.name not in found.column_names:
                found = found.append_column(field, pa.nulls(found.num_rows, field.type))
        known = found.select(CLIPS.names).cast(CLIPS).replace_schema_metadata(found.schema.metadata)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} can't be read as a table of clips: {reason}", hint="give a scores.parquet") from error
    others = [name for name in found.column_names if name not in CLIPS.names]
    for name in others:
        known = known.append_column(found.schema.field(name), found[name])
    if known["dropped"].null_count:
        kept = pa.array([value or [] for value in known["dropped"].to_pylist()], CLIPS.field("dropped").type)
        known = known.set_column(known.column_names.index("dropped"), CLIPS.field("dropped"), kept)
    return of_arrow(known)


def with_columns(table: pa.Table, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """The table with new values in some of its columns."""
    for name, values in columns.items():
        at = table.column_names.index(name)
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array(values, field.type))
    return table


def rows(table: Table | pa.Table, columns: Sequence[str] | None = None) -> list[Row]:
    """The rows, with all or some of their columns; lists of numbers are slices of one array.

    Raises:
        InputError: the table lacks a column.
    """
    arrow = to_arrow(table) if isinstance(table, Table) else table
    if missing := set(columns or ()) - set(arrow.column_names):
        raise InputError(f"the table has no column {min(missing)}", hint=f"it has {', '.join(arrow.column_names)}")
    arrow = arrow.select(list(columns)) if columns else arrow
    numbers = [
        field.name for field in arrow.schema if pa.types.is_list(field.type) and _is_number(field.type.value_type)
    ]
    listed: list[Row] = arrow.drop_columns(numbers).to_pylist() if numbers else arrow.to_pylist()
    for name in numbers:
        for row, value in zip(listed, _slices(arrow[name]), strict=True):
            row[name] = value
    return listed


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _slices(column: pa.ChunkedArray) -> Iterator[NDArray[Any] | None]:
    for chunk in column.chunks:
        values, edges = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        for index, there in enumerate(chunk.is_valid().to_pylist()):
            yield values[edges[index] : edges[index + 1]] if there else None
