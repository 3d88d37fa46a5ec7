"""Forward passes: one way to ask a model for logits or scores, whichever side the padding is on.

Padding is described by masks and lengths only, never by comparing token ids, so a tokenizer without a padding
token (or one whose padding token is its EOS) behaves like any other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from heedlm.ops.shapes import Bool, Float, Int

_PACKS = "_heed_packs"


def logits(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"] | None = None,
    blocks: Int[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T V"]:
    """Next-token logits of a causal model: `[:, t]` predicts token t + 1.

    Args:
        model: A causal language model.
        tokens: Token ids; any valid id serves as padding.
        mask: True at real tokens. Right-padded rows need none: causal attention never looks at what follows.
            Padding on the left, or anywhere else, is moved to the right and back again, so that positions
            count real tokens only (PITFALLS 2).
        blocks: Number of the packed example that each token belongs to. A token attends only to earlier
            tokens of its own example, and each example's positions start at 0: the logits are those of
            separate rows.

    Values at padding are finite but mean nothing.
    """

    def run(rows: Tensor, **extra: Tensor) -> Tensor:
        out: Tensor = model(input_ids=rows, use_cache=False, **extra).logits
        return out

    if blocks is None:
        return _aligned(run, tokens, mask)
    if _packs(model):
        return run(tokens, position_ids=block_positions(blocks))
    return _unpacked(run, tokens, blocks)


def token_scores(
    model: nn.Module, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None = None
) -> Float[Tensor, "B T"]:
    """The scalar head's output at every token, in reward units (`gain · head + bias`, see `calibrate`).

    A reward model's reward is the value at the last real token; a critic's value at t is that of the state
    after token t, which predicts token t + 1. Padding is treated as in `logits`.
    """
    held: Any = model

    def run(rows: Tensor) -> Tensor:
        out: Tensor = held.score(held.base_model(input_ids=rows, use_cache=False).last_hidden_state)
        return out

    scores = _aligned(run, tokens, mask).squeeze(-1)
    gain, bias = calibration(model)
    return scores if (gain, bias) == (1.0, 0.0) else scores * gain + bias


def reward_scores(model: nn.Module, tokens: Int[Tensor, "B T"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """One reward per right-padded row: the score at its last real token, `tokens[b, lengths[b] - 1]`.

    Never at the padding after it (PITFALLS 1): the row is found by its length, not by its ids.
    """
    scores = token_scores(model, tokens)
    return scores.gather(1, (lengths - 1).clamp(min=0)[:, None]).squeeze(1)


def calibration(model: nn.Module) -> tuple[float, float]:
    """The (gain, bias) that `token_scores` applies: reward = gain · head + bias."""
    heed = getattr(model.config, "heed", None) or {}
    return float(heed.get("gain", 1.0)), float(heed.get("bias", 0.0))


def calibrate(model: nn.Module, *, gain: float = 1.0, bias: float = 0.0) -> None:
    """Set the affine map from head output to reward (docs/methods.md §3.3); it is saved in the model's config."""
    config: Any = model.config
    config.heed = {**(getattr(config, "heed", None) or {}), "gain": float(gain), "bias": float(bias)}


def positions_of(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position ids that count real tokens only, from 0 at each row's first; padding before it has 0 too."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def block_positions(blocks: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position ids that start again at 0 wherever the block number changes."""
    index = torch.arange(blocks.shape[1], device=blocks.device).expand_as(blocks)
    starts = torch.ones_like(blocks, dtype=torch.bool)
    starts[:, 1:] = blocks[:, 1:] != blocks[:, :-1]
    return index - torch.where(starts, index, 0).cummax(1).values


def tensor_device(model: nn.Module) -> torch.device:
    """Where token ids must lie for this model."""
    return next(model.parameters()).device


def takes(model: nn.Module, argument: str) -> bool:
    """Whether the model's forward names this argument (models with ALiBi take no position_ids, for one)."""
    return argument in inspect.signature(model.forward).parameters


def context_limit(model: nn.Module) -> int | None:
    """The most tokens that one row may hold, or None where the model sets no limit."""
    config: Any = model.config
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else None


def _aligned(run: Callable[[Tensor], Tensor], tokens: Tensor, mask: Tensor | None) -> Tensor:
    """`run` on rows whose real tokens come first, with its output (B, T, …) put back where they were."""
    if mask is None or not bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        return run(tokens)
    order = (~mask).long().argsort(dim=1, stable=True)
    out = run(tokens.gather(1, order))
    back = order.argsort(dim=1)
    return out.gather(1, back[..., None].expand(-1, -1, out.shape[-1]))


def _packs(model: nn.Module) -> bool:
    """Whether this model keeps packed examples apart; tried once per model, on rows of six tokens.

    Restarting position ids without any mask is how transformers recognises packed rows, and it then builds the
    block-diagonal mask for whichever kind of attention each layer has. A model that ignores them would let
    examples see each other without a word, so the second example must not change with the first.
    """
    known = getattr(model, _PACKS, None)
    if known is None:
        known = takes(model, "position_ids")
        if known:
            training = model.training
            model.train(False)
            with torch.no_grad():
                tokens = torch.tensor([[1, 2, 0, 2, 1, 0], [0, 0, 1, 2, 1, 0]], device=tensor_device(model))
                places = torch.tensor([[0, 1, 2, 0, 1, 2]], device=tokens.device).expand(2, -1)
                out = model(input_ids=tokens, use_cache=False, position_ids=places).logits[:, 3:]
            known = bool(torch.equal(out[0], out[1]))
            model.train(training)
        setattr(model, _PACKS, known)
    return bool(known)


def _unpacked(run: Callable[[Tensor], Tensor], tokens: Tensor, blocks: Tensor) -> Tensor:
    """Packed rows laid out as one row per example, for models that cannot keep packed examples apart."""
    positions = block_positions(blocks)
    example = (positions == 0).flatten().cumsum(0).view_as(positions) - 1
    count, longest = int(example.max()) + 1, int(positions.max()) + 1
    rows = tokens.new_zeros((count, longest))
    rows[example, positions] = tokens
    return run(rows)[example, positions]
