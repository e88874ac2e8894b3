"""How much pictures that are made larger in tiles differ from those made in one piece.

    python -m benchmarks.upscale [--tile 128] [--overlap 0 16 40]

For networks as deep as the published ones, but narrower and of random weights, which reach less far than trained ones,
it prints by overlap the largest and the mean difference of a channel of 0 to 1, and the seconds of CPU time. With
`--model SOURCE` it does so for that model.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time

import numpy as np
import torch
from PIL import Image as Pictures
from torch import Tensor

from engine.node import Context
from engine.values import Image, UpscaleModel
from nodes.image.nodes import ImageUpscale, UpscaleModelLoad
from tests.upscaling.files import compact, esrgan, saved
from tests.upscaling.swin2sr import tiny_swin2sr

PICTURE = Path(__file__).parents[1] / "docs" / "key_frames.png"
"""256×256."""


@contextmanager
def random_networks() -> Iterator[dict[str, str]]:
    """Files and folders of networks, by name."""
    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder)
        files = {
            "compact, 18 convolutions": saved(compact(convolutions=18, width=16), parts / "18.safetensors"),
            "compact, 34 convolutions": saved(compact(convolutions=34, width=16), parts / "34.safetensors"),
            "ESRGAN, 23 blocks": saved(esrgan(blocks=23, width=8, growth=4), parts / "23.safetensors"),
            "Swin2SR, 36 layers": parts / "swin2sr",
        }
        tiny_swin2sr(depths=[6] * 6, num_heads=[6] * 6, embed_dim=36).save_pretrained(files["Swin2SR, 36 layers"])
        yield {name: str(path) for name, path in files.items()}


def compare(model: UpscaleModel, picture: Tensor, tile: int, overlap: int, whole: Tensor) -> str:
    """What tiles of that size make of a picture, beside what was made in one piece, in words."""
    start = process_time()
    made = ImageUpscale(model=model, image=Image(picture), tile=tile, overlap=overlap).run(Context()).pixels
    seconds, error = process_time() - start, (made - whole).abs()
    return f"overlap {overlap:3}: at most {error.max():.1e}, mean {error.mean():.1e}, {seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--overlap", type=int, nargs="+", default=[0, 16, 40])
    parser.add_argument("--model", help="the source of a model to compare, in place of random ones")
    given = parser.parse_args()
    picture = torch.from_numpy(np.array(Pictures.open(PICTURE).convert("RGB"))).movedim(2, 0)[None] / 255
    with random_networks() as networks:
        for name, source in ({given.model: given.model} if given.model else networks).items():
            model = UpscaleModelLoad(source=source).run(Context())
            start = process_time()
            whole = ImageUpscale(model=model, image=Image(picture), tile=512).run(Context()).pixels
            print(f"{name}: {process_time() - start:.1f} s in one piece", flush=True)
            for overlap in given.overlap:
                print(f"  {compare(model, picture, given.tile, overlap, whole)}", flush=True)


if __name__ == "__main__":
    main()
