"""Tables as rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from nodes.dataset.table import CLIPS, rows, to_arrow, to_table, with_columns


def test_lists_of_numbers_are_slices_of_one_array() -> None:
    embeddings = np.random.default_rng(0).standard_normal((4, 512)).astype(np.float16)
    given = [{"clip": index, "embedding": embedding} for index, embedding in enumerate(embeddings)]
    listed = rows(to_table([*given, {"clip": 4}], CLIPS))
    assert listed[4]["embedding"] is None
    for row, embedding in zip(listed, embeddings, strict=False):
        assert np.array_equal(row["embedding"], embedding)
        assert np.shares_memory(row["embedding"], listed[0]["embedding"].base)


def test_a_table_of_several_chunks_gives_all_its_rows() -> None:
    chunks = [to_arrow(to_table([{"clip": i, "embedding": np.full(3, i, np.float16)}], CLIPS)) for i in range(3)]
    listed = rows(pa.concat_tables(chunks)[1:])
    assert [(row["clip"], row["embedding"].tolist()) for row in listed] == [(1, [1, 1, 1]), (2, [2, 2, 2])]


def test_columns_are_given_other_values_of_their_type() -> None:
    table = to_arrow(to_table([{"clip": 0, "motion": 1.0}, {"clip": 1, "motion": 2.0}], CLIPS))
    changed = with_columns(table, {"dropped": [["why"], []], "clip": range(2, 4)})
    assert changed.schema == CLIPS
    assert [(row["clip"], row["motion"], row["dropped"]) for row in rows(changed)] == [(2, 1, ["why"]), (3, 2, [])]
