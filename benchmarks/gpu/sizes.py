"""What is measured: model shapes, made with random weights on the device itself, and how much work each gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen2Config


@dataclass(frozen=True)
class Size:
    """A Qwen2-like model and its work.

    Attributes:
        name: What it is called on the command line.
        vocabulary: Tokens in it.
        width: Of the model.
        layers: Blocks.
        heads: Query heads.
        kv_heads: Key-value heads.
        hidden: Feed-forward width.
        tied: Whether the output matrix is the embedding.
        wide: Training keeps weights in float32 and computes in bfloat16; else the weights are bfloat16 too.
        tokens: About so many real tokens in a training step.
        budget: Tokens a microbatch may hold.
        rollouts: Answers in a PPO step.
        setups: How the models of a PPO step are held, see `ppo.SETUPS`.
        recompute: Whether a PPO step computes activations a second time instead of keeping them.
        rank: Of adapters, in the setup that has them.
        weight: This size's part of the time, beside the others'.
    """

    name: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    tied: bool
    wide: bool
    tokens: int
    budget: int
    rollouts: int
    setups: tuple[str, ...]
    recompute: bool
    rank: int = 16
    weight: float = 1.0

    def config(self) -> Qwen2Config:
        """Its configuration in transformers."""
        return Qwen2Config(
            vocab_size=self.vocabulary, hidden_size=self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, num_key_value_heads=self.kv_heads, intermediate_size=self.hidden,
            tie_word_embeddings=self.tied, max_position_embeddings=4096,
            bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )  # fmt: skip


@dataclass(frozen=True)
class Work:
    """How much of everything.

    Attributes:
        batches: Rows decoded at once.
        prompt: Tokens of each prompt.
        answer: Tokens of each answer; nothing ends one earlier.
        rows: Shortest and longest training row, tokens.
        square: Side of the matrices of the large product.
        copied: Bytes of the large copy.
        repeats: Timed runs of each figure, if time allows.
        compile_seconds: Time that must be left for a model to be compiled.
    """

    batches: tuple[int, ...] = (1, 16, 128)
    prompt: int = 128
    answer: int = 128
    rows: tuple[int, int] = (128, 1024)
    square: int = 8192
    copied: int = 2**32
    repeats: int = 3
    compile_seconds: float = 100.0


QWEN = 151_936  # Qwen2's vocabulary; its 7 B has a few unused tokens more
SIZES = {
    "0.5b": Size(
        "0.5b", QWEN, 896, 24, 14, 2, 4864, tied=True, wide=True, tokens=16_384, budget=8192, rollouts=128,
        setups=("full",), recompute=False,
    ),
    "1.5b": Size(
        "1.5b", QWEN, 1536, 28, 12, 2, 8960, tied=True, wide=True, tokens=16_384, budget=8192, rollouts=128,
        setups=("full",), recompute=True, weight=1.5,
    ),
    "7b": Size(
        "7b", QWEN, 3584, 28, 28, 4, 18_944, tied=False, wide=False, tokens=8192, budget=4096, rollouts=128,
        setups=("shared", "adapters"), recompute=True, weight=2.5,
    ),
}  # fmt: skip
TOY = Size(
    "toy", 64, 16, 2, 2, 1, 32, tied=True, wide=True, tokens=64, budget=48, rollouts=4,
    setups=("full", "shared", "adapters"), recompute=True, rank=2,
)  # fmt: skip
TOY_WORK = Work((1, 4), prompt=6, answer=5, rows=(4, 16), square=256, copied=2**22, repeats=2, compile_seconds=0.0)


def make(size: Size, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Any:
    """A causal model with random weights, drawn on the device: nothing passes through the host's memory."""
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(size.config(), dtype=dtype, attn_implementation="sdpa")
    # Nothing ends an answer early, so that everybody does the same work.
    model.generation_config.eos_token_id = None
    return model.train(False)


def prompts(size: Size, count: int, length: int, seed: int) -> list[list[int]]:
    """Random token ids, no two prompts alike."""
    generator = torch.Generator().manual_seed(seed)
    found: list[list[int]] = torch.randint(0, size.vocabulary, (count, length), generator=generator).tolist()
    return found


def lengths(tokens: int, shortest: int, longest: int, seed: int) -> list[int]:
    """Row lengths between two bounds, alike in likelihood, that add up to at most `tokens` (at least one row)."""
    generator, found = torch.Generator().manual_seed(seed), list[int]()
    while True:
        length = int(torch.randint(shortest, longest + 1, (), generator=generator))
        if found and sum(found) + length > tokens:
            return found
        found.append(length)
