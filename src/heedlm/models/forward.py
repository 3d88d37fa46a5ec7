"""Forward passes: one way to ask a model for logits or scores, whichever side the padding is on.

Padding is described by masks and lengths only, never by comparing token ids, so a tokenizer without a padding
token (or one whose padding token is its EOS) behaves like any other.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from heedlm.ops.shapes import Bool, Float, Int

_PACKS = "_heed_packs"


def logits(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"] | None = None,
    positions: Int[Tensor, "B T"] | None = None,
    blocks: Int[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T V"]:
    """Next-token logits of a causal model: `[:, t]` predicts token t + 1.

    Args:
        model: A causal language model.
        tokens: Token ids; any valid id serves as padding.
        mask: True at real tokens. Right-padded rows need none: causal attention never looks at what follows.
            With padding on the left (or anywhere else) position ids are counted from the mask.
        positions: Position ids, where they differ from what the mask or the blocks say.
        blocks: Number of the packed example that each token belongs to. A token attends only to earlier
            tokens of its own example, and each example's positions start at 0: the logits are those of
            separate rows.

    Values at padding are finite but mean nothing.
    """
    if blocks is not None and not _packs(model):
        return _unpacked(model, tokens, blocks)
    extra = _arguments(tokens, mask, positions, blocks)
    out: Tensor = model(input_ids=tokens, use_cache=False, **extra).logits
    return out


def token_scores(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"] | None = None,
    position_ids: Int[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T"]:
    """The scalar head's output at every token, in reward units (`gain · head + bias`, see `calibrate`).

    A reward model's reward is the value at the last real token; a critic's value at t is that of the state
    after token t, which predicts token t + 1. Padding is treated as in `logits`.
    """
    extra = _arguments(tokens, mask, position_ids, None)
    held: Any = model
    hidden = held.base_model(input_ids=tokens, use_cache=False, **extra).last_hidden_state
    scores: Tensor = held.score(hidden).squeeze(-1)
    gain, bias = calibration(model)
    return scores if (gain, bias) == (1.0, 0.0) else scores * gain + bias


def reward_scores(
    model: nn.Module, tokens: Int[Tensor, "B T"], lengths: Int[Tensor, "B"]
) -> Float[Tensor, "B"]:
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
    """Set the affine map from head output to reward (METHODS 3.3); it is saved in the model's config."""
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


def _arguments(
    tokens: Tensor, mask: Tensor | None, positions: Tensor | None, blocks: Tensor | None
) -> dict[str, Tensor]:
    """What to pass to a transformers model beside the tokens.

    Restarting position ids without any mask is how transformers recognises packed rows; it then builds the
    block-diagonal mask for whichever kind of attention each layer has.
    """
    if blocks is not None:
        return {"position_ids": block_positions(blocks) if positions is None else positions}
    if mask is not None and not _right_padded(mask):
        return {
            "attention_mask": mask.long(),
            "position_ids": positions_of(mask) if positions is None else positions,
        }
    return {} if positions is None else {"position_ids": positions}


def _right_padded(mask: Tensor) -> bool:
    """True if no real token follows padding, so that plain causal attention is already right."""
    return not bool((mask[:, 1:] & ~mask[:, :-1]).any())


def _packs(model: nn.Module) -> bool:
    """Whether this model keeps packed examples apart, tried once per model on a row of six tokens."""
    known = getattr(model, _PACKS, None)
    if known is None:
        training = model.training
        model.train(False)
        with torch.no_grad():
            device = tensor_device(model)
            tokens = torch.tensor([[1, 2, 0, 2, 1, 0]], device=device)
            blocks = torch.tensor([[0, 0, 0, 1, 1, 1]], device=device)
            packed = model(input_ids=tokens, use_cache=False, position_ids=block_positions(blocks)).logits
            alone = model(input_ids=tokens[:, 3:], use_cache=False).logits
            scale = alone.float().abs().max().clamp(min=1e-6)
            known = bool((packed[:, 3:] - alone).float().abs().max() <= 0.02 * scale)
        model.train(training)
        setattr(model, _PACKS, known)
    return bool(known)


def _unpacked(model: nn.Module, tokens: Tensor, blocks: Tensor) -> Tensor:
    """Packed rows laid out as one row per example, for models that cannot keep packed examples apart."""
    positions = block_positions(blocks)
    example = (positions == 0).flatten().cumsum(0).view_as(positions) - 1
    count, longest = int(example.max()) + 1, int(positions.max()) + 1
    rows = tokens.new_zeros((count, longest))
    rows[example, positions] = tokens
    return logits(model, rows)[example, positions]
