"""Describing clips with models: CLIP's embeddings, aesthetics, captions, and text with CRAFT."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engine.models import identity, resolve
from nodes.dataset.presets import SUMMARISE
from nodes.dataset.provenance import Model, model
from nodes.dataset.table import Row, thumbnail
from nodes.files.footage import Picture

if TYPE_CHECKING:
    from engine.node import Context
    from engine.values import LanguageModel, Message

SUMMARY_TOKENS = 60


@dataclass(frozen=True)
class DescribeSettings:
    """Source strings of the models; "" for one that isn't used."""

    clip: str = ""
    aesthetics: str = ""
    image_captioner: str = ""
    video_captioner: str = ""
    craft: str = ""
    summarise: str = SUMMARISE
    """The instructions for the language model, if there is one."""


class Describer:
    """Adds to the rows of clips what models find in their views.

    Args:
        ctx: loads the models when they are first needed, on its device.
        settings: which models, and their instructions.
        llm: the language model that merges two captions, or None.
    """

    def __init__(self, ctx: Context, settings: DescribeSettings, llm: LanguageModel | None) -> None:
        self._ctx = ctx
        self.settings = settings
        self.llm = llm

    @property
    def device(self) -> str:
        """Where the models are: "cpu", "cuda:1"."""
        return self._ctx.device

    @cached_property
    def identity(self) -> str:
        """Everything that decides what is added."""
        known = self._identities()
        llm = f"{self.llm.identity} {self.llm.dtype} {self.settings.summarise}" if self.llm else ""
        return json.dumps(known | {"llm": llm})

    def models(self) -> list[Model]:
        """The models that describe clips, with their settings; raises MissingError if one isn't there."""
        from nodes.dataset.describe.captions import TOKENS
        from nodes.dataset.describe.craft import AFFINITY, CERTAIN, PIXELS, REGION

        dtype = "float32" if self.device == "cpu" else "float16"
        writing = {"dtype": dtype, "max_new_tokens": TOKENS, "decoding": "greedy"}
        settings: dict[str, dict[str, Any]] = {
            "clip": {"dtype": dtype},
            "aesthetics": {"dtype": "float32"},
            "image_captioner": writing,
            "video_captioner": writing,
            "craft": {"dtype": "float32", "region": REGION, "affinity": AFFINITY, "certain": CERTAIN, "pixels": PIXELS},
        }
        sources = {name: getattr(self.settings, name) for name in _MODELS}
        found = [model(name, source, settings[name]) for name, source in sources.items() if source]
        if self.llm is not None:
            how = {"dtype": self.llm.dtype, "max_new_tokens": SUMMARY_TOKENS, "instructions": self.settings.summarise}
            found.append(model("llm", self.llm.source, how, self.llm.identity))
        return found

    @property
    def has_models(self) -> bool:
        """Whether any model describes clips."""
        return self.llm is not None or any(getattr(self.settings, name) for name in _MODELS)

    def is_unchanged(self) -> bool:
        """Whether the models still are those that `identity` names."""
        known: dict[str, str] = json.loads(self.identity)
        return all(known[name] == contents for name, contents in self._identities().items())

    def _identities(self) -> dict[str, str]:
        sources: dict[str, str] = {name: getattr(self.settings, name) for name in _MODELS}
        return {name: source and identity(source) for name, source in sources.items()}

    def __call__(self, clips: Sequence[Row]) -> list[Row]:
        """The rows of a scan, with descriptions in place of the views."""
        views = [[_picture(view) for view in clip["views"]] for clip in clips]
        described = [
            {name: value for name, value in clip.items() if name != "views"} | {"thumbnail": thumbnail(_middle(of))}
            for clip, of in zip(clips, views, strict=True)
        ]
        self._find_text(described, views)
        self._caption(described, views)
        if self.settings.clip and clips:
            self._embed(described, views)
        return described

    def _find_text(self, rows: list[Row], views: Sequence[Sequence[Picture]]) -> None:
        from nodes.dataset.describe.craft import load_craft

        if self.settings.craft and rows:
            detector = load_craft(self._ctx, self.settings.craft)
            areas = [np.mean([detector.area(view) for view in (v[0], _middle(v), v[-1])]) for v in views]
            _add(rows, "text_area", [float(area) for area in areas])

    def _caption(self, rows: list[Row], views: Sequence[Sequence[Picture]]) -> None:
        from nodes.dataset.describe.captions import load_captioner

        wanted = self.settings
        if wanted.image_captioner:
            captioner = load_captioner(self._ctx, wanted.image_captioner)
            _add(rows, "image_caption", captioner.of_pictures([_middle(of) for of in views]))
        if wanted.video_captioner:
            _add(rows, "video_caption", load_captioner(self._ctx, wanted.video_captioner).of_clips(views))
        if self.llm is not None:
            write = self._writer(self.llm)
            for row in rows:
                row["summary"] = write([row[kind] for kind in ("image_caption", "video_caption") if row.get(kind)])

    def _embed(self, rows: list[Row], views: Sequence[Sequence[Picture]]) -> None:
        """Add the middle view's embedding, the mean aesthetics of three views, and how captions fit the middle view."""
        from nodes.dataset.describe.clip import load_aesthetic_head, load_clip

        clip = load_clip(self._ctx, self.settings.clip)
        seen = clip.of_pictures([view for v in views for view in (v[0], _middle(v), v[-1])])
        middle = seen[1::3]
        _add(rows, "embedding", [embedding.numpy().astype(np.float16) for embedding in middle])
        if self.settings.aesthetics:
            head = load_aesthetic_head(resolve(self.settings.aesthetics))
            scores = head.score(seen).reshape(-1, 3).mean(1)
            _add(rows, "aesthetics", scores.tolist())
        for kind in ("image_caption", "video_caption", "summary"):
            captioned = [index for index, row in enumerate(rows) if row.get(kind)]
            similar = (clip.of_texts([rows[index][kind] for index in captioned]) * middle[captioned]).sum(1)
            for index, value in zip(captioned, similar.tolist(), strict=True):
                rows[index][f"{kind}_similarity"] = value

    def _writer(self, llm: LanguageModel) -> Callable[[Sequence[str]], str]:
        from nodes.text.decoding.loop import Tally
        from nodes.text.models import language_model
        from nodes.text.writing import Settings, write

        model, settings = language_model(self._ctx, llm), Settings(max_new_tokens=SUMMARY_TOKENS)

        def summary(captions: Sequence[str]) -> str:
            if not captions:
                return ""
            chat: list[Message] = [
                {"role": "system", "content": self.settings.summarise},
                {"role": "user", "content": "\n".join(captions)},
            ]
            return write(self._ctx, model, chat, settings, Tally()).text.strip()

        return summary


_MODELS = ("clip", "aesthetics", "image_captioner", "video_captioner", "craft")


def _add(rows: list[Row], column: str, values: Sequence[Any]) -> None:
    for row, value in zip(rows, values, strict=True):
        row[column] = value


def _middle(views: Sequence[Picture]) -> Picture:
    return views[len(views) // 2]


def _picture(jpeg: bytes) -> Picture:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
