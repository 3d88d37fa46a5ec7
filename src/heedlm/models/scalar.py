"""Reward models and critics: a causal trunk with one linear output in place of the vocabulary."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from heedlm.errors import BadInput
from heedlm.models.folder import one_line
from heedlm.models.forward import reward_scores as reward_scores
from heedlm.models.forward import token_scores as token_scores
from heedlm.models.load import ScalarModel, load_model, load_reward


def new_reward(policy: str | Path | PreTrainedModel, *, seed: int = 0) -> ScalarModel:
    """A reward model whose trunk is a copy of the policy's and whose head is N(0, 1/√(d+1)), without bias.

    Args:
        policy: A causal model or the folder of one; it is not changed.
        seed: Decides the head; the global random state is left alone.

    Raises:
        BadInput: transformers has no sequence-classification form of this architecture.

    Source: docs/methods.md §3.1 (Ziegler et al. 2019, Stiennon et al. 2020).
    """
    model = policy if isinstance(policy, PreTrainedModel) else load_model(policy)
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    config.heed = {"gain": 1.0, "bias": 0.0}
    weight = next(model.parameters())
    try:
        with torch.random.fork_rng(devices=[weight.device] if weight.is_cuda else []), torch.device(weight.device):
            auto: Any = AutoModelForSequenceClassification
            scalar = auto.from_config(config, dtype=weight.dtype, attn_implementation=model.config._attn_implementation)
        scalar.base_model.load_state_dict(model.base_model.state_dict())
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{type(model).__name__} cannot become a reward model: {one_line(error)}") from error
    if not isinstance(getattr(scalar, "score", None), torch.nn.Linear):
        raise BadInput(f"{type(scalar).__name__} has no linear `score` head: use another architecture")
    fresh = _placed(scalar, weight)
    # Rotary frequencies are in no state, and their last digits depend on where they were computed.
    for name, buffer in model.base_model.named_buffers():
        parent, _, last = name.rpartition(".")
        setattr(fresh.base_model.get_submodule(parent), last, buffer.clone())
    init_head(fresh, seed)
    return fresh


def init_head(model: ScalarModel, seed: int) -> None:
    """Draw the head's weights from N(0, 1/√(d+1)), d the trunk's width."""
    weight = model.score.weight  # type: ignore[union-attr]
    assert isinstance(weight, torch.Tensor)
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        weight.copy_(noise / (weight.shape[1] + 1) ** 0.5)


def new_critic(reward: str | Path | ScalarModel) -> ScalarModel:
    """A critic that starts as an independent copy of the reward model, calibration included.

    Its values are therefore in the reward's units from the first step (docs/methods.md §4.1).
    """
    model = reward if isinstance(reward, PreTrainedModel) else load_reward(reward)
    return copy.deepcopy(model)


def fresh_weights(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A causal model of the same architecture with weights drawn anew, for comparison with trained ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh: PreTrainedModel = type(model)(copy.deepcopy(model.config))
    weight = next(model.parameters())
    return _placed(fresh, weight)


def _placed(model: Any, like: torch.Tensor) -> PreTrainedModel:
    """The model in eval mode, with the dtype and on the device of a tensor."""
    placed: PreTrainedModel = model.to(dtype=like.dtype, device=like.device).train(False)
    return placed
