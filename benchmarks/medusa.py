"""Medusa heads for SmolLM2-135M: their training, and how many tokens a pass writes with them.

    python -m benchmarks.medusa train [--answers 512] [--answer-tokens 128] [--steps 800] [--dtype bfloat16] …
    python -m benchmarks.medusa measure [--heads FILE] [--tokens 96] [--dtype float32] [--model …]

`train` has the model answer questions on topics of its own (`nodes/text/medusa/topics.py`; none of the measured prompts
is among them), trains four heads on the answers, and saves them as `.train/medusa/heads.safetensors`. Interrupted, it
goes on where it was when it is called again in the same way.

`measure` continues the twelve prompts of `benchmarks.decode` greedily, by a fixed number of tokens whatever ends the
text, and counts the passes that this takes with heads and trees of several sizes. No time is measured: each pass is
replayed on the states of the greedy text, and writes as many tokens as a tree would have right.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.decode import PROMPTS, SMOLLM2
from engine.events import Event, NodeText
from engine.node import Context
from kinograph import Graph, Session
from nodes.text.medusa.examples import Examples, own_answers
from nodes.text.medusa.files import read_heads
from nodes.text.medusa.heads import expected
from nodes.text.medusa.training import ranks_of, tokens_per_pass
from nodes.text.models import language_model
from nodes.text.nodes import LLMLoad

FOLDER = Path(".train/medusa")
HEADS = FOLDER / "heads.safetensors"
SIZES = (1, 2, 4, 8, 16, 32, 64)


def train(chosen: argparse.Namespace) -> None:
    """Train heads through the engine, whose cache keeps what is done, and save them."""

    def tell(event: Event) -> None:
        if isinstance(event, NodeText):
            print(event.text, end="", flush=True)

    graph = Graph(title="Medusa heads")
    settings: dict[str, Any] = {name: getattr(chosen, name) for name in ("answers", "answer_tokens", "steps", "tokens")}
    llm = graph.LLMLoad(source=chosen.model, dtype=chosen.dtype)
    trained = graph.MedusaTrain(llm=llm, seed=chosen.seed, **settings)
    graph.MedusaSave(heads=trained.heads)
    with Session(chosen.device, cache_dir=FOLDER / "cache") as session:
        results = session.run(graph, out=FOLDER / "saved", on_event=tell)
    shutil.copy(results.paths[0], HEADS)
    print(f"saved {HEADS}, {HEADS.stat().st_size / 1e6:.1f} MB")


def measure(chosen: argparse.Namespace) -> None:
    """Count tokens by passes on prompts that the heads haven't learnt from, and print a row for each size of tree."""
    ctx = Context()
    reference = LLMLoad(source=chosen.model, dtype=chosen.dtype).run(ctx)
    llm, heads = language_model(ctx, reference), read_heads(chosen.heads)
    llm.model.generation_config.eos_token_id = None
    prompts = [prompt for _, prompt in PROMPTS]
    with torch.inference_mode():
        answers = own_answers(ctx, reference, llm, prompts, length=chosen.tokens, temperature=0, seed=0)
    ranks = ranks_of(heads, llm.model, answers)
    known = heads.accuracies or expected(len(heads.weights))
    kinds = list(dict.fromkeys(kind for kind, _ in PROMPTS))
    title = f"S: {len(PROMPTS)} prompts, {chosen.tokens} tokens, {chosen.dtype}, {len(heads.weights)} heads"
    table = Table("guesses", "all", *kinds, title=title)
    groups = [[place for place, (of, _) in enumerate(PROMPTS) if kind in ("", of)] for kind in ("", *kinds)]
    parts = [of_texts(answers, ranks, group) for group in groups]
    for size in SIZES:
        table.add_row(str(size), *(f"{tokens_per_pass(known, *part, size):.2f}" for part in parts))
    Console(width=100).print(table)


def of_texts(answers: Examples, ranks: torch.Tensor, texts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The ranks of some of the texts, one text after the other, and where each of them ends."""
    starts = [0, *answers.ends.tolist()]
    rows = [ranks[starts[text] : starts[text + 1]] for text in texts]
    return torch.cat(rows), torch.tensor([len(row) for row in rows]).cumsum(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train", help="train heads")
    training.add_argument("--answers", type=int, default=512, help="how many topics the model is asked about")
    training.add_argument("--answer-tokens", type=int, default=128, help="the most tokens of an answer")
    training.add_argument("--steps", type=int, default=800)
    training.add_argument("--tokens", type=int, default=4096, help="how many tokens the heads choose from")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    training.add_argument("--device", help="by default the best available")
    training.set_defaults(command=train)
    measuring = commands.add_parser("measure", help="count the passes that heads save")
    measuring.add_argument("--heads", type=Path, default=HEADS, help="a file of heads")
    measuring.add_argument("--tokens", type=int, default=96, help="for each prompt")
    measuring.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    measuring.set_defaults(command=measure)
    for command in (training, measuring):
        command.add_argument("--model", default=SMOLLM2, help="a model source")
    chosen = parser.parse_args()
    chosen.command(chosen)


if __name__ == "__main__":
    main()
