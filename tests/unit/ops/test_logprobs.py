"""Log-probabilities and entropies against definitions written out."""

import math
from types import SimpleNamespace

import pytest
import torch
from tests.unit import devices

from heedlm.ops import logprobs
from heedlm.ops.logprobs import entropy, token_logps


def test_each_logp_belongs_to_its_own_token(f64, near):
    # Position 0 predicts token 1 with odds 1 : 2 : 5, position 1 predicts token 2 with odds 1 : 1 : 2.
    logits = f64([[0.0, math.log(2), math.log(5)], [0.0, 0.0, math.log(2)], [9.0, -9.0, 3.0]])
    near(token_logps(logits, torch.tensor([[1, 2, 0]])), [[0.0, math.log(5 / 8), math.log(1 / 4)]])


def test_temperature_divides_the_logits(f64, near):
    # At temperature 0.5 the odds 1 : 2 : 5 are squared: 1 : 4 : 25 of 30.
    logits = f64([[0.0, math.log(2), math.log(5)], [0.0, 0.0, 0.0]])
    near(token_logps(logits, torch.tensor([[0, 1]]), 0.5), [[0.0, math.log(4 / 30)]])


def test_equals_a_full_log_softmax(near):
    torch.manual_seed(0)
    logits, tokens = 5 * torch.randn(3, 7, 11, dtype=torch.float64), torch.randint(0, 11, (3, 7))
    plain = torch.zeros(3, 7, dtype=torch.float64)
    for b in range(3):
        for t in range(1, 7):
            plain[b, t] = torch.log_softmax(logits[b, t - 1] / 0.7, -1)[tokens[b, t]]
    near(token_logps(logits, tokens, 0.7), plain, tol=1e-12)


@pytest.mark.parametrize("block", [1, 7, 30, 100, 10_000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_size_of_a_block_changes_nothing(block, temperature, monkeypatch):
    torch.manual_seed(3)
    logits = torch.randn(4, 6, 5, dtype=torch.float64, requires_grad=True)
    tokens, weight = torch.randint(0, 5, (4, 6)), torch.randn(4, 6, dtype=torch.float64)
    monkeypatch.setattr(logprobs, "_CPU_BLOCK", block)
    found = token_logps(logits, tokens, temperature)
    (gradient,) = torch.autograd.grad((found * weight).sum(), logits)
    shifted = (logits[:, :-1] / temperature).log_softmax(-1)
    plain = shifted.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    (wanted,) = torch.autograd.grad((plain * weight[:, 1:]).sum(), logits)
    torch.testing.assert_close(found[:, 1:], plain, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(gradient, wanted, atol=1e-12, rtol=1e-12)


def test_gradient_is_that_of_the_definition():
    torch.manual_seed(1)
    logits = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    tokens = torch.randint(0, 5, (2, 4))
    assert torch.autograd.gradcheck(lambda x: token_logps(x, tokens, 0.8), (logits,))
    assert torch.autograd.gradcheck(lambda x: entropy(x, 0.8), (logits,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_summed_in_float32(dtype, near):
    torch.manual_seed(2)
    logits, tokens = (3 * torch.randn(2, 5, 50)).to(dtype), torch.randint(0, 50, (2, 5))
    found = token_logps(logits, tokens)
    assert found.dtype == torch.float32
    near(found, token_logps(logits.double(), tokens), tol=1e-5)


def test_low_precision_gradient_has_the_logits_type():
    logits = torch.randn(2, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    token_logps(logits, torch.zeros(2, 3, dtype=torch.long)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16
    assert logits.grad[:, -1].eq(0).all()  # the last position predicts nothing


def test_no_gradient_and_no_error_where_none_is_wanted():
    with torch.no_grad():
        assert not token_logps(torch.randn(1, 3, 4), torch.zeros(1, 3, dtype=torch.long)).requires_grad


def test_one_token_has_no_logp(near):
    near(token_logps(torch.randn(2, 1, 4), torch.zeros(2, 1, dtype=torch.long)), torch.zeros(2, 1))
    near(entropy(torch.randn(2, 1, 4)), torch.zeros(2, 1))


def test_entropy_is_aligned_with_the_token_it_was_drawn_for(f64, near):
    # Odds 1 : 1 : 2 → ½·log 2 + ½·log 4; uniform over 3 → log 3.
    logits = f64([[0.0, 0.0, math.log(2)], [7.0, 7.0, 7.0], [1.0, 2.0, 3.0]])
    near(entropy(logits), [[0.0, 0.25 * math.log(4) * 2 + 0.5 * math.log(2), math.log(3)]])


def test_excluded_tokens_add_no_entropy_and_no_nan(f64, near):
    logits = f64([[0.0, -math.inf, 0.0], [0.0, 0.0, 0.0]]).requires_grad_()
    spread = entropy(logits)
    near(spread, [[0.0, math.log(2)]])
    spread.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_without_log_probabilities_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        token_logps(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long), temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        entropy(torch.zeros(1, 2, 3), temperature)


# ---------------------------------------------------------------- straight from hidden states


def test_a_frozen_head_gets_no_gradient_and_the_states_the_same():
    torch.manual_seed(4)
    hidden, weight, bias = torch.randn(7, 3), torch.randn(5, 3), torch.randn(5)
    targets, grad = torch.randint(0, 5, (7,)), torch.randn(7)

    def backward(*wanted):
        saved = {"saved_tensors": (hidden, weight, bias, targets), "temperature": 0.7}
        context = SimpleNamespace(**saved, needs_input_grad=(True, *wanted, False, False))
        return logprobs._HeadLogps.backward(context, grad)[:3]

    everything, frozen, biased = backward(True, True), backward(False, False), backward(False, True)
    assert frozen[1] is frozen[2] is biased[1] is None
    assert torch.equal(frozen[0], everything[0])
    assert torch.equal(biased[2], everything[2])
    assert everything[1].shape == weight.shape


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kept", [0, 2**25])
def test_gradients_of_the_head_are_those_of_the_definition(monkeypatch, frozen, kept):
    monkeypatch.setattr(logprobs, "_KEPT", kept)
    monkeypatch.setattr(logprobs, "_head_blocks", lambda hidden, weight: [slice(0, 3), slice(3, 7)])
    torch.manual_seed(4)
    hidden, weight, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((7, 3), (5, 3), (5,)))
    inputs = [hidden.requires_grad_(), weight.requires_grad_(not frozen), bias.requires_grad_(not frozen)]
    targets = torch.randint(0, 5, (7,))
    logprobs.head_logps(hidden, weight, targets, 0.7, bias).sum().backward()
    found = [x.grad for x in inputs]
    for x in inputs:
        x.grad = None
    plain = ((hidden @ weight.T + bias) / 0.7).log_softmax(-1).gather(-1, targets[:, None])
    plain.sum().backward()
    for ours, other in zip(found, [x.grad for x in inputs], strict=True):
        if other is None:
            assert ours is None
        else:
            torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("most", "needed", "saved"), [(35, True, 6), (34, True, 4), (35, False, 4)])
def test_few_logits_are_kept_and_many_are_not(monkeypatch, most, needed, saved):
    monkeypatch.setattr(logprobs, "_KEPT", most)
    monkeypatch.setattr(logprobs, "_head_blocks", lambda hidden, weight: [slice(0, 3), slice(3, 7)])
    seen = []
    monkeypatch.setattr(
        torch.autograd.function.FunctionCtx, "save_for_backward", lambda self, *tensors: seen.append(len(tensors))
    )
    with torch.set_grad_enabled(needed):
        hidden = torch.randn(7, 3).requires_grad_(needed)
        logprobs.head_logps(hidden, torch.randn(5, 3), torch.zeros(7, dtype=torch.long))
    assert seen == [saved]


def test_a_gpu_takes_more_rows_of_logits_at_once(monkeypatch):
    hidden, weight = torch.zeros(1500, 1), torch.zeros(2**17, 1)
    assert len(list(logprobs._head_blocks(hidden, weight))) == 12
    with devices.pretended(monkeypatch) as device:
        assert list(logprobs._head_blocks(hidden.to(device), weight)) == [slice(0, 1500)]


@pytest.mark.parametrize("block", [1, 2**20])
def test_log_probs_and_entropy_from_states_have_the_gradient_of_full_logits(near, monkeypatch, block):
    monkeypatch.setattr(logprobs, "_CPU_HEAD_BLOCK", block)
    monkeypatch.setattr(logprobs, "_head_blocks", lambda hidden, weight: [slice(0, 3), slice(3, 7)])
    torch.manual_seed(4)
    parts = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((7, 5), (11, 5), (11,))]
    hidden, weight, bias = parts
    targets, share = torch.randint(0, 11, (7,)), torch.randn(2, 7, dtype=torch.float64)
    found = logprobs.head_logps_and_entropy(hidden, weight, targets, 0.7, bias)
    (torch.stack(found) * share).sum().backward()
    gradients = [part.grad.clone() for part in parts]
    for part in parts:
        part.grad = None
    full = torch.log_softmax((hidden @ weight.T + bias) / 0.7, -1)
    plain = (full.gather(1, targets[:, None]).squeeze(1), -(full.exp() * full).sum(-1))
    (torch.stack(plain) * share).sum().backward()
    for one, two in zip(found, plain, strict=True):
        near(one, two, tol=1e-12)
    for gradient, part in zip(gradients, parts, strict=True):
        near(gradient, part.grad, tol=1e-12)
    near(logprobs.head_statistics(hidden, weight, targets, 0.7, bias)[1], plain[1].detach(), tol=1e-12)
