"""Values stored as files: they are read back unchanged, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import serialize_file
from xxhash import xxh3_64_hexdigest

from engine.store.encoding import CorruptFileError, load, save, storable
from engine.values import (
    Files,
    Image,
    ImageModel,
    Latents,
    LoRA,
    Media,
    MedusaHeads,
    Messages,
    TrainingOptions,
    Video,
    Vocabulary,
)
from tests.engine.toys import Handle

WORDS = {"subject": ("snail", "fox"), "style": ()}


def lora() -> LoRA:
    up = {"unet.to_q": torch.randn(6, 2), "unet.conv": torch.randn(4, 2, 1, 1)}
    down = {"unet.to_q": torch.randn(2, 5), "unet.conv": torch.randn(2, 3, 3, 3)}
    return LoRA(up, down, "snail", WORDS, -0.5)


def same(a: Any, b: Any) -> bool:
    """Whether two values hold the same, bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if hasattr(a, "__slots__"):
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in a.__slots__)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize(
    "outputs",
    [
        (Image(torch.rand(2, 3, 4, 5)),),
        (Video(torch.rand(3, 3, 4, 5), 7.1),),
        (Latents(torch.randn(1, 4, 2, 2, dtype=torch.bfloat16)),),
        (Latents(torch.randn(2, 4, 4, 4).permute(0, 2, 3, 1)),),
        (Latents(torch.tensor(0.5)), Latents(torch.zeros(0, 4))),
        (lora(),),
        (MedusaHeads(torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4)),),
        (TrainingOptions({"rank": 4, "ema_decay": 0.99, "dora": True, "blocks": ("up", "mid"), "layers": "all"}),),
        (
            MedusaHeads(
                torch.randn(2, 1, 4, 4, dtype=torch.bfloat16),
                torch.randn(2, 1, 4, dtype=torch.bfloat16),
                torch.randn(2, 3, 4),
                torch.tensor([1, 5, 6]),
                ((0.5, 0.1), (0.3,)),
                "a model",
            ),
        ),
        (Vocabulary(WORDS, {"subject": ("snail",)}, {"night": "at night"}),),
        (Messages(({"role": "system", "content": "é\n"}, {"role": "user", "content": ""})), Messages(())),
        (Media(b"\0\1\2", "png", "a/b"),),
        (Files((Media(b"1", "png", "a"), Media(b"", "txt", "b"))), Image(torch.zeros(1, 3, 1, 1))),
        ((Image(torch.rand(1, 3, 4, 5)), Media(b"1", "png", "a")), ("a", "b"), (), ((1,), (2, 3))),
        ("é\n", 10**30, 0.1, float("inf"), True, None, ""),
    ],
)
def test_outputs_come_back_as_they_were(outputs: tuple[Any, ...], tmp_path: Path) -> None:
    assert storable(outputs)
    save(tmp_path / "file", outputs, 1.5, 2.5)
    back, seconds, restore = load(tmp_path / "file")
    assert same(back, outputs)
    assert (seconds, restore) == (1.5, 2.5)


def test_tensors_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    pixels = torch.rand(4, 3, 2, 2)
    outputs = (Image(pixels), Image(pixels[1:2]))
    save(tmp_path / "file", outputs, 0, 0)
    assert same(load(tmp_path / "file")[0], outputs)


def test_models_and_values_that_hold_them_stay_in_memory() -> None:
    assert not storable((ImageModel("sprite/sdxl", "/models", "abc", "float32", family="Stable Diffusion XL"),))
    assert not storable((1, Handle(1)))
    assert not storable((["a", "list"],))


@pytest.mark.parametrize("outputs", [(Latents(torch.arange(6.0)),), ("text", 3)])
def test_any_altered_byte_is_detected(outputs: tuple[Any, ...], tmp_path: Path) -> None:
    path = tmp_path / "file"
    save(path, outputs, 1, 1)
    intact = path.read_bytes()
    for position in range(len(intact)):
        for flipped in (1 << position % 8, 0xFF):
            path.write_bytes(intact[:position] + bytes([intact[position] ^ flipped]) + intact[position + 1 :])
            try:
                back = load(path).outputs
            except CorruptFileError:
                continue
            assert same(back, outputs), position  # such as a space of the header's padding


@pytest.mark.parametrize(("stated", "altered"), [("F32", "I32"), ("[4,3]", "[3,4]")])
def test_an_array_that_is_said_to_be_something_else_is_detected(stated: str, altered: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    save(path, (Latents(torch.rand(4, 3)),), 1, 1)
    written = path.read_bytes()
    assert written.count(stated.encode()) == 1
    path.write_bytes(written.replace(stated.encode(), altered.encode()))
    with pytest.raises(CorruptFileError, match="altered"):
        load(path)


def test_a_file_of_version_0_1_0_states_no_cost_of_restoring(tmp_path: Path) -> None:
    text = json.dumps({"outputs": [{"constant": 5}], "seconds": 1.5})
    serialize_file({}, tmp_path / "file", {"kinograph": text, "xxh3": xxh3_64_hexdigest(text.encode())})
    assert load(tmp_path / "file") == ((5,), 1.5, 1.5)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_detected(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    save(path, (Latents(torch.arange(6.0)),), 1, 1)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CorruptFileError):
        load(path)


def test_a_file_of_another_program_is_rejected(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "file")
    with pytest.raises(CorruptFileError):
        load(tmp_path / "file")


def test_media_and_scalars_are_read_without_torch(tmp_path: Path) -> None:
    save(tmp_path / "file", (Media(b"abc", "txt", "a"), "text"), 1, 1)
    code = (
        "import sys, pathlib; from engine.store.encoding import load; import engine.values;"
        f"print(load(pathlib.Path({str(tmp_path / 'file')!r}))[0][0].data, 'torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert answer.stdout == "b'abc' False\n"
