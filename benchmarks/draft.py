"""A draft model for SmolLM2-135M: some of its layers, taught to predict what all of them do.

    python -m benchmarks.draft [--layers 6] [--answers 1024] [--answer-tokens 128] [--steps 2000] [--minutes 60]

The model answers questions on topics of its own (`nodes/text/medusa/topics.py`; none of the prompts of
`benchmarks.decode` is among them). The draft has its embedding, evenly spaced layers of it, and its norm; the layers
learn so that the distributions after each token of the answers come close to the model's (KL divergence over the
commonest tokens; Hinton et al., arXiv:1503.02531). It is saved as `.train/draft/model`, a model like any other, which
`benchmarks.decode --ways assisted` drafts with. Interrupted, it goes on where it was when it is called again.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.decode import SMOLLM2
from engine.atomic import replacing
from engine.node import Context
from nodes.text.chat import encode
from nodes.text.medusa.examples import Examples, own_answers
from nodes.text.medusa.topics import topics
from nodes.text.models import LoadedModel, language_model
from nodes.text.nodes import LLMLoad

FOLDER = Path(".train/draft")
COMMON = 8192
"""Tokens over which distributions are compared."""
BATCH = 8
"""Answers in a step."""


def recall(name: str, *, anywhere: bool = False) -> tuple[Any, ...] | None:
    path = _file(name)
    return (Examples.from_tensors(load_file(path), {}),) if path.is_file() else None


def keep(name: str, outputs: Sequence[Any], seconds: float, *, anywhere: bool = False) -> None:
    tensors, _ = outputs[0].to_tensors()
    with replacing(_file(name)) as part:
        save_file(dict(tensors), part)


def _file(name: str) -> Path:
    return FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.safetensors"


def answers(chosen: argparse.Namespace, prompts: Sequence[str]) -> Examples:
    """What the model says to the prompts, with the states that its tokens were predicted from."""

    def heard(done: int, total: int, unit: str, _: object) -> None:
        print(f"\ranswers: {done:,} of {total:,} {unit}s", end="", flush=True)

    ctx = Context(recall=recall, keep=keep, on_progress=heard)
    reference = LLMLoad(source=chosen.model, dtype="bfloat16").run(ctx)
    llm = language_model(ctx, reference)
    with torch.inference_mode():
        return own_answers(ctx, reference, llm, prompts, length=chosen.answer_tokens, temperature=0.5, seed=0)


def pruned(model: Any, layers: int) -> Any:
    """A copy with some of the layers, the first and the last among them; only they and the norm learn."""
    inner = model.model
    kept = [round(at * (len(inner.layers) - 1) / (layers - 1)) for at in range(layers)]
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    draft = type(model)(config)
    draft.model.embed_tokens.weight = inner.embed_tokens.weight.requires_grad_(False)
    draft.tie_weights()
    draft.model.norm.load_state_dict(inner.norm.state_dict())
    for layer, at in zip(draft.model.layers, kept, strict=True):
        layer.load_state_dict(inner.layers[at].state_dict())
    return draft


Answered = tuple[list[int], tuple[Tensor, Tensor]]
"""The tokens before an answer, and its own with the model's states."""


def loss(draft: Any, examples: Sequence[Answered], outputs: Tensor) -> Tensor:
    """KL divergence of the draft's distributions from the model's, in nats a token.

    Args:
        outputs: the rows of the output embedding that are compared, (tokens, hidden size).
    """
    texts = [[*chat, *tokens.tolist()[:-1]] for chat, (tokens, _) in examples]
    longest = max(map(len, texts))
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    states = draft.model(input_ids=ids, use_cache=False).last_hidden_state
    rows = zip(states, examples, texts, strict=True)
    ours = torch.cat([row[len(chat) - 1 : len(text)] for row, (chat, _), text in rows])
    theirs = torch.cat([state for _, (_, state) in examples]).to(ours.dtype)
    logits = (ours @ outputs.T).log_softmax(-1), (theirs @ outputs.T).log_softmax(-1)
    return torch.nn.functional.kl_div(*logits, log_target=True, reduction="batchmean")


def fit(draft: Any, examples: Sequence[Answered], outputs: Tensor, steps: int, minutes: float, kept: Path) -> None:
    """Teach the draft for some steps, or minutes; what it has come to is kept in a file, and found there again."""
    weights = [weight for weight in draft.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.05)
    done = 0
    if kept.is_file():
        state = torch.load(kept, weights_only=True)
        done = state["done"]
        draft.load_state_dict(state["draft"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
    until = time.monotonic() + 60 * minutes
    while done < steps and time.monotonic() < until:
        picked = torch.randperm(len(examples), generator=torch.Generator().manual_seed(done))[:BATCH].tolist()
        found = loss(draft, [examples[at] for at in picked], outputs)
        optimizer.zero_grad()
        torch.autograd.backward(found)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        done += 1
        print(f"\rstep {done:,} of {steps:,}: {found.item():.3f} nats", end="", flush=True)
        if done % 100 == 0 or done == steps or time.monotonic() > until:
            own = {name: weight for name, weight in draft.named_parameters() if weight.requires_grad}
            state = {"done": done, "draft": own, "optimizer": optimizer.state_dict()}
            with replacing(kept) as part:
                torch.save(state | {"schedule": schedule.state_dict()}, part)
    print()


def train(chosen: argparse.Namespace) -> None:
    prompts = topics(chosen.answers, 0)
    said = answers(chosen, prompts)
    ctx = Context()
    llm: LoadedModel = language_model(ctx, LLMLoad(source=chosen.model, dtype="float32").run(ctx))
    chats = [encode(llm, [{"role": "user", "content": prompt}])[0].tolist() for prompt in prompts]
    places = pairwise([0, *said.ends.tolist()])
    examples = [(chat, (said.tokens[a:b], said.states[a:b])) for chat, (a, b) in zip(chats, places, strict=True)]
    common = torch.bincount(said.tokens, minlength=llm.model.config.vocab_size).topk(COMMON).indices
    outputs = llm.model.get_output_embeddings().weight.detach()[common]
    draft, held_out = pruned(llm.model, chosen.layers), max(len(examples) // 20, 1)
    kept = FOLDER / f"state-{chosen.layers}-{chosen.answers}-{chosen.answer_tokens}-{chosen.steps}.pt"
    fit(draft, examples[:-held_out], outputs, chosen.steps, chosen.minutes, kept)
    with torch.inference_mode():
        apart = [loss(draft, [example], outputs).item() for example in examples[-held_out:][:32]]
    print(f"held out: {mean(apart):.3f} nats a token")
    draft.half().save_pretrained(FOLDER / "model")
    llm.tokenizer.save_pretrained(FOLDER / "model")
    print(f"saved {FOLDER / 'model'}, {sum(weight.nbytes for weight in draft.parameters()) / 1e6:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--answers", type=int, default=1024)
    parser.add_argument("--answer-tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=60, help="after which training stops, to go on another time")
    parser.add_argument("--model", default=SMOLLM2, help="a model source")
    FOLDER.mkdir(parents=True, exist_ok=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
