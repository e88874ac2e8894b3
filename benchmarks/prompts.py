"""How right pictures are from a language model's prompts and from handwritten ones: `python -m benchmarks.prompts`.

On 30 themes SmolLM2 writes a prompt for the adapted model of the main workflow; each is compared with a prompt written
by hand, as in the world's captions. The judge looks for the prompt's subject and colour in the key frames of both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measures import share
from engine.errors import InputError
from engine.node import Context
from engine.values import Image, ImageModel
from models.sprite import world
from models.sprite.judging import Judge, load_judge
from nodes.image.nodes import ImageModelLoad, KeyframeSampler, ModelVocabulary
from nodes.lora.nodes import LoRAApply, LoRALoad, ZipLoRAMerge
from nodes.text.nodes import LLMLoad, LookaheadDecode

WORKFLOW = Path(__file__).parent.parent / "workflows" / "prompt_to_video.json"
THEMES: dict[str, tuple[str, ...]] = {
    "a quiet evening by the sea": (),
    "a storm is coming": (),
    "a picnic in summer": (),
    "lost in space": (),
    "my grandmother's garden": (),
    "city streets after rain": (),
    "a birthday party": (),
    "a lazy Sunday morning": (),
    "the long journey home": (),
    "a secret in the forest": (),
    "spring is here": (),
    "loneliness": (),
    "a holiday at the ocean": (),
    "a midnight adventure": (),
    "above the clouds": (),
    "the first snow of winter": ("snow",),
    "an old brick house": ("house",),
    "the deep blue": ("blue",),
    "two cats that are afraid of water": ("cat",),
    "a boat trip at night": ("boat", "night"),
    "pink flowers for a teacher": ("pink", "flower"),
    "the stars over our village": ("star",),
    "a watercolour of a rainy day": ("watercolour",),
    "my first car was yellow": ("car", "yellow"),
    "a day at the beach": ("beach",),
    "the tallest tree in the meadow": ("tree", "meadow"),
    "a crayon drawing from kindergarten": ("crayon",),
    "purple skies before a thunderstorm": ("purple", "sky"),
    "an orange fish who wanted to fly": ("orange", "fish"),
    "a wall to lean on": ("wall",),
}
"""Themes, half of which name words that the image model knows: those, which belong in the prompt."""

Settings = dict[str, Any]
"""The main workflow's nodes."""


def constants(settings: Settings, node: str) -> dict[str, Any]:
    """The inputs of a node that are not links."""
    return {name: value for name, value in settings[node]["inputs"].items() if not isinstance(value, list)}


def adapted(ctx: Context, settings: Settings) -> ImageModel:
    """The image model of the main workflow, with the zipped LoRA that it samples with."""
    model = ImageModelLoad(**constants(settings, "image_model")).run(ctx)
    subject, style = (LoRALoad(**constants(settings, node)).run(ctx) for node in ("subject", "style"))
    zipped = ZipLoRAMerge(model=model, subject=subject, style=style, **constants(settings, "zipped")).run(ctx)
    return LoRAApply(model=model, lora=zipped.lora).run(ctx)


def right(judge: Judge, key_frames: Image, prompt: str, subject: str) -> dict[str, list[bool]]:
    """Whether each key frame shows the subject and the colour that the prompt names."""
    colour = next(colour for colour in world.COLOURS if colour in prompt.split())
    answers = judge.answers(key_frames.pixels)
    return {"subject": [a["subject"] == subject for a in answers], "colour": [a["colour"] == colour for a in answers]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--themes", type=int, default=len(THEMES), help="how many of the 30 themes")
    chosen = parser.parse_args()
    settings, ctx, judge = json.loads(WORKFLOW.read_text())["graph"], Context(), load_judge()
    model = adapted(ctx, settings)
    vocabulary = ModelVocabulary(model=model).run(ctx)
    (subject,), (style,) = vocabulary.required["subject"], vocabulary.required["style"]
    llm = LLMLoad(source=settings["llm"]["inputs"]["source"]).run(ctx)
    hits: dict[str, dict[str, list[bool]]] = {who: {"subject": [], "colour": []} for who in ("SmolLM2", "by hand")}
    refused = []
    rng = np.random.default_rng(30)
    for index, theme in enumerate(track(list(THEMES)[: chosen.themes], "themes", console=Console(stderr=True))):
        scene = world.random_scene(rng, subjects=(subject,), styles=(style,))
        prompts = {"by hand": world.plain_caption(scene)}
        try:
            prompts["SmolLM2"] = LookaheadDecode(llm=llm, prompt=theme, vocabulary=vocabulary).run(ctx).text
        except InputError as error:
            refused.append(theme)
            Console(stderr=True).print(f"{theme}: {error}")
        for who, prompt in prompts.items():
            Console(stderr=True).print(f"{theme}: {who}: {prompt}")
            drawn = {"model": model, "prompt": prompt, "seed": 100 * index}
            sampler = KeyframeSampler(**constants(settings, "keyframes") | drawn)
            for slot, found in right(judge, sampler.run(ctx), prompt, subject).items():
                hits[who][slot] += found
    table = Table("prompts", "themes", "subject right", "colour right")
    for who, slots in hits.items():
        themes = chosen.themes - (len(refused) if who == "SmolLM2" else 0)
        table.add_row(who, str(themes), share(slots["subject"]), share(slots["colour"]))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
