"""CRAFT, on random weights in the form in which its authors publish theirs, and on made-up scores."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from engine.errors import MissingError, NodeError
from engine.node import Context
from nodes.dataset.describe import craft
from nodes.dataset.describe.craft import Craft, CraftDetector, load_craft, words
from nodes.dataset.nodes import LVDCurate
from nodes.dataset.table import rows
from nodes.weights import converted
from tests.dataset.films import three_shots


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Craft().state_dict()


@pytest.fixture
def published(state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    """A checkpoint of a network that was trained on several devices."""
    torch.save({f"module.{name}": weight for name, weight in state.items()}, tmp_path / "craft.pth")
    return tmp_path / "craft.pth"


def test_what_killed_processes_left_of_converted_weights_is_removed(published: Path, home: Path) -> None:
    kept = converted(published, "CRAFT")
    kept.unlink()
    for name in (".tmpAbC123", ".0123456789abcdef0123456789abcdef.part"):
        (kept.parent / name).write_bytes(b"half")
    assert converted(published, "CRAFT") == kept
    assert {path.name for path in kept.parent.iterdir()} == {kept.name}


def blobs(*at: tuple[int, int, float], peak: float = 0.95) -> NDArray[np.float32]:
    """Bells on a map of 60×120: row, column and width of each."""
    y, x = np.mgrid[:60, :120]
    bells = [np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2)) for row, column, width in at]
    return (peak * np.max([np.zeros((60, 120)), *bells], axis=0)).astype(np.float32)


def test_parameters_have_the_names_and_shapes_of_the_published_checkpoint(state: dict[str, torch.Tensor]) -> None:
    assert len(state) == 154
    shapes = {
        "basenet.slice1.0.weight": (64, 3, 3, 3),
        "basenet.slice2.14.weight": (256, 128, 3, 3),
        "basenet.slice3.28.running_var": (512,),
        "basenet.slice4.38.bias": (512,),
        "basenet.slice5.1.weight": (1024, 512, 3, 3),
        "basenet.slice5.2.weight": (1024, 1024, 1, 1),
        "upconv1.conv.0.weight": (512, 1536, 1, 1),
        "upconv2.conv.3.weight": (128, 256, 3, 3),
        "upconv4.conv.4.num_batches_tracked": (),
        "conv_cls.8.weight": (2, 16, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize("size", [(64, 96), (32, 160)])
def test_scores_are_at_half_the_resolution(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert Craft().eval()(torch.zeros(2, 3, *size)).shape == (2, 2, size[0] // 2, size[1] // 2)


def test_a_checkpoint_is_read_and_converted_to_safetensors_once(
    published: Path, state: dict[str, torch.Tensor], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_craft(Context(), str(published)).model.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in state.items())
    assert len(list(home.rglob("*.safetensors"))) == 1
    monkeypatch.setattr(torch, "load", None)
    again = load_craft(Context(), str(published)).model.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in state.items())


def test_a_checkpoint_that_is_replaced_while_it_is_read_leaves_nothing_behind(
    published: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ctx = torch.load, Context()

    def load(*args: Any, **how: Any) -> Any:
        state = plain(*args, **how)
        published.write_bytes(published.read_bytes() + b"\0")
        return state

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(NodeError, match="was replaced while it was read"):
        load_craft(ctx, str(published))
    assert not list(home.rglob("*.safetensors"))
    assert len(ctx.models) == 0


def test_safetensors_are_read_as_they_are(state: dict[str, torch.Tensor], tmp_path: Path, home: Path) -> None:
    save_file(state, tmp_path / "craft.safetensors")
    picture = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    assert 0 <= load_craft(Context(), str(tmp_path / "craft.safetensors")).area(picture) <= 1
    assert not list(home.rglob("*.safetensors"))


def test_other_weights_and_pickles_that_run_code_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    first = "conv_cls.8.bias"
    for name, weights in {
        "unknown": state | {"more": torch.zeros(1)},
        "missing": {name: weight for name, weight in state.items() if name != first},
        r"\(3,\), not \(2,\)": state | {first: torch.zeros(3)},
        "tensors by name": [torch.zeros(1)],
    }.items():
        torch.save(weights, tmp_path / "craft.pth")
        with pytest.raises(MissingError, match=name):
            load_craft(Context(), str(tmp_path / "craft.pth"))
    (tmp_path / "craft.pth").write_bytes(pickle.dumps({first: Bomb()}, protocol=2))
    with pytest.raises(MissingError, match="holds more than weights"):
        load_craft(Context(), str(tmp_path / "craft.pth"))
    assert not (tmp_path / "ran").exists()


def test_characters_are_one_word_where_they_are_linked_and_two_where_they_are_not() -> None:
    region, link = blobs((30, 30, 5), (30, 60, 5)), blobs((30, 45, 8), peak=0.8)
    assert len(words(region, np.zeros_like(region), 120, 240)) == 2
    (box,) = words(region, link, 120, 240)
    inside = np.argwhere((region > 0.4) | (link > 0.4))
    (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
    assert [*box.min(0), *box.max(0)] == pytest.approx([2 * left, 2 * top, 2 * right, 2 * bottom], abs=1)


def test_faint_or_tiny_blobs_are_not_words() -> None:
    nothing = np.zeros((60, 120), np.float32)
    assert words(blobs((30, 30, 5), peak=0.6), nothing, 120, 240) == []
    speck = nothing.copy()
    speck[10:13, 10:13] = 1
    assert words(speck, nothing, 120, 240) == []


def test_the_area_is_that_of_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.zeros((2, 48, 80), np.float32)
    scores[0, 10:20, 20:60] = 0.9  # an eighth of the height twice, half of the width
    monkeypatch.setattr(CraftDetector, "_scores", lambda self, picture: scores)
    area = CraftDetector(Craft()).area(np.zeros((96, 160, 3), np.uint8))
    assert area == pytest.approx(400 / (48 * 80), abs=0.004)


def test_clips_are_given_the_area_that_craft_sees(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(craft, "PIXELS", 64 * 64)
    three_shots(tmp_path / "a.mp4")
    settings: dict[str, Any] = {"videos": str(tmp_path), "clip": None, "aesthetics": None, "processes": 1}
    found = LVDCurate(**settings, text_detector="craft", craft=str(published)).run(Context())
    assert all(0 <= row["text_area"] <= 1 for row in rows(found.clips))
    with pytest.raises(MissingError, match="weights are not given"):
        LVDCurate(**settings, text_detector="craft").run(Context())
