"""The models that are measured, made once and kept in `benchmarks/.cache` (HEED_BENCH_CACHE elsewhere).

260k   stories260K, a Llama of 0.26 M parameters from the shared data folder (vocabulary 512)
3m     a Llama of 3.16 M (vocabulary 4096), trained for some minutes on alpaca so that its answers end
30m    a Llama of 29.4 M (vocabulary 4096) with random weights, for training
toy    a Llama of some thousand parameters and made-up text, for the tests
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from benchmarks import data
from heedlm.models.chat import Chat
from heedlm.models.load import save_model
from heedlm.models.tokenizer import load_tokenizer, train_tokenizer
from heedlm.train.batching import Row
from heedlm.train.language import LanguageTraining
from heedlm.train.learner import Learner
from heedlm.train.optim import Optim

VOCABULARY = 4096


@dataclass(frozen=True)
class Shape:
    """Width, layers, heads and feed-forward width of a Llama with tied embeddings."""

    width: int
    layers: int
    heads: int
    hidden: int


SHAPES = {
    "toy": Shape(width=32, layers=2, heads=2, hidden=64),
    "3m": Shape(width=256, layers=4, heads=8, hidden=344),
    "30m": Shape(width=512, layers=8, heads=8, hidden=1536),
}


def cache() -> Path:
    """Where models are kept."""
    return Path(os.environ.get("HEED_BENCH_CACHE") or Path(__file__).parent / ".cache")


def folder(name: str) -> Path:
    """The folder of a model, made if it is not there yet."""
    if name == "260k":
        return data.shared("models/stories260K")
    path = cache() / name
    if not (path / "config.json").exists():
        part = cache() / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _make(name, part)
        part.rename(path)
    return path


def llama(
    shape: Shape, tokenizer: PreTrainedTokenizerBase, vocabulary: int | None = None, seed: int = 0
) -> LlamaForCausalLM:
    """A Llama with random weights, in eval mode; the global random state is left alone."""
    config = LlamaConfig(
        vocab_size=vocabulary or len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=2048,
        initializer_range=0.4 / shape.width**0.5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.set_attn_implementation("sdpa")
    return model.eval()


def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a cached model, or a new one for the toy."""
    if name == "toy":
        texts = [m.content for d in data.toy_demonstrations(200) for m in d.messages]
        return train_tokenizer(texts, 300)
    kept = cache() / "tokenizer"
    if not kept.exists():
        texts = [m.content for d in data.instructions(0, data.TRAINED_ON) for m in d.messages]
        train_tokenizer([*texts, *data.stories(4000)], VOCABULARY).save_pretrained(kept)
    return load_tokenizer(kept)


def _make(name: str, path: Path) -> None:
    tokenizer = tokenizer_of(name)
    model = llama(SHAPES[name], tokenizer)
    if name == "3m":
        _teach(model, Chat(tokenizer))
    save_model(model, tokenizer, path)


def _teach(model: LlamaForCausalLM, chat: Chat, steps: int = 450, longest: int = 120) -> None:
    """Train on alpaca's shorter answers until the model ends its own: about 0.9 million tokens."""
    shown = (chat.conversation(d.messages) for d in data.instructions(0, data.TRAINED_ON))
    # The questions are learned too: they are text like any other, and every token taken teaches the language.
    rows = [Row(ids, [True] * len(ids)) for ids, mask in shown if sum(mask) <= longest and len(ids) <= 256]
    optim = Optim(lr=3e-3, warmup=0.05)
    learning = LanguageTraining(Learner(model, optim, steps), rows, [], length=256, batch=8, budget=2048, seed=0)
    for index in range(steps):
        values = learning.step(index)
        if index % 50 == 0:
            print(f"  3m: step {index} of {steps}, {values['loss/train']:.2f} nats a token", file=sys.stderr)
    model.eval()


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(folder(wanted).name, file=sys.stderr)
