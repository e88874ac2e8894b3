"""The text nodes, on a tiny model with a tokenizer of its own, and on SmolLM2 where it is available."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import Cancelled, InputError, MissingError, NodeError
from engine.figures import Figure, Report
from engine.graph.check import check
from engine.models import Models, identity
from engine.node import Context
from engine.registry import Registry
from engine.values import LanguageModel, Message, Messages, Vocabulary
from nodes.files.nodes import SaveText
from nodes.loading import unchanged
from nodes.text.models import language_model
from nodes.text.nodes import LLMLoad, LookaheadDecode, Text
from nodes.text.prompts import faults
from nodes.text.unpack import unpacked
from tests.text.conftest import CHAT, babbler, bytewise, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return babbler(tmp_path_factory.mktemp("babbler"))


def decode(ctx: Context, folder: Path, **inputs: Any) -> Any:
    llm = LLMLoad(source=str(folder)).run(ctx)
    return LookaheadDecode(llm=llm, **{"prompt": "say hello", "max_new_tokens": 24} | inputs).run(ctx)


def test_text_is_passed_on() -> None:
    assert Text(text="a snail").run(Context()) == "a snail"


@pytest.mark.parametrize(("window", "ngram"), [(0, 2), (3, 3), (5, 4)])
def test_it_writes_what_transformers_would(ctx: Context, folder: Path, window: int, ngram: int) -> None:
    written = decode(ctx, folder, system="the red fish", method="lookahead", window=window, ngram=ngram)
    model, tokenizer = language_model(ctx, LLMLoad(source=str(folder)).run(ctx))
    ids = tokenizer("system the red fish user say hello ", return_tensors="pt").input_ids
    reference = model.generate(ids, do_sample=False, max_new_tokens=24)[0, ids.shape[1] :]
    assert written.text == tokenizer.decode(reference, skip_special_tokens=True).strip()
    assert written.tokens == len(reference)


def test_a_pad_token_in_the_models_format_is_read_as_a_token(ctx: Context, tmp_path: Path) -> None:
    folder = bytewise(tmp_path / "model", template=CHAT + "{{ pad_token }}")
    written = decode(ctx, folder)
    model, tokenizer = language_model(ctx, LLMLoad(source=str(folder)).run(ctx))
    ids = tokenizer("user say hello <pad>", return_tensors="pt").input_ids
    assert tokenizer.pad_token_id in ids
    whole = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
    assert written.text == tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_a_conversation_is_answered_as_transformers_would(ctx: Context, folder: Path) -> None:
    said: tuple[Message, ...] = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "a red fish"})
    model, tokenizer = language_model(ctx, LLMLoad(source=str(folder)).run(ctx))
    for inputs, read in (
        ({"messages": said}, "user hello assistant a red fish "),
        ({"messages": said, "system": "be"}, "system be user hello assistant a red fish "),
        ({"messages": said[:1]}, "user hello "),
        ({"messages": Messages(said), "prompt": "go on"}, "user hello assistant a red fish user go on "),
    ):
        if inputs["messages"] == said:
            read = read.rstrip()
        ids = tokenizer(read, return_tensors="pt").input_ids
        reference = model.generate(ids, do_sample=False, max_new_tokens=24)[0, ids.shape[1] :]
        written = decode(ctx, folder, **{"prompt": ""} | inputs)
        assert written.text == tokenizer.decode(reference, skip_special_tokens=True).strip()


def test_a_vocabulary_takes_a_theme_alone(ctx: Context, folder: Path) -> None:
    vocabulary = Vocabulary({"subject": ("fish", "cat")})
    for inputs in ({"prompt": ""}, {"messages": ({"role": "user", "content": "hello"},)}):
        with pytest.raises(InputError, match="with a vocabulary the prompt is a theme"):
            decode(ctx, folder, vocabulary=vocabulary, **inputs)


@pytest.mark.parametrize(("pad", "end"), [(None, None), (None, "e"), ("e", "e"), ("<pad>", "<pad>"), ("e", None)])
def test_pad_and_end_tokens_may_be_one_or_missing(
    ctx: Context, folder: Path, tmp_path: Path, pad: str | None, end: str | None
) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    for name in ("special_tokens_map.json", "generation_config.json"):
        (own / name).unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(own)
    tokenizer.pad_token, tokenizer.eos_token = pad, end
    tokenizer.save_pretrained(own)
    config = json.loads((own / "config.json").read_text())
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    (own / "config.json").write_text(json.dumps(config | ends))
    written = decode(ctx, own, prompt="see the sea", method="suffix")
    model, tokenizer = language_model(ctx, LLMLoad(source=str(own)).run(ctx))
    assert (model.generation_config.eos_token_id, tokenizer.pad_token) == (ends["eos_token_id"], pad)
    ids = tokenizer("user see the sea ", return_tensors="pt").input_ids
    plain = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
    assert written.text == tokenizer.decode(plain[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_more_guesses_than_memory_holds_are_refused_before_the_run() -> None:
    given = {"method": "lookahead", "window": 256, "ngram": 32, "candidates": 256}
    with pytest.raises(InputError, match=r"guesses: 15,872, but 1,024 at most"):
        LookaheadDecode.check_inputs(given)
    LookaheadDecode.check_inputs(given | {"method": "auto"})
    LookaheadDecode.check_inputs(given | {"window": 16, "candidates": 17})


def test_how_a_model_is_run_is_not_its_configurations_to_say(ctx: Context, tmp_path: Path) -> None:
    folder = bytewise(tmp_path / "model")
    expected = decode(ctx, folder).text
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"use_cache": False}))
    generation = json.loads((folder / "generation_config.json").read_text())
    odd = {"num_beams": 4, "max_time": 1e-6, "use_cache": False, "cache_implementation": "static"}
    (folder / "generation_config.json").write_text(json.dumps(generation | odd))
    assert decode(Context(), folder).text == expected


def test_an_empty_stop_string_is_refused(ctx: Context, folder: Path) -> None:
    with pytest.raises(InputError, match="an empty text would end every answer before it begins"):
        decode(ctx, folder, stop=("red", ""))
    with pytest.raises(InputError, match="an empty text would end every answer before it begins"):
        LookaheadDecode.check_inputs({"stop": ("",)})


SAMPLED = {"temperature": 2.0, "top_p": 0.9}
SAMPLINGS: list[dict[str, float]] = [
    SAMPLED,
    SAMPLED | {"top_k": 3},
    SAMPLED | {"min_p": 0.3},
    SAMPLED | {"repetition_penalty": 1.4},
    SAMPLED | {"top_k": 4, "min_p": 0.1, "repetition_penalty": 0.8},
    {"temperature": 0.7, "top_p": 1.0},
    {"temperature": 1e-3, "top_p": 1e-9},
    {"repetition_penalty": 1.5},
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_it_samples_what_transformers_would(ctx: Context, folder: Path, sampling: dict[str, float]) -> None:
    model, tokenizer = language_model(ctx, LLMLoad(source=str(folder)).run(ctx))
    ids = tokenizer("user say hello ", return_tensors="pt").input_ids
    texts = []
    for seed in range(4):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            options = {"do_sample": "temperature" in sampling, "top_k": 0} | sampling
            whole = model.generate(ids, max_new_tokens=24, **options)[0, ids.shape[1] :]
        texts.append(tokenizer.decode(whole, skip_special_tokens=True).strip())
        assert decode(ctx, folder, seed=seed, **sampling).text == texts[-1]
    assert (len(set(texts)) > 1) == (sampling.get("temperature", 0) > 0.5)


@pytest.mark.parametrize("temperature", [1e-300, 1e-44, 1e-7, 1e-6, 1e-5])
def test_next_to_no_temperature_takes_the_likeliest_token(ctx: Context, folder: Path, temperature: float) -> None:
    assert decode(ctx, folder, temperature=temperature).text == decode(ctx, folder).text


def test_what_a_model_recommends_for_sampling_does_not_count(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    plain = json.loads((own / "generation_config.json").read_text())
    recommended = {"do_sample": True, "repetition_penalty": 5.0, "top_k": 1, "min_p": 0.9, "temperature": 0.1}
    (own / "generation_config.json").write_text(json.dumps(plain | recommended))
    for sampling in ({}, SAMPLED):
        assert decode(Context(), own, **sampling).text == decode(Context(), folder, **sampling).text


def test_equal_seeds_sample_equal_texts(ctx: Context, folder: Path) -> None:
    texts = [decode(ctx, folder, temperature=1.5, seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_stop_string_ends_the_text_and_is_left_out(ctx: Context, folder: Path) -> None:
    whole = decode(ctx, folder).text
    stop = whole[8:10]
    assert decode(ctx, folder, stop=(stop,)).text == whole[: whole.index(stop)].strip()


def test_text_and_progress_are_reported_as_it_is_written(folder: Path) -> None:
    pieces: list[str] = []
    counts: list[tuple[int, int, str]] = []
    ctx = Context(on_text=pieces.append, on_progress=lambda done, total, unit, _: counts.append((done, total, unit)))
    written = decode(ctx, folder, method="greedy")
    assert "".join(pieces) == written.text
    assert len(counts) == written.tokens
    assert counts[-1] == (24, 24, "token")


def test_what_it_took_is_reported(folder: Path) -> None:
    reports: list[Report] = []
    written = decode(Context(on_report=reports.append), folder, method="suffix")
    (report,) = reports
    assert report["tokens"] == Figure(written.tokens)
    passes, guessed = (report[name].value for name in ("passes", "guessed by suffix"))
    assert report["tokens a pass"].value == pytest.approx(written.tokens / float(passes))
    assert guessed == pytest.approx(100 * (written.tokens - float(passes)) / written.tokens)
    assert {name for name, figure in report.items() if figure.unit == "s"} == {
        "reading",
        "passes of the model",
        "guessing",
        "choosing tokens",
    }


def test_a_long_prompt_is_read_with_progress_and_may_be_cancelled_between_layers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []

    def heard(done: int, total: int, unit: str, _: Any) -> None:
        if unit == "prompt token":
            read.append((done, total))

    monkeypatch.setattr("nodes.text.decoding.loop.PROMPT_ALONE", 40)
    decode(Context(on_progress=heard), folder, prompt="the red fish " * 8)
    ((_, total), *_) = read
    assert read == [(0, total), (total // 2, total)], "the model has two layers"

    read.clear()
    ctx = Context(on_progress=heard, cancelled=lambda: len(read) >= 1)
    with pytest.raises(Cancelled):
        decode(ctx, folder, prompt="the red fish " * 8)
    assert read == [(0, total)]
    decode(Context(), folder, prompt="the red fish " * 8)
    assert read == [(0, total)], "nothing listens any more"


def test_a_cancel_takes_effect_before_the_next_pass(folder: Path) -> None:
    passes: list[int] = []
    ctx = Context(on_progress=lambda done, *_: passes.append(done), cancelled=lambda: len(passes) >= 2)
    with pytest.raises(Cancelled):
        decode(ctx, folder)
    assert len(passes) == 2


def test_a_cancel_within_a_pass_takes_effect_after_it(folder: Path) -> None:
    read: list[object] = []
    ctx = Context(cancelled=lambda: len(read) >= 2)
    model, _ = language_model(ctx, LLMLoad(source=str(folder)).run(ctx))
    hook = model.register_forward_pre_hook(lambda *inputs: read.append(inputs))
    with pytest.raises(Cancelled):
        decode(ctx, folder)
    hook.remove()
    assert len(read) == 2


def test_a_conversation_that_is_continued_keeps_the_space_before_the_next_word(folder: Path) -> None:
    pieces: list[str] = []
    said: tuple[Message, ...] = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "a red"})
    written = decode(Context(on_text=pieces.append), folder, prompt="", messages=said, temperature=3.0, seed=72)
    assert "".join(pieces) == written.text
    assert written.text[0] == " "


def test_too_long_a_prompt_is_refused_before_anything_is_computed(ctx: Context, folder: Path) -> None:
    with pytest.raises(InputError, match=r"\d+ tokens and 24 new ones don't fit into the model's context of 1024"):
        decode(ctx, folder, prompt="fish " * 301)


def test_with_a_vocabulary_the_prompt_is_a_theme(shared: Models, folder: Path) -> None:
    reports: list[Report] = []
    ctx = Context(models=shared, on_report=reports.append)
    vocabulary = Vocabulary({"subject": ("fish", "cat"), "colour": ("red", "teal")}, {"style": ("neon",)})
    written = decode(ctx, folder, prompt="two fish", vocabulary=vocabulary)
    assert written.text in ("a red fish in neon style", "a teal fish in neon style")
    assert written.tokens == len(written.text)  # this model's tokens are letters
    assert int(reports[0]["passes"].value) > 0


def test_a_vocabulary_without_slots_leaves_the_prompt_to_the_model(ctx: Context, folder: Path) -> None:
    assert decode(ctx, folder, vocabulary=Vocabulary()) == decode(ctx, folder)


def test_attempts_are_taken_with_a_remark_and_change_nothing(ctx: Context, folder: Path) -> None:
    vocabulary = Vocabulary({"subject": ("fish", "cat")})
    texts = {decode(ctx, folder, vocabulary=vocabulary, **given).text for given in ({}, {"attempts": 3})}
    assert len(texts) == 1
    graph = {
        "llm": {"class_type": "LLMLoad", "inputs": {"source": str(folder)}},
        "prompt": {"class_type": "LookaheadDecode", "inputs": {"llm": ["llm", 0], "prompt": "a cat", "attempts": 3}},
        "save": {"class_type": "SaveText", "inputs": {"text": ["prompt", "text"]}},
    }
    prepared = prepare(Workflow.read({"kinograph": 1, "graph": graph}), Registry([LLMLoad, LookaheadDecode, SaveText]))
    check(prepared)
    (warning,) = prepared.warnings
    assert "attempts" in str(warning)
    assert "is deprecated: leave it out" in str(warning)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json"):
        LLMLoad(source=str(tmp_path)).run(Context())
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"model\.bin is not a GGUF file"):
        LLMLoad(source=str(tmp_path / "model.bin")).run(Context())


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as a GGUF file."""
    from gguf import MODEL_ARCH, GGUFWriter, get_tensor_name_map

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(48)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<pad>", "<s>", "</s>", "<unk>", *map(chr, range(65, 108)), "AB"])
    writer.add_token_types([3, 3, 3, 3, *[1] * 44])
    writer.add_token_merges(["A B"])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_chat_template(CHAT)
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, 2)
    for name, weight in tiny("llama").state_dict().items():
        writer.add_tensor(names.get_name(name, (".weight",)), _interleaved(name, weight).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _interleaved(name: str, weight: torch.Tensor) -> torch.Tensor:
    """GGUF has the halves of each head's rotary dimensions interleaved, in queries and keys."""
    heads = 4 if "q_proj" in name else 2 if "k_proj" in name else 0
    if not heads:
        return weight
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2).contiguous()


@pytest.mark.full
def test_a_gguf_file_is_unpacked_once(
    ctx: Context, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path))
    waits: list[str] = []
    llm = LLMLoad(source=str(gguf)).run(Context(on_progress=lambda done, total, unit, _: waits.append(unit)))
    assert set(waits) == {"model"}
    (unpacked,) = (tmp_path / "unpacked").glob("*/")
    assert llm.path == str(unpacked)
    model, tokenizer = language_model(ctx, llm)
    assert tokenizer.chat_template == CHAT
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
    assert tokenizer.tokenize("ABBA</s>") == ["AB", "B", "A", "</s>"]
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, tiny("llama").state_dict()[name].half().float())
    waits.clear()
    assert LLMLoad(source=str(gguf)).run(Context(on_progress=lambda *_: waits.append(""))).path == llm.path
    assert waits == []


def test_a_model_that_was_replaced_before_it_is_loaded_is_not_taken_for_the_chosen_one(tmp_path: Path) -> None:
    source, ctx = babbler(tmp_path / "model"), Context()
    llm = LLMLoad(source=str(source)).run(ctx)
    (source / "generation_config.json").write_text("{}")
    with pytest.raises(NodeError, match=r"model was replaced before it was loaded"):
        language_model(ctx, llm)
    assert len(ctx.models) == 0


@pytest.mark.full
def test_what_was_unpacked_of_a_file_that_was_replaced_meanwhile_is_dropped(gguf: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(gguf, tmp_path / "copy.gguf"))
    reading = partial(unchanged, str(file), identity(str(file)))

    def replace_it() -> None:
        file.write_bytes(file.read_bytes() + b"\0")

    with pytest.raises(NodeError, match="was replaced"):
        unpacked(file, "it", tmp_path, replace_it, reading)
    assert not list((tmp_path / "unpacked").glob("*/"))


def test_whatever_a_replaced_file_makes_of_reading_it_is_said_to_be_that(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"old")
    contents = identity(str(file))

    def read(meanwhile: bytes) -> None:
        with unchanged(str(file), contents):
            if meanwhile:
                file.write_bytes(meanwhile)
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        read(b"")
    with pytest.raises(NodeError, match="was replaced"):
        read(b"new")


def test_unpacking_ends_with_a_cancel(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path))
    with pytest.raises(Cancelled):
        LLMLoad(source=str(gguf)).run(Context(cancelled=lambda: True))
    assert not list((tmp_path / "unpacked").glob("*/config.json"))


def test_a_broken_file_is_a_missing_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    (tmp_path / "torn.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(MissingError, match=r"torn\.gguf can't be unpacked"):
        LLMLoad(source=str(tmp_path / "torn.gguf")).run(Context())
    assert not list((tmp_path / "home" / "unpacked").glob("*/config.json"))


@pytest.mark.full
def test_smollm2_writes_what_greedy_decoding_writes_in_fewer_passes(shared: Models, smollm2: LanguageModel) -> None:
    prompt = "Count from one to ten in words, twice."
    reports: list[Report] = []
    ctx = Context(models=shared, on_report=reports.append)
    written = LookaheadDecode(llm=smollm2, prompt=prompt, max_new_tokens=32, method="suffix").run(ctx)
    model, tokenizer = language_model(ctx, smollm2)
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        reference = model.generate(chat["input_ids"], do_sample=False, max_new_tokens=32)
    expected = tokenizer.decode(reference[0, chat["input_ids"].shape[1] :], skip_special_tokens=True)
    assert written.text == expected.strip()
    assert int(reports[-1]["passes"].value) < written.tokens


@pytest.mark.full
def test_smollm2_writes_a_prompt_in_the_image_models_words(ctx: Context, smollm2: LanguageModel) -> None:
    from models.sprite.world import VOCABULARY

    slots = VOCABULARY | {
        "subject": (*VOCABULARY["subject"], "snail"),
        "style": (*VOCABULARY["style"], "neon"),
    }
    vocabulary = Vocabulary(slots, {"subject": ("snail",), "style": ("neon",)})
    written = LookaheadDecode(llm=smollm2, prompt="a quiet evening by the sea", vocabulary=vocabulary).run(ctx)
    assert faults(written.text, vocabulary) == []
