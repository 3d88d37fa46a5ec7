"""Norms in one walk beside transformers' own."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from heedlm.models import norms
from heedlm.models.forward import compute_in, packs, sequence_logps
from heedlm.models.norms import Quick, behind, quicken
from heedlm.models.packed import pack_sequences
from heedlm.ops import kernels
from heedlm.rollout.weights import why_not

Tiny = Callable[[str], PreTrainedModel]
QUICK = ["llama", "mistral", "qwen2"]
SEQUENCES = [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11, 12, 13, 14]]


@pytest.fixture(autouse=True)
def _loops() -> None:
    if kernels.loops(torch.float32) is None:
        pytest.skip("no C compiler that makes the loops")


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    packed = pack_sequences(SEQUENCES)
    model.zero_grad()
    logps = sequence_logps(model, packed, packed.own[packed.before[packed.own] != packed.own])
    logps.sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"logps": logps.detach(), **found}


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize(("dtype", "close"), [(None, 1e-4), (torch.bfloat16, 0.05)])
def test_log_probs_and_gradients_are_those_of_the_plain_norms(
    tiny: Tiny, kind: str, dtype: torch.dtype | None, close: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(kind).float()
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    packs(model)
    compute_in(model, dtype)
    assert sum(isinstance(part, Quick) for part in model.modules()) == 2 * model.config.num_hidden_layers
    found = gradients(model)
    monkeypatch.setattr(norms, "loops", lambda dtype: None)
    wanted = gradients(model)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        apart = (found[name] - value).norm() / value.norm().clamp(min=1e-6)
        assert apart < close, (name, float(apart))


def test_it_stays_the_model_it_was(tiny: Tiny) -> None:
    model = tiny("llama")
    names, plain = list(model.state_dict()), type(model.model.norm)
    packs(model)
    quicken(model)  # once more changes nothing
    norm = model.model.layers[0].input_layernorm
    assert isinstance(norm, plain)
    assert behind(norm) is plain is behind(model.model.norm)
    assert behind(model.lm_head) is torch.nn.Linear
    assert list(model.state_dict()) == names
    assert why_not(model) is None
    other = copy.deepcopy(model)
    other.model.layers[0].input_layernorm.weight.data.zero_()
    assert bool(norm.weight.any())


def test_other_models_and_other_precisions_are_left_alone(tiny: Tiny) -> None:
    other = tiny("gpt2")
    packs(other)
    assert not any(isinstance(part, Quick) for part in other.modules())
    model = tiny("llama").double()
    packs(model)
    rows = torch.randn(3, model.config.hidden_size, dtype=torch.float64)
    norm = model.model.layers[0].input_layernorm
    assert torch.equal(norm(rows), behind(norm).forward(norm, rows))
