"""Loading language models: a transformers folder, or a GGUF file that is unpacked once."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import MissingError
from engine.models import home
from nodes.image.pipelines import quiet

if TYPE_CHECKING:
    from engine.node import Context
    from engine.values import LanguageModel


class LoadedModel(NamedTuple):
    """A causal language model of transformers, in evaluation mode, and its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def nbytes(self) -> int:
        return sum(weight.nbytes for weight in self.model.parameters())


def language_model(ctx: Context, model: LanguageModel) -> LoadedModel:
    """The model, resident and shared by all who ask.

    Raises:
        MissingError: the files are not those of a causal language model, or can't be read.
    """
    loaded: LoadedModel = ctx.models.get(
        ("language model", model.identity, model.dtype, ctx.device), lambda: _load(ctx, model)
    )
    return loaded


def _load(ctx: Context, reference: LanguageModel) -> LoadedModel:
    import torch

    with quiet():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        path = Path(reference.path)
        try:
            folder = path if path.is_dir() else _unpacked(ctx, path, reference.identity)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, reference.dtype), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise MissingError(
                f"{reference.source} can't be loaded: {reason}", hint="give a transformers folder or a GGUF file"
            ) from error
    return LoadedModel(model.to(ctx.device).eval(), tokenizer)


def _unpacked(ctx: Context, file: Path, identity: str) -> Path:
    """The folder that a GGUF file is unpacked to, in half precision: reading GGUF takes 20 s each time, this 0.1 s."""
    from filelock import FileLock

    folder = home() / "unpacked" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            ctx.progress(0, 1, unit="model unpacked")
            _unpack(file, folder)
            ctx.progress(1, 1, unit="model unpacked")
    return folder


def _unpack(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    unfinished = folder.with_name(f".{uuid.uuid4().hex}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float16,
            local_files_only=True,
        )
        if quantizer := getattr(model, "hf_quantizer", None):  # what is saved is an ordinary model
            quantizer.remove_quantization_config(model)
        tokenizer.save_pretrained(unfinished)
        model.save_pretrained(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
