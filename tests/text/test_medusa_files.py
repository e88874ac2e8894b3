"""Files of Medusa heads: our own, and those that others have published."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import InputError
from engine.node import Context
from engine.values import MedusaHeads
from nodes.text.medusa.files import read_heads, write_heads
from nodes.text.nodes import MedusaLoad, MedusaSave
from tests.engine.test_encoding import same


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def published(heads: int = 3, layers: int = 1, prefix: str = "", width: int = 4, size: int = 6) -> dict[str, Tensor]:
    """What others write to `medusa_lm_head`."""
    tensors = {}
    for head in range(heads):
        for layer in range(layers):
            tensors[f"{prefix}{head}.{layer}.linear.weight"] = draw(width, width) + head + layer
            tensors[f"{prefix}{head}.{layer}.linear.bias"] = draw(width) + head + layer
        tensors[f"{prefix}{head}.{layers}.weight"] = draw(size, width) + head
    return tensors


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    accuracies = ((0.5, 0.25), (0.125, 0.0))
    heads = MedusaHeads(
        draw(2, 1, 4, 4), draw(2, 1, 4), None, torch.tensor([1, 5, 6]), accuracies, "a LlamaForCausalLM"
    )
    (media,) = MedusaSave(heads=heads).run(Context()).items
    assert (media.extension, media.prefix) == ("safetensors", "medusa")
    (tmp_path / "heads.safetensors").write_bytes(media.data)
    assert same(MedusaLoad(file=str(tmp_path / "heads.safetensors")).run(Context()), heads)


def test_equal_heads_give_equal_bytes() -> None:
    heads = MedusaHeads(draw(2, 1, 4, 4), draw(2, 1, 4), draw(2, 6, 4))
    assert write_heads(heads) == write_heads(MedusaHeads(draw(2, 1, 4, 4), draw(2, 1, 4), draw(2, 6, 4)))


@pytest.mark.parametrize("prefix", ["", "medusa_head.", "medusa_heads.", "heads.", "module.medusa_head."])
@pytest.mark.parametrize("name", ["medusa_lm_head.pt", "medusa_lm_head.safetensors"])
def test_published_heads_are_read(tmp_path: Path, name: str, prefix: str) -> None:
    tensors = published(heads=3, layers=2, prefix=prefix)
    torch.save(tensors, tmp_path / name) if name.endswith(".pt") else save_file(tensors, tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps({"medusa_num_heads": 3, "medusa_num_layers": 2, "version": "1"}))
    heads = read_heads(tmp_path)
    assert heads.weights.shape == (3, 2, 4, 4)
    assert torch.equal(heads.weights[1, 1], tensors[f"{prefix}1.1.linear.weight"])
    assert torch.equal(heads.biases[2, 0], tensors[f"{prefix}2.0.linear.bias"])
    assert heads.outputs is not None
    assert torch.equal(heads.outputs[2], tensors[f"{prefix}2.2.weight"])
    assert (heads.tokens, heads.accuracies, heads.model) == (None, (), "")


def test_published_heads_without_output_matrices_use_the_model_s(tmp_path: Path) -> None:
    tensors = {key: tensor for key, tensor in published().items() if "linear" in key}
    save_file(tensors, tmp_path / "medusa_lm_head.safetensors")
    assert read_heads(tmp_path).outputs is None


def test_our_files_are_laid_out_as_others_read_them(tmp_path: Path) -> None:
    tensors = published(heads=2)
    save_file(tensors, tmp_path / "theirs.safetensors")
    (tmp_path / "ours.safetensors").write_bytes(write_heads(read_heads(tmp_path / "theirs.safetensors")))
    assert same(load_file(tmp_path / "ours.safetensors"), load_file(tmp_path / "theirs.safetensors"))


def without(*keys: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in published().items() if key not in keys}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (without("1.0.linear.bias"), r"heads\.safetensors lacks 1\.0\.linear\.bias"),
        (without("2.1.weight"), r"heads\.safetensors lacks 2\.1\.weight"),
        (without("0.1.weight"), r"has more than the layers of its heads: 1\.1\.weight"),
        (published() | {"lm_head.weight": draw(6, 4)}, r"a tensor that belongs to no Medusa head: lm_head\.weight"),
        (published() | {"0.5.weight": draw(6, 4)}, r"has more than the layers of its heads: 0\.5\.weight"),
        ({"0.0.weight": draw(6, 4)}, "holds no layers of Medusa heads"),
        (published() | {"1.0.linear.weight": draw(5, 5)}, r"differ in size: \(4, 4\) torch.float32 and \(5, 5\)"),
        (published() | {"0.0.linear.bias": draw(5)}, r"the linear.bias of its heads differ in size"),
        (published() | {f"{head}.1.weight": draw(6, 5) for head in range(3)}, r"\(6, 5\) doesn't read what is 4 wide"),
        (
            {"0.0.linear.weight": draw(4, 3), "0.0.linear.bias": draw(4)},
            r"\(4, 3\) and bias \(4,\) don't make",
        ),
        (published() | {"1.0.linear.bias": torch.full((4,), torch.nan)}, "holds numbers that are not finite"),
        (
            published() | {"9999.0.linear.bias": draw(4)},
            r"9999\.0\.linear\.bias, and with 10 tensors it can't hold all",
        ),
        (
            published() | {"0.9999.linear.bias": draw(4)},
            r"0\.9999\.linear\.bias, and with 10 tensors it can't hold all",
        ),
        (published() | {"0.999999999.linear.weight": draw(4)}, "belongs to no Medusa head: 0.999999999.linear.weight"),
        (published() | {"tokens": torch.tensor([2, 3], dtype=torch.int32)}, "the tensor tokens is int32, not int64"),
        (published() | {"0.0.linear.bias": torch.zeros(4, dtype=torch.complex64)}, "bias is complex64, not float16"),
        (
            published() | {"0.0.linear.bias": torch.zeros(4).to(torch.float8_e4m3fn)},
            "bias is float8_e4m3fn, not float16",
        ),
        (published() | {"tokens": torch.tensor([3, 2])}, "tokens aren't token numbers in rising order"),
        (published() | {"tokens": torch.tensor([2, 3])}, "choose from 6 tokens, and tokens are 2"),
    ],
)
def test_a_file_that_holds_no_whole_heads_is_refused(
    tmp_path: Path, tensors: Mapping[str, Tensor], message: str
) -> None:
    save_file(dict(tensors), tmp_path / "heads.safetensors")
    with pytest.raises(InputError, match=message) as error:
        read_heads(tmp_path / "heads.safetensors")
    assert error.value.hint
    assert error.value.input == "file"


def test_fewer_heads_than_the_configuration_says_are_refused(tmp_path: Path) -> None:
    save_file(published(heads=2), tmp_path / "medusa_lm_head.safetensors")
    (tmp_path / "config.json").write_text('{"medusa_num_heads": 5}')
    with pytest.raises(InputError, match=r"holds 2 heads, and config\.json beside it says 5"):
        read_heads(tmp_path)
    (tmp_path / "config.json").write_text("no JSON")
    with pytest.raises(InputError, match=r"config\.json beside the heads can't be parsed"):
        read_heads(tmp_path)


def test_a_pickle_with_more_than_weights_is_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "harmed",)  # type: ignore[return-value]

    torch.save({"0.0.linear.weight": Harm()}, tmp_path / "medusa_lm_head.pt")
    with pytest.raises(InputError, match=r"medusa_lm_head\.pt holds more than weights"):
        read_heads(tmp_path)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("heads.safetensors", b"no tensors", "is not a safetensors file"),
        ("heads.pt", b"no tensors", r"heads\.pt"),
        ("heads.pt", b".", r"heads\.pt can't be read as Medusa heads: it isn't a file of PyTorch's"),
        ("heads.pt", b"hello there", r"heads\.pt can't be read as Medusa heads: it isn't a file of PyTorch's"),
        ("heads.bin", b"", r"heads\.bin"),
    ],
)
def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_heads(tmp_path / name)


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "heads.pt")
    with pytest.raises(InputError, match="it should hold tensors by name"):
        read_heads(tmp_path / "heads.pt")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({0: draw(4)}, "it should hold tensors by name"),
        (published() | {"0.0.linear.weight": torch.eye(4).to_sparse()}, r"0\.0\.linear\.weight isn't a dense one"),
        (
            published() | {"0.0.linear.weight": torch.zeros(4, 4, device="meta")},
            "isn't a dense one with its numbers in",
        ),
        (published() | {"1" * 5000 + ".0.linear.weight": draw(4)}, "belongs to no Medusa head: 1{80}…"),
        (published() | {"a\nb": draw(4)}, r"belongs to no Medusa head: a\?b$"),
    ],
)
def test_a_pickle_of_odd_tensors_is_refused(tmp_path: Path, state: Mapping[str, Tensor], message: str) -> None:
    torch.save(state, tmp_path / "heads.pt")
    with pytest.raises(InputError) as error:
        read_heads(tmp_path / "heads.pt")
    assert re.search(message, error.value.message)
    assert error.value.hint


def test_a_small_pickle_of_immense_tensors_is_refused(tmp_path: Path) -> None:
    immense = torch.zeros(1).expand(2**30, 2**30)
    torch.save(published(heads=1) | {"0.0.linear.weight": immense}, tmp_path / "heads.pt")
    with pytest.raises(InputError, match=r"heads\.pt is [0-9,]+ bytes long, and its tensors take [0-9,]{20}"):
        read_heads(tmp_path / "heads.pt")


def test_a_pickle_that_repeats_a_tensor_beyond_its_size_is_refused(tmp_path: Path) -> None:
    weight, bias = torch.eye(64), torch.zeros(64)
    state = {
        f"{head}.0.linear.{part}": tensor for head in range(9) for part, tensor in (("weight", weight), ("bias", bias))
    }
    torch.save(state, tmp_path / "heads.pt")
    with pytest.raises(InputError, match="and its tensors take 149,760"):
        read_heads(tmp_path / "heads.pt")


def test_a_compressed_pickle_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save(published(width=64), tmp_path / "plain.pt")
    with ZipFile(tmp_path / "plain.pt") as plain, ZipFile(tmp_path / "heads.pt", "w", ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, bytes(10**6) if "/data/" in name else plain.read(name))
    with pytest.raises(InputError, match=r"heads\.pt is [0-9,]+ bytes long, and its parts 9,00"):
        read_heads(tmp_path / "heads.pt")


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    save_file(published(), tmp_path / "heads.safetensors", {"kinograph.medusa": "{}"})
    with pytest.raises(InputError, match=r"the header's kinograph\.medusa can't be parsed"):
        read_heads(tmp_path / "heads.safetensors")


def test_a_folder_has_one_file_of_heads(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no medusa_lm_head\.safetensors, and 0 safetensors files"):
        read_heads(tmp_path)
    save_file(published(), tmp_path / "a.safetensors")
    assert len(read_heads(tmp_path).weights) == 3
    save_file(published(), tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="and 2 safetensors files"):
        read_heads(tmp_path)
