from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from torch.utils._python_dispatch import TorchDispatchMode

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.adapters import applied
from nodes.diffusion.layers import layers
from nodes.lora.formats import Format, write_lora
from tests.lora.reference import Make, Names, dense, output, state, untouched, with_dense
from tests.tiny import tiny_svd


@pytest.mark.parametrize("which", ["attention", "convolutions", "text", "all"])
def test_a_lora_has_the_effect_of_its_dense_update(
    exact: StableDiffusionXLPipeline, make: Make, names: Names, which: str
) -> None:
    lora = make(names[which], strength=-0.7)
    with applied(exact, [lora]):
        adapted = output(exact)
    assert (adapted - output(exact)).abs().max() > 1e-3
    torch.testing.assert_close(adapted, output(with_dense(exact, dense(lora))), rtol=1e-10, atol=1e-12)


class Counting(TorchDispatchMode):
    """Counts the operations of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


def test_a_lora_costs_a_layer_three_operations(pipeline: StableDiffusionXLPipeline, make: Make, names: Names) -> None:
    lora = make(names["convolutions"])
    with Counting() as plain:
        output(pipeline)
    with applied(pipeline, [lora]), Counting() as adapted:
        output(pipeline)
    more = adapted.counts - plain.counts
    assert more["aten.convolution.default"] + more["aten.mm.default"] == 2 * more["aten.add.Tensor"] > 0
    assert not more["aten.mul.Tensor"]


def test_several_loras_add_up(exact: StableDiffusionXLPipeline, make: Make, names: Names) -> None:
    first, second = make(names["all"], 1, ranks=(2, 5), strength=0.5), make(names["attention"], 2)
    expected = output(with_dense(exact, dense(first), dense(second)))
    with applied(exact, [first, second]):
        torch.testing.assert_close(output(exact), expected, rtol=1e-10, atol=1e-12)
    with applied(exact, [second]), applied(exact, [first]):
        torch.testing.assert_close(output(exact), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("which", ["attention", "convolutions", "text"])
@pytest.mark.parametrize("format", ["kohya", "peft"])
def test_the_effect_is_that_of_diffusers(
    pipeline: StableDiffusionXLPipeline, make: Make, names: Names, which: str, format: Format, tmp_path: Path
) -> None:
    lora = make(names[which], ranks=(2, 4, 3))
    (tmp_path / "lora.safetensors").write_bytes(write_lora(lora, format))
    with applied(pipeline, [lora]):
        ours = output(pipeline)
    torch.testing.assert_close(ours, loaded_by_diffusers(pipeline, tmp_path), rtol=0, atol=1e-5)


def loaded_by_diffusers(pipeline: StableDiffusionXLPipeline, folder: Path) -> torch.Tensor:
    """The output of a copy of the pipeline into which diffusers loaded `lora.safetensors`."""
    copied = with_dense(pipeline)
    copied.load_lora_weights(str(folder), weight_name="lora.safetensors")
    return output(copied)


def test_half_precision_adapters_work_on_any_model(
    pipeline: StableDiffusionXLPipeline, make: Make, names: Names
) -> None:
    lora = make(names["all"])
    half = replace(lora, up={k: v.half() for k, v in lora.up.items()}, down={k: v.half() for k, v in lora.down.items()})
    with applied(pipeline, [lora]):
        expected = output(pipeline)
    with applied(pipeline, [half]):
        torch.testing.assert_close(output(pipeline), expected, rtol=0, atol=1e-2)


def test_the_base_is_bit_for_bit_as_before(pipeline: StableDiffusionXLPipeline, make: Make, names: Names) -> None:
    before, drawn = state(pipeline), output(pipeline)
    with applied(pipeline, [make(names["all"])]):
        output(pipeline)
    assert untouched(pipeline, before)
    assert torch.equal(output(pipeline), drawn)


def test_an_error_inside_the_scope_ends_it_too(pipeline: StableDiffusionXLPipeline, make: Make, names: Names) -> None:
    before = state(pipeline)
    with pytest.raises(ZeroDivisionError), applied(pipeline, [make(names["all"])]):
        raise ZeroDivisionError
    assert untouched(pipeline, before)


def test_branches_that_share_a_model_do_not_see_each_others_adapters(
    pipeline: StableDiffusionXLPipeline, make: Make, names: Names
) -> None:
    adapters = [[make(names["all"], seed)] for seed in range(3)] + [[]]
    alone = []
    for loras in adapters:
        with applied(pipeline, loras):
            alone.append(output(pipeline))
    barrier = Barrier(len(adapters))

    def branch(loras: list[LoRA]) -> torch.Tensor:
        barrier.wait()
        with applied(pipeline, loras):
            return output(pipeline)

    with ThreadPoolExecutor(len(adapters)) as pool:
        together = list(pool.map(branch, adapters))
    assert all(torch.equal(mine, other) for mine, other in zip(together, alone, strict=True))


def test_video_models_take_adapters_as_well() -> None:
    pipeline = tiny_svd()
    name = next(name for name in layers(pipeline) if name.startswith("unet.") and name.endswith("attn1.to_q"))
    module = layers(pipeline)[name]
    x = torch.randn(2, module.in_features)
    plain = module(x)
    lora = LoRA({name: torch.ones(module.out_features, 1)}, {name: torch.ones(1, module.in_features)}, "ones")
    with applied(pipeline, [lora]):
        torch.testing.assert_close(module(x), plain + x.sum(1, keepdim=True))
    assert torch.equal(module(x), plain)


def test_a_lora_of_another_model_is_refused_by_name(
    pipeline: StableDiffusionXLPipeline, make: Make, names: Names
) -> None:
    before = state(pipeline)
    fitting, lora = make(names["all"]), make(names["attention"][:1])
    (up,), (down,) = lora.up.values(), lora.down.values()
    stray = LoRA(
        {"unet.no.such.layer": up, "unet.nor.this": up}, {"unet.no.such.layer": down, "unet.nor.this": down}, "x"
    )
    with (
        pytest.raises(InputError, match=r"'x' has the layer unet\.no\.such\.layer and 1 more") as refusal,
        applied(pipeline, [fitting, stray]),
    ):
        pass
    assert "another base model" in (refusal.value.hint or "")
    wide = LoRA(lora.up, {name: torch.cat([down, down], 1) for name, down in lora.down.items()}, "x")
    with (
        pytest.raises(InputError, match=rf"changes {names['attention'][0]} by \(\d+, \d+\) where"),
        applied(pipeline, [wide]),
    ):
        pass
    assert untouched(pipeline, before)
