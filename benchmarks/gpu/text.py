"""Decoding on the device: what a pass over several tokens costs, and how quickly each method writes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.gpu.bench import Bench, Figures, Step, claim, node
from benchmarks.gpu.shapes import llama, save_llama
from engine.events import NodeReported

METHODS = ("greedy", "auto", "lookahead", "jacobi", "prompt_lookup", "suffix")
REPEATING = "the red boat, the blue boat, the red boat, the blue boat, " * 4
"""A prompt whose end the methods that look at the text can go on with, whatever the model makes of it."""


def passes(bench: Bench) -> Figures:
    """A pass over several tokens takes less time than one pass for each."""
    from nodes.text.decoding.costs import measure

    figures: dict[str, float] = {}
    for shape in bench.size(("1B", "8B"), ("small",)):
        model = llama(bench.device, shape)
        costs = measure(model, lambda done, total: None, seconds=20.0)
        figures[f"{shape}: a token, ms"] = 1000 * costs(1)
        figures |= {f"{shape}: {size} tokens, × the time": costs(size) / costs(1) for size in sorted(costs.times)}
        claim(costs(8) < 8 * costs(1), f"8 tokens take {costs(8) / costs(1):.1f} times as long as one")
        del model
    return figures


def decodes(bench: Bench) -> Figures:
    """All methods of decoding write what greedy decoding does, in float32 to the letter."""
    source = save_llama(bench.folder / "llama", bench.device, small=bench.small)
    figures: dict[str, float] = {}
    for dtype in ("float32", "bfloat16"):
        texts = []
        for method in METHODS:
            graph = {"llm": node("LLMLoad", source=str(source), dtype=dtype)}
            length = bench.size(128, 16)
            graph["text"] = node(
                "LookaheadDecode", llm=["llm", 0], prompt=REPEATING, max_new_tokens=length, method=method
            )
            with bench.resources() as shared:
                bench.run(shared, graph, "text")
                shared.cache.memory.clear()
                started = time.perf_counter()
                ran = bench.run(shared, graph, "text")
                seconds = time.perf_counter() - started
            text, tokens = ran.results["text"]
            texts.append(text)
            (report,) = (event.figures for event in ran.events if isinstance(event, NodeReported))
            figures[f"{dtype} {method}: tokens a second"] = tokens / seconds
            figures[f"{dtype} {method}: tokens a pass"] = float(report["tokens a pass"].value)
        claim(dtype != "float32" or len({*texts}) == 1, "the texts differ")
    return figures


STEPS: Sequence[Step] = (passes, decodes)
