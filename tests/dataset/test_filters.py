"""Rules: what they drop from a table or a video, and what votes choose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError, MissingError
from engine.node import Context
from engine.values import Table, Video
from nodes.dataset import extra
from nodes.dataset.filter.elo import Vote, parse, ratings
from nodes.dataset.filter.judging import reasons
from nodes.dataset.filter.rules import parse as rules
from nodes.dataset.nodes import (
    EloThreshold,
    LoadScores,
    LVDCurate,
    PreviewTable,
    SaveDataset,
    SaveTable,
    VideoFrameFilter,
)
from nodes.dataset.presets import LVD_F
from nodes.dataset.table import CLIPS, rows, to_table
from tests.dataset.films import sprites


def clips(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def dropped(listed: list[dict[str, Any]], text: str) -> list[int]:
    return [index for index, why in enumerate(reasons(listed, rules(text))) if why]


def test_bounds_are_respected_and_given_as_reasons() -> None:
    listed = clips(text_area=[0.0, 0.07, 0.071, None])
    assert reasons(listed, rules("text_area <= 0.07")) == [
        [],
        [],
        ["text_area 0.071 is above 0.07"],
        ["has no text_area"],
    ]


def test_the_worst_are_the_lowest_or_for_some_columns_the_highest() -> None:
    listed = clips(motion=[4.0, 1, 3, 2], text_area=[0.1, 0.4, 0.2, 0.3])
    assert dropped(listed, "worst 25% motion") == [1]
    assert dropped(listed, "worst 50% motion") == [1, 3]
    assert dropped(listed, "worst 25% text_area") == [1]
    assert dropped(clips(clipped=[0.1, 0.4, 0.2, 0.3]), "worst 25% clipped") == [1]
    assert "the worst 25 %" in reasons(listed, rules("worst 25% motion"))[1][0]


@pytest.mark.parametrize(("share", "count", "gone"), [(18.4, 375, 69), (29, 100, 29), (0.7, 1000, 7), (33.3, 10, 3)])
def test_a_share_that_is_a_whole_number_of_rows_is_that_number(share: float, count: int, gone: int) -> None:
    assert dropped(clips(motion=[float(row) for row in range(count)]), f"worst {share}% motion") == [*range(gone)]


def test_percentages_are_of_all_rows_whatever_other_rules_drop() -> None:
    listed = clips(motion=[1.0, 2, 3, 4], aesthetics=[4.0, 3, 2, 1])
    assert dropped(listed, "worst 25% motion\nworst 25% aesthetics") == [0, 3]


@given(st.lists(st.floats(0, 10, width=32) | st.sampled_from([1.0, 2.0]), min_size=1), st.integers(0, 100))
def test_as_many_as_asked_for_are_dropped_but_for_those_that_equal_the_first_kept(
    values: list[float], share: int
) -> None:
    gone = dropped(clips(motion=values), f"worst {share}% motion")
    most = share * len(values) // 100
    ordered = sorted(values)
    limit = ordered[most] if most < len(values) else np.inf
    assert gone == [index for index, value in enumerate(values) if value < limit]
    assert len(gone) == most or ordered[len(gone)] == ordered[most]


def test_nan_counts_as_no_value_and_limits_are_as_exact_as_scores() -> None:
    assert dropped(clips(motion=[3.0, float("nan"), 1, 4]), "worst 34% motion") == [1, 2]
    assert dropped(clips(text_area=[float(np.float32(0.07))]), "text_area <= 0.07") == []
    assert dropped(clips(clipped=[0.5, 0.001]), "clipped <= .1\nclipped >= 1e-3") == [0]


def test_duplicates() -> None:
    listed = clips(duplicate_of=[None, "a.mp4#0", None])
    assert reasons(listed, rules("no duplicates"))[1] == ["shows the same as a.mp4#0"]


def test_no_damage() -> None:
    listed = clips(damaged=[0.0, 0.25, 1e-4, None])
    assert reasons(listed, rules("no damage")) == [
        [],
        ["is damaged for 0.25 s"],
        ["is damaged for 0.01 s"],
        ["has no damaged"],
    ]
    assert dropped(clips(damaged=[0.0, 0.25, 1.0, 2.0]), "worst 25% damaged") == [3]
    assert dropped(clips(damaged=[0.0, 0.25, 1.0, 2.0]), "damaged <= 0.5") == [2, 3]
    with pytest.raises(InputError, match="'damaged', for which no row has a value"):
        dropped(clips(damaged=[None, None]), "no damage")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("motion", "'motion' is not a rule"),
        ("worst 101% motion", "is not a rule"),
        ("worst 5% motoin", "'motoin', which is not a column of numbers"),
        ("caption >= 1", "'caption', which is not a column of numbers"),
        ("video >= 3", "'video', which is not a column of numbers"),
        ("aesthetics >= 3", "'aesthetics', for which no row has a value"),
    ],
)
def test_bad_rules_are_errors(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dropped([{"motion": 1.0, "video": "a", "aesthetics": None, "caption": None}, {"caption": "b"}], text)


def table(*motions: float) -> Table:
    return to_table([{"motion": value, "text_area": 0.0, "dropped": []} for value in motions], CLIPS)


def test_the_paper_s_rules_are_a_preset() -> None:
    assert rules("lvd-f\nno duplicates") == rules(f"{LVD_F}\nno duplicates")
    assert len(rules("LVD-F")) == 5


def test_a_rule_that_no_clip_will_have_values_for_is_refused_before_anything_is_decoded() -> None:
    with pytest.raises(InputError, match="judges text_area, which clips won't have") as caught:
        LVDCurate(videos="nowhere", rules="text_area <= 0.1", find_text=False).run(Context())
    assert "turn find_text on" in str(caught.value.hint)
    with pytest.raises(MissingError, match="judges aesthetics, for which no model is named"):
        LVDCurate(videos="nowhere", rules="aesthetics >= 4").run(Context())
    with pytest.raises(InputError, match="'motoin', which is not a column"):
        LVDCurate(videos="nowhere", rules="worst 5% motoin").run(Context())


def test_a_table_without_scores_of_a_model_says_which_model_would_give_them() -> None:
    with pytest.raises(InputError, match="no row has a value") as caught:
        reasons([{"aesthetics": None}], rules("aesthetics >= 4"))
    assert caught.value.hint == "curate with clip and aesthetics set, or leave the rule out"


def test_a_table_is_split_and_shown() -> None:
    found = VideoFrameFilter(source=table(1, 2, 3, 4), rules="worst 25% motion").run(Context())
    assert [row["motion"] for row in rows(found.kept)] == [2, 3, 4]
    assert [bool(row["dropped"]) for row in rows(found.table)] == [True, False, False, False]
    assert found.sheet.pixels.shape[:2] == (1, 3)


def test_a_second_filter_judges_all_again_or_what_the_first_left() -> None:
    first = VideoFrameFilter(source=table(1, 2, 3, 4, 5), rules="motion >= 3").run(Context()).table
    for again, gone in ((True, [1]), (False, [1, 2, 3])):
        found = VideoFrameFilter(source=first, rules="worst 34% motion", again=again).run(Context()).table
        assert [row["motion"] for row in rows(found) if row["dropped"]] == gone


def test_frames_of_a_video_are_judged_one_by_one() -> None:
    shot = torch.from_numpy(sprites(1)[:8].copy()).movedim(-1, 1).float() / 255
    shot[3] = shot[2]  # a frame twice
    shot[5] = 0  # and a dark one
    video = Video(shot, 24.0)
    found = VideoFrameFilter(source=video, rules="no duplicates\nclipped <= 0.9").run(Context())
    why = {row["frame"]: row["dropped"] for row in rows(found.table) if row["dropped"]}
    assert why == {3: ["shows the same as frame 2"], 5: ["clipped 1 is above 0.9"]}
    assert torch.equal(found.kept.frames, shot[[0, 1, 2, 4, 6, 7]])
    with pytest.raises(InputError, match="every frame was dropped"):
        VideoFrameFilter(source=video, rules="sharpness >= 99").run(Context())


def test_without_its_libraries_curation_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name in ("cv2", "pyarrow") else object())
    clips = table(1)
    for node in (
        LVDCurate(videos="raw"),
        LoadScores(file="a.parquet"),
        VideoFrameFilter(source=clips),
        PreviewTable(table=clips),
        SaveTable(table=clips),
        SaveDataset(clips=clips),
    ):
        with pytest.raises(
            MissingError, match="curation needs opencv-python-headless, pyarrow, which are not"
        ) as caught:
            node.run(Context())
        assert "kinograph[curate]" in str(caught.value.hint)


class TestElo:
    def test_ratings_come_close_to_the_odds_of_the_votes(self) -> None:
        true = {"0": 900.0, "12.5": 980.0, "25": 1100.0, "50": 1020.0}
        rng, votes = np.random.default_rng(0), list[Vote]()
        for _ in range(1500):
            a, b = rng.choice(list(true), 2, replace=False)
            wins = rng.random() < 1 / (1 + 10 ** ((true[b] - true[a]) / 400))
            votes.append(Vote(a, b) if wins else Vote(b, a))
        found = ratings(votes)
        assert list(found) == ["25", "50", "12.5", "0"]
        assert all(found[name] == pytest.approx(rating, abs=40) for name, rating in true.items())

    def test_the_order_of_votes_hardly_matters(self) -> None:
        votes = parse("25 > 12.5\n" * 6 + "12.5 > 25\n" * 3 + "25 > 50\n" * 5 + "50 > 12.5\n" * 4)
        one, other = ratings(votes), ratings(votes[::-1])
        assert all(one[name] == pytest.approx(other[name], abs=10) for name in one)

    def test_the_best_percentage_becomes_a_rule(self) -> None:
        chosen = EloThreshold(votes="25 > 12.5\n25 > 50\n12.5 > 50", column="aesthetics").run(Context())
        assert (chosen.percent, chosen.rule) == (25, "worst 25% aesthetics")
        assert [line.partition(":")[0] for line in chosen.ratings.splitlines()] == ["25", "12.5", "50"]

    @pytest.mark.parametrize("votes", ["", "25", "25 > ", "25 > 25", "much > little"])
    def test_bad_votes_and_percentages_are_errors(self, votes: str) -> None:
        with pytest.raises(InputError):
            EloThreshold(votes=votes).run(Context())
