"""Models of a few thousand parameters and files of a few rows, for the tests of training and of stages."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from heedlm import config
from heedlm.models import save_model, train_tokenizer

NAMES = ("Ann", "Bob", "Cai", "Dora", "Eve", "Finn")
COLOURS = ("red", "blue", "green", "white")
TEXTS = [f"{name} lives in the {colour} house. 小猫在{colour}房子里。" for name in NAMES for colour in COLOURS]


@functools.cache
def tokenizer() -> PreTrainedTokenizerBase:
    """Heed's tokenizer with at most 300 tokens; shared, so not to be changed."""
    return train_tokenizer(TEXTS, 300)


def model(
    seed: int = 0, *, vocabulary: int = 0, context: int = 64, spread: float = 0.1, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """A Llama of two layers, 32 wide, in eval mode; `spread` is the deviation of its random weights."""
    shape = LlamaConfig(
        vocab_size=vocabulary or len(tokenizer()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=spread,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = LlamaForCausalLM(shape)
    made.set_attn_implementation("sdpa")
    return exact(made) if dtype == torch.float64 else made.to(dtype).eval()


def exact(model: PreTrainedModel) -> PreTrainedModel:
    """The model in float64 throughout: transformers' RMS norms compute in float32, whatever they are given."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child).__name__.endswith("RMSNorm"):
                norm = torch.nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon)
                norm.weight = child.weight
                setattr(module, name, norm)
    return model.double().eval()


def folder(path: Path, seed: int = 0, **options: Any) -> Path:
    """The folder of such a model with the tokenizer, as a user would give it."""
    save_model(model(seed, **options), tokenizer(), path)
    return path


def jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A file with one JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def documents(path: Path, count: int = 24) -> Path:
    """A file of plain texts."""
    return jsonl(path, [{"text": f"{TEXTS[i % len(TEXTS)]} {i}"} for i in range(count)])


def demonstrations(path: Path, count: int = 24) -> Path:
    """A file of questions with answers."""
    return jsonl(path, [{"messages": talk(question(i), f"In the {COLOURS[i % 4]} house.")} for i in range(count)])


def prompts(path: Path, count: int = 24) -> Path:
    """A file of questions."""
    return jsonl(path, [{"messages": talk(question(i))} for i in range(count)])


def comparisons(path: Path, ranked: Sequence[tuple[str, ...]]) -> Path:
    """A file of rankings: for each question answers from best to worst."""
    rows = [
        {
            "prompt": talk(question(i)),
            "answers": [{"text": text} for text in texts],
            "ranks": list(range(1, len(texts) + 1)),
        }
        for i, texts in enumerate(ranked)
    ]
    return jsonl(path, rows)


def question(number: int) -> str:
    """A question of its own for each number."""
    return f"Where does {NAMES[number % 6]} live? {number}"


def talk(*turns: str) -> list[dict[str, str]]:
    """Messages of user and assistant in turn."""
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(turns)]


def run(stage: Any, out: Path, **settings: Any) -> Any:
    """Run a stage in `out` with settings as a user would type them (`a__b` for a.b), on one thread."""
    name = stage.__name__.rsplit(".", 1)[-1]
    return stage.run(config.load(stage.Config, [f"out={out}", "threads=1", *words_of(settings)], stage=name))


def words_of(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings as words of the command line."""
    words: list[str] = []
    for key, value in settings.items():
        name = prefix + key.replace("__", ".")
        if isinstance(value, Mapping):
            words += words_of(value, f"{name}.")
        else:
            plain = isinstance(value, (Path, str))
            words.append(f"{name}={value if plain else 'none' if value is None else json.dumps(value)}")
    return words
