"""Contact sheets of the sprite models: `python -m benchmarks.sheets` writes them into `docs/sprite/`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from benchmarks import sprite as family
from models.sprite import world
from models.sprite.training import captioner, clip, loras
from models.sprite.training.data import pictures, tensor
from models.sprite.training.sdxl import VARIETY
from nodes.diffusion.adapters import applied
from nodes.lora.reading import read_lora

FOLDER = Path(__file__).parent.parent / "docs" / "sprite"
SCALE = 2
"""Pixels of a sheet for each pixel of a picture."""
_GAP, _LABEL, _LINE = 6, 150, 18
Labelled = tuple[str, Sequence[Tensor]]


def sheet(rows: Sequence[Labelled], heads: Sequence[str] = (), below: Sequence[Sequence[str]] = ()) -> Image.Image:
    """Rows of pictures (3, 64, 64) in [0, 1], with a name before each row, `heads` on top and a text `below` each."""
    cell, font = world.SIZE * SCALE + _GAP, ImageFont.load_default(13)
    columns, pitch = max(len(tiles) for _, tiles in rows), cell + (_LINE if below else 0)
    top = _LINE if heads else 0
    page = Image.new("RGB", (_LABEL + columns * cell, top + len(rows) * pitch), "white")
    pen = ImageDraw.Draw(page)
    for column, head in enumerate(heads):
        pen.text((_LABEL + column * cell, 2), head, fill="black", font=font)
    for index, (name, tiles) in enumerate(rows):
        y = top + index * pitch
        pen.multiline_text((4, y + cell // 2), name, fill="black", font=font, anchor="lm")
        for column, tile in enumerate(tiles):
            page.paste(_enlarged(tile), (_LABEL + column * cell, y))
            if below:
                pen.text((_LABEL + column * cell, y + cell - _GAP + 2), below[index][column], fill="black", font=font)
    return page


def _enlarged(picture: Tensor) -> Image.Image:
    large = F.interpolate(picture[None], scale_factor=SCALE, mode="nearest")[0]
    return Image.fromarray((large * 255).round().byte().permute(1, 2, 0).numpy())


BASIS = world.Scene((world.Sprite("fish", "red"),), "beach", "flat")


def _with(slot: str, name: str) -> world.Scene:
    """A red fish on a beach in flat style, except for one attribute."""
    if slot in ("subject", "colour"):
        return replace(BASIS, sprites=(replace(BASIS.sprites[0], **{slot: name}),))
    return replace(BASIS, **{slot: name})


def drawn_sheet() -> Image.Image:
    """The world itself: every subject in every style."""
    rng = np.random.default_rng(1)
    rows = [
        (
            style,
            pictures([world.random_scene(rng, (subject,), (style,), variety=VARIETY) for subject in world.SUBJECTS]),
        )
        for style in world.STYLES
    ]
    return sheet(rows, world.SUBJECTS)


def picture_sheet() -> Image.Image:
    """Pictures by sdxl, varying one attribute after the other."""
    pipeline, rows, texts = family.sdxl(), [], []
    for slot, names in world.VOCABULARY.items():
        prompts = [world.plain_caption(_with(slot, name)) for name in names]
        rows.append((slot, family.generate(pipeline, prompts, steps=20)))
        texts.append(names)
    prompts = ["a blue cat in a meadow in crayon style"] * 8
    rows.append(("a blue cat in a\nmeadow in crayon\nstyle, 8 seeds", family.generate(pipeline, prompts, steps=20)))
    return sheet(rows, below=[*texts, [""] * 8])


def lora_sheet() -> Image.Image:
    """The pictures that each LoRA was trained on, a gap, and pictures that the base draws with it."""
    pipeline, rows, rng = family.sdxl(), [], np.random.default_rng(4)
    blank = torch.ones(3, world.SIZE, world.SIZE)
    for concept in family.taught():
        shown = list(pictures(loras.teaching(concept)))
        scenes = [world.random_scene(rng, *family.holding(concept)) for _ in range(6)]
        with applied(pipeline, [read_lora(family.lora_file(concept))]):
            made = family.generate(pipeline, [world.plain_caption(s) for s in scenes], steps=20)
        rows.append((concept, [*shown, *[blank] * (6 - len(shown)), *made]))
    return sheet(rows, ["trained on", *[""] * 5, "drawn with it"])


def zip_sheet() -> Image.Image:
    """Every held-out subject in every held-out style, by zipped LoRAs."""
    pipeline, rows = family.sdxl(), []
    subjects, styles = family.taught_sides()
    for style in track(styles, "zipped", console=Console(stderr=True)):
        tiles: list[Tensor] = []
        for subject in subjects:
            prompts = [f"a {colour} {subject} {place} in {style} style" for colour, place in _OCCASIONS]
            with applied(pipeline, [family.zipped(pipeline, subject, style)]):
                tiles += family.generate(pipeline, prompts, steps=20)
        rows.append((style, tiles))
    return sheet(rows, [head for subject in subjects for head in (subject, "")])


_OCCASIONS = (("red", "on a beach"), ("blue", "in the snow"))


def video_sheet() -> Image.Image:
    """Key frames of every subject at one motion bucket; one of them at rising buckets; two with 25 frames."""
    pipeline, rng, subjects = family.svd(), np.random.default_rng(3), world.BASE_SUBJECTS
    shown = pictures([world.random_scene(rng, (subject,), variety=VARIETY) for subject in subjects])

    def rows_of(key_frames: Tensor, names: Sequence[str], bucket: int, frames: int = 14) -> list[Labelled]:
        videos = family.animate(pipeline, key_frames, bucket, 20, frames)
        each = [frames * part // 7 - 1 for part in range(1, 8)]  # seven evenly spaced ones
        return [(name, [key, *video[each]]) for name, key, video in zip(names, key_frames, videos, strict=True)]

    rows = rows_of(shown, [f"{subject},\nmotion bucket 160" for subject in subjects], 160)
    for bucket in (0, 64, 128, 192, 255):
        rows += rows_of(shown[:1], [f"motion bucket {bucket}"], bucket)
    rows += rows_of(shown[:2], ["motion bucket 160,\n7 of 25 frames"] * 2, 160, frames=25)
    return sheet(rows, ["key frame", *(f"frame {i}" for i in range(2, 15, 2))])


def clip_sheet() -> Image.Image:
    """The nearest of 200 pictures to each of a few captions; and spoilt and clean pictures by aesthetic score."""
    model, tokenizer, head = family.clip_model()
    rng = np.random.default_rng(5)
    scenes = [world.random_scene(rng) for _ in range(200)]
    drawn = pictures(scenes)
    seen = clip.embeddings(model, drawn)
    rows = []
    for caption in map(world.plain_caption, scenes[:3]):
        nearest = (family.read(model, tokenizer, [caption]) @ seen.T)[0].topk(8).indices
        rows.append((_broken(caption), drawn[nearest]))
    frames = [world.draw(scene) for scene in scenes[:24]]
    worn = tensor(
        world.random_degradation(rng)(frame[None], rng)[0] if i % 2 else frame for i, frame in enumerate(frames)
    )
    scores = (clip.embeddings(model, worn) @ head["weight"].T + head["bias"]).flatten()
    order = scores.argsort()[::3]
    rows.append(("by aesthetic score", worn[order]))
    texts = [[""] * 8] * (len(rows) - 1) + [[f"{score:.1f}" for score in scores[order].tolist()]]
    return sheet(rows, below=texts)


def captioner_sheet() -> Image.Image:
    """Clips with their captions by the captioner."""
    model, tokenizer = family.captioner_model()
    rng = np.random.default_rng(6)
    clips = torch.stack([tensor(captioner.random_clip(rng)[0]) for _ in range(8)])
    said = captioner.describe(model, tokenizer, clips)
    return sheet([(_broken(text), frames) for text, frames in zip(said, clips, strict=True)])


def _broken(text: str, width: int = 20) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


SHEETS: dict[str, Callable[[], Image.Image]] = {
    "world": drawn_sheet,
    "sdxl": picture_sheet,
    "loras": lora_sheet,
    "zipped": zip_sheet,
    "svd": video_sheet,
    "clip": clip_sheet,
    "captioner": captioner_sheet,
}
SHIPPED = [name for name in SHEETS if name != "captioner" or (family.FAMILY / name).is_dir()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SHEETS, default=SHIPPED, help="these sheets alone")
    chosen = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in chosen.only:
        path = FOLDER / f"{name}.png"
        SHEETS[name]().quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
