from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit import devices
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from heedlm.models import (
    calibrate,
    calibration,
    create,
    load_reward,
    new_critic,
    new_reward,
    reward_scores,
    save_model,
    scalar,
    token_scores,
    weights_hash,
)
from heedlm.models.scalar import fresh_weights

Tiny = Callable[[str], PreTrainedModel]
TOKENS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
LENGTHS = torch.tensor([4, 2])


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "mistral", "bloom"])
def test_the_trunk_is_the_policys_and_the_head_is_fresh(tiny: Tiny, kind: str) -> None:
    policy = tiny(kind)
    before = weights_hash(policy)
    reward = new_reward(policy)
    assert weights_hash(reward.base_model) == weights_hash(policy.base_model)
    assert weights_hash(policy) == before
    assert reward.score.bias is None
    assert tuple(reward.score.weight.shape) == (1, 32)
    assert reward.score.weight.dtype == torch.float64
    with torch.no_grad():
        reward.get_input_embeddings().weight.zero_()
    assert weights_hash(policy) == before


def test_the_head_has_the_papers_spread(trained: PreTrainedTokenizerFast) -> None:
    policy = create("large", trained)
    heads = torch.cat([new_reward(policy, seed=s).score.weight.detach().flatten() for s in range(8)])
    assert abs(heads.std().item() * (384 + 1) ** 0.5 - 1) < 0.05
    assert abs(heads.mean().item()) < 0.005


def test_the_head_depends_on_its_seed_alone(tiny: Tiny) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one = new_reward(tiny("llama"), seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert weights_hash(one) == weights_hash(new_reward(tiny("llama"), seed=3))
    assert weights_hash(one) != weights_hash(new_reward(tiny("llama"), seed=4))


def test_scores_and_calibration_survive_saving(tiny: Tiny, tmp_path: Path, trained: PreTrainedTokenizerFast) -> None:
    reward = new_reward(tiny("gpt2"))
    calibrate(reward, gain=2.5, bias=-0.75)
    save_model(reward, trained, tmp_path / "reward")
    again = load_reward(tmp_path / "reward", dtype="float64")
    assert calibration(again) == (2.5, -0.75)
    assert weights_hash(again) == weights_hash(reward)
    with torch.no_grad():
        assert torch.equal(reward_scores(again, TOKENS, LENGTHS), reward_scores(reward, TOKENS, LENGTHS))


def test_a_critic_starts_as_the_reward_model_and_leaves_it_alone(tiny: Tiny) -> None:
    reward = new_reward(tiny("llama"))
    calibrate(reward, gain=2.0, bias=1.0)
    before = weights_hash(reward)
    critic = new_critic(reward)
    with torch.no_grad():
        assert torch.equal(token_scores(critic, TOKENS), token_scores(reward, TOKENS))
    critic.train()
    optimiser = torch.optim.SGD(critic.parameters(), lr=0.1)
    token_scores(critic, TOKENS).square().sum().backward()
    optimiser.step()
    calibrate(critic, gain=1.0)
    assert weights_hash(critic) != before
    assert weights_hash(reward) == before
    assert calibration(reward) == (2.0, 1.0)


def test_fresh_weights_keep_the_shape_only(tiny: Tiny) -> None:
    model = tiny("llama")
    fresh = fresh_weights(model, seed=1)
    assert fresh.config.to_dict() == model.config.to_dict()
    assert {p.dtype for p in fresh.parameters()} == {torch.float64}
    assert weights_hash(fresh) == weights_hash(fresh_weights(model, seed=1))
    assert weights_hash(fresh) != weights_hash(model)


def test_it_is_made_where_the_policy_is_and_has_its_buffers(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny("llama").bfloat16()
    frequencies = torch.rand(4) + 1
    policy.model.rotary_emb.inv_freq = frequencies.clone()
    made: list[set[tuple[torch.device, torch.dtype]]] = []
    auto = scalar.AutoModelForSequenceClassification
    real = auto.from_config

    def watched(*args: Any, **options: Any) -> Any:
        model = real(*args, **options)
        made.append({(weight.device, weight.dtype) for weight in model.parameters()})
        return model

    monkeypatch.setattr(auto, "from_config", watched)
    with devices.pretended(monkeypatch) as device:
        reward = new_reward(policy.to(device))
        assert made == [{(device, torch.bfloat16)}]
        assert {weight.device for weight in reward.parameters()} == {device}
        assert torch.equal(devices.here(reward.base_model.rotary_emb.inv_freq), frequencies)
    here = new_reward(tiny("llama").bfloat16())
    assert torch.equal(devices.here(reward.score.weight), here.score.weight)
