"""Medusa heads for SmolLM2-135M: their training, and how many tokens a pass writes with them.

    python -m benchmarks.medusa train [--answers 512] [--answer-tokens 128] [--steps 800] [--dtype bfloat16] …
    python -m benchmarks.medusa measure [--heads FILE] [--sizes 4 8 16] [--tokens 96] [--dtype float32] [--model …]

`train` has the model answer questions on topics of its own (`nodes/text/medusa/topics.py`; none of the measured prompts
is among them), trains four heads on the answers, and saves them as `.train/medusa/heads.safetensors`. Interrupted, it
goes on where it was when it is called again in the same way.

`measure` continues the twelve prompts of `benchmarks.decode` greedily, by a fixed number of tokens whatever ends the
text, and counts the passes that this takes with trees of several sizes. What passes cost, `benchmarks.decode` measures.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.decode import HEADS, PROMPTS, SMOLLM2
from engine.events import Event, NodeText
from engine.node import Context
from kinograph import Graph, Session
from nodes.text.chat import encode
from nodes.text.decoding.loop import Tally, tree_decode
from nodes.text.decoding.medusa import Medusa
from nodes.text.medusa.files import read_heads
from nodes.text.medusa.heads import Guesser
from nodes.text.models import language_model
from nodes.text.nodes import LLMLoad

FOLDER = HEADS.parent
SIZES = (4, 8, 16)


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
    """Print S, tokens per pass, of all prompts and of those of each kind: a row for each size of tree."""
    torch.set_num_threads(chosen.threads)
    ctx = Context()
    llm = language_model(ctx, LLMLoad(source=chosen.model, dtype=chosen.dtype).run(ctx))
    llm.model.generation_config.eos_token_id = None
    guesser = Guesser(read_heads(chosen.heads), llm.model)
    kinds = list(dict.fromkeys(kind for kind, _ in PROMPTS))
    title = f"S: {len(PROMPTS)} prompts, {chosen.tokens} tokens, {chosen.dtype}, {len(guesser.weights)} heads"
    table = Table("guesses", "all", *kinds, title=title)
    for size in track(chosen.sizes, "sizes of trees", console=Console(stderr=True)):
        tallies = {kind: Tally() for kind in kinds}
        for kind, prompt in PROMPTS:
            ids = encode(llm, [{"role": "user", "content": prompt}])
            decode(llm.model, ids, Medusa(guesser, size), chosen.tokens, tallies[kind])
        whole = sum(tally.tokens for tally in tallies.values()), sum(tally.passes for tally in tallies.values())
        pairs = [whole, *((tally.tokens, tally.passes) for tally in tallies.values())]
        table.add_row(str(size), *(f"{tokens / passes:.2f}" for tokens, passes in pairs))
    Console(width=100).print(table)


def decode(model: Any, ids: torch.Tensor, drafter: Medusa, tokens: int, tally: Tally) -> None:
    """Continue a text greedily, and add to the tally; as in `benchmarks.decode`, the prompt's pass doesn't count."""
    whole = Tally()
    options = {"custom_generate": tree_decode, "drafter": drafter, "tally": whole}
    model.generate(ids, do_sample=False, max_new_tokens=tokens, pad_token_id=0, **options)
    tally.tokens += whole.tokens - 1
    tally.passes += whole.passes - 1


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
    measuring.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="of the trees, in guesses")
    measuring.add_argument("--tokens", type=int, default=96, help="for each prompt")
    measuring.add_argument("--threads", type=int, default=1)
    measuring.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    measuring.set_defaults(command=measure)
    for command in (training, measuring):
        command.add_argument("--model", default=SMOLLM2, help="a model source")
    chosen = parser.parse_args()
    chosen.command(chosen)


if __name__ == "__main__":
    main()
