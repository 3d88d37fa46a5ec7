"""The same numbers and gradients as PyTorch's and transformers' own functions, and as loops over the formulas."""

import math

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from heedlm.objectives import BradleyTerry, Ppo, Sft, ranked_batch
from heedlm.ops.kl import k1, k2, k3
from heedlm.ops.logprobs import entropy, token_logps
from heedlm.ops.masked import masked_whiten
from heedlm.ops.sampling import sample, warp

TIGHT = {"atol": 1e-12, "rtol": 1e-10}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, 37, (4, 12), generator=generator)
    mask = torch.rand(4, 12, generator=generator) < 0.5
    mask[:, 0] = False
    return tokens, mask


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_sft_is_the_loss_of_transformers(model, batch):
    tokens, mask = batch
    theirs = model(input_ids=tokens, labels=tokens.masked_fill(~mask, -100)).loss  # in float32, always
    wanted = gradients(model, theirs)
    ours = Sft()(token_logps(model(input_ids=tokens).logits, tokens), mask).mean()
    torch.testing.assert_close(ours.float(), theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradients(model, ours), wanted, atol=1e-6, rtol=1e-4)


def test_sft_is_torchs_cross_entropy(model, batch):
    tokens, mask = batch
    labels = tokens.masked_fill(~mask, -100)[:, 1:]
    theirs = functional.cross_entropy(model(input_ids=tokens).logits[:, :-1].transpose(1, 2), labels)
    wanted = gradients(model, theirs)
    ours = Sft()(token_logps(model(input_ids=tokens).logits, tokens), mask).mean()
    torch.testing.assert_close(ours, theirs, **TIGHT)
    torch.testing.assert_close(gradients(model, ours), wanted, **TIGHT)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_logps_and_entropy_are_those_of_a_categorical_distribution(model, batch, temperature):
    tokens, _ = batch
    with torch.no_grad():
        logits = model(input_ids=tokens).logits
    theirs = torch.distributions.Categorical(logits=logits[:, :-1] / temperature)
    torch.testing.assert_close(token_logps(logits, tokens, temperature)[:, 1:], theirs.log_prob(tokens[:, 1:]), **TIGHT)
    torch.testing.assert_close(entropy(logits, temperature)[:, 1:], theirs.entropy(), **TIGHT)


def test_logps_do_not_depend_on_what_follows_or_on_the_batch(model, batch):
    tokens, _ = batch
    with torch.no_grad():
        whole = token_logps(model(input_ids=tokens).logits, tokens)
        for row in range(4):
            for length in (5, 9):
                part = tokens[row : row + 1, :length]
                alone = token_logps(model(input_ids=part).logits, part)
                torch.testing.assert_close(alone[0], whole[row, :length], atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, 0, 1.0), (1.0, 5, 1.0), (1.0, 0, 0.8), (1.3, 9, 0.6), (0.5, 3, 0.95)]
)
def test_warping_is_that_of_transformers(temperature, top_k, top_p):
    logits = 3 * torch.randn(50, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    theirs = logits
    warpers = [TemperatureLogitsWarper(temperature)] if temperature != 1 else []
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    for warper in warpers:
        theirs = warper(None, theirs)
    ours = warp(logits, temperature, top_k, top_p)
    torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1), **TIGHT)
    _, logps = sample(logits, torch.Generator().manual_seed(3), temperature, top_k, top_p)
    tokens, _ = sample(logits, torch.Generator().manual_seed(3), temperature, top_k, top_p)
    torch.testing.assert_close(logps, theirs.log_softmax(-1).gather(1, tokens[:, None])[:, 0], **TIGHT)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_pairs_are_binary_cross_entropy(smoothing):
    scores = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    ours = BradleyTerry(label_smoothing=smoothing)(scores, ranked_batch([[1, 2]] * 10)).mean()
    theirs = functional.binary_cross_entropy_with_logits(
        scores[::2] - scores[1::2], torch.full((10,), 1 - smoothing, dtype=torch.float64)
    )
    torch.testing.assert_close(ours, theirs, **TIGHT)
    torch.testing.assert_close(torch.autograd.grad(ours, scores)[0], torch.autograd.grad(theirs, scores)[0], **TIGHT)


def test_two_answers_under_bradley_terry_are_a_softmax():
    scores = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    ours = BradleyTerry()(scores.flatten(), ranked_batch([[2, 1]] * 6)).mean()
    theirs = functional.cross_entropy(scores, torch.ones(6, dtype=torch.long))
    torch.testing.assert_close(ours, theirs, **TIGHT)


def test_kl_estimates_average_to_torchs_kl():
    generator = torch.Generator().manual_seed(6)
    policy, ref = torch.randn(2, 8, 30, dtype=torch.float64, generator=generator).log_softmax(-1)
    theirs = functional.kl_div(ref, policy, log_target=True, reduction="none").sum(-1)
    for estimate in (k1, k3):
        torch.testing.assert_close((policy.exp() * estimate(policy, ref)).sum(-1), theirs, **TIGHT)
    near = policy + 1e-3 * torch.randn(8, 30, dtype=torch.float64, generator=generator)
    near = near.log_softmax(-1)
    small = functional.kl_div(near, policy, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close((policy.exp() * k2(policy, near)).sum(-1), small, atol=1e-9, rtol=0.02)


def test_whitening_is_layer_norm_over_the_batch():
    x = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    theirs = functional.layer_norm(x, (5, 7), eps=1e-8)
    torch.testing.assert_close(masked_whiten(x, torch.ones(5, 7, dtype=torch.bool)), theirs, **TIGHT)


@pytest.mark.parametrize("clip", [0.05, 0.2, 1.5])
def test_ppo_is_a_loop_over_its_formulas(clip):
    generator = torch.Generator().manual_seed(8)
    new, old, advantages = torch.randn(3, 3, 6, dtype=torch.float64, generator=generator)
    values, old_values, returns = torch.randn(3, 3, 6, dtype=torch.float64, generator=generator)
    mask = torch.rand(3, 6, generator=generator) < 0.6
    policy = value = kl = 0.0
    clipped = count = 0
    for b in range(3):
        for t in range(6):
            if not mask[b, t]:
                continue
            count += 1
            ratio, a = math.exp(float(new[b, t]) - float(old[b, t])), float(advantages[b, t])
            bounded = min(max(ratio, 1 - clip), 1 + clip)
            policy -= min(ratio * a, bounded * a)
            clipped += bounded * a < ratio * a
            kl += ratio - 1 - math.log(ratio)
            v, v_old, r = float(values[b, t]), float(old_values[b, t]), float(returns[b, t])
            value += max((v - r) ** 2, (v_old + min(max(v - v_old, -clip), clip) - r) ** 2) / 2
    objective = Ppo(clip=clip, value_clip=clip)
    loss = objective.policy(new, old, advantages, mask)
    assert float(loss.mean()) == pytest.approx(policy / count, abs=1e-12)
    assert float(loss.metrics["clip_fraction"]) == pytest.approx(clipped / count, abs=1e-12)
    assert float(loss.metrics["approx_kl"]) == pytest.approx(kl / count, abs=1e-12)
    found = objective.value(values, old_values, returns, mask)
    assert float(found.mean()) == pytest.approx(value / count, abs=1e-12)


def test_an_unclipped_ppo_step_is_the_policy_gradient(model, batch):
    """At ratio 1 the surrogate's gradient is that of the advantage-weighted log-likelihood, for a whole model."""
    tokens, mask = batch
    advantages = torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    logps = token_logps(model(input_ids=tokens).logits, tokens)
    loss = Ppo().policy(logps, logps.detach(), advantages, mask)
    assert loss.metrics["ratio"] == 1
    assert loss.metrics["approx_kl"] == loss.metrics["clip_fraction"] == 0
    ours = gradients(model, loss.mean())
    logps = token_logps(model(input_ids=tokens).logits, tokens)
    wanted = gradients(model, -(logps * advantages)[mask].mean())
    torch.testing.assert_close(ours, wanted, **TIGHT)
