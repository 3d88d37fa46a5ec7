"""Small Llamas of named sizes, for training from nothing on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from heedlm.errors import BadInput
from heedlm.models.load import CausalModel


@dataclass(frozen=True)
class Size:
    """The shape of a Llama: width, layers, heads and the width of its feed-forward part."""

    width: int
    layers: int
    heads: int
    hidden: int


# Few layers: at this scale each costs more in calls than in arithmetic, and in the village two wide layers learned
# more from the same tokens than three narrow ones. Heads are 32 to 64 wide, as the CPU's attention kernel likes
# them. Counts are for a vocabulary of 1,024.
SIZES: dict[str, Size] = {
    "tiny": Size(width=96, layers=2, heads=3, hidden=256),  # 0.32 M
    "small": Size(width=160, layers=3, heads=5, hidden=384),  # 1.03 M
    "base": Size(width=256, layers=4, heads=8, hidden=576),  # 3.08 M
    "large": Size(width=384, layers=5, heads=6, hidden=832),  # 8.14 M
}


def create(
    size: str,
    tokenizer: PreTrainedTokenizerBase,
    context: int = 256,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> CausalModel:
    """A Llama with random weights: rotary positions, tied embeddings, no dropout, float32, in eval mode.

    Weights are N(0, 0.4/√width), and those that write to the residual stream are divided by √(2·layers), so
    that the stream keeps its scale with depth (Radford et al. 2019, section 2.3). They depend on seed, size
    and vocabulary alone; the global random state is left as it was.

    Args:
        size: A name in `SIZES`.
        tokenizer: Decides the vocabulary and the ids of BOS, EOS and padding.
        context: The most tokens a row may hold.
        seed: Decides the weights, the same ones on every device.
        device: Where the weights go.

    Raises:
        BadInput: Unknown size, or a context of less than 8 tokens.
    """
    if size not in SIZES:
        raise BadInput(f"size={size!r} is unknown: use one of {', '.join(SIZES)}")
    if context < 8:
        raise BadInput(f"context={context} is too short for a conversation: use 8 or more")
    shape = SIZES[size]
    std = 0.4 / shape.width**0.5
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=context,
        initializer_range=std,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        model: Any = LlamaForCausalLM(config)
    model.set_attn_implementation("sdpa")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = std / (2 * shape.layers) ** 0.5 if residual else std
                weight.normal_(0.0, scale, generator=generator)
    placed: CausalModel = model.to(device).train(False)
    return placed
