"""Masked statistics: worked values, empty masks, constant batches, NaN in the padding."""

import math

import pytest
import torch

from heedlm.ops.masked import masked_mean, masked_sum, masked_whiten


def test_sum_and_mean_see_the_true_cells_only(f64, near):
    x, mask = f64([1.0, 2.0, math.nan], [4.0, math.inf, 8.0]), torch.tensor([[1, 1, 0], [1, 0, 1]]).bool()
    near(masked_sum(x, mask), 15.0)
    near(masked_mean(x, mask), 15 / 4)
    near(masked_sum(x, mask, dim=1), [3.0, 12.0])
    near(masked_mean(x, mask, dim=1), [1.5, 6.0])
    near(masked_mean(x, mask, dim=0), [2.5, 2.0, 8.0])


def test_an_empty_mask_gives_zero(f64, near):
    x, mask = f64([1.0, 2.0], [3.0, 4.0]), torch.tensor([[False, False], [True, True]])
    near(masked_mean(x, torch.zeros_like(mask)), 0.0)
    near(masked_mean(x, mask, dim=1), [0.0, 3.5])
    near(masked_whiten(x, torch.zeros_like(mask)), torch.zeros(2, 2))


def test_whitened_n8(f64, near):
    # N8's advantages: mean 1.056019, population variance .060144 (before 1e-8 is added).
    x = f64(1.151364, 1.011963, 1.375750, 0.685)
    mean = (1.151364 + 1.011963 + 1.375750 + 0.685) / 4
    variance = sum((float(v) - mean) ** 2 for v in x) / 4
    expected = [(float(v) - mean) / math.sqrt(variance + 1e-8) for v in x]
    found = masked_whiten(x, torch.ones(4, dtype=torch.bool))
    near(found, expected)
    near(found, [0.380685, -0.175905, 1.276590, -1.481369], tol=3e-6)  # the inputs above are rounded


def test_whitening_keeps_the_mean_if_told_to(f64, near):
    x, mask = f64(1.0, 3.0, 99.0), torch.tensor([True, True, False])
    near(masked_whiten(x, mask), [-1.0, 1.0, 0.0])
    near(masked_whiten(x, mask, keep_mean=True), [1.0, 3.0, 0.0])
    near(masked_whiten(2 * x, mask, keep_mean=True), [3.0, 5.0, 0.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whitening_survives_one_cell_and_a_constant_batch(dtype, near):
    near(masked_whiten(torch.tensor([7.0], dtype=dtype), torch.tensor([True])), [0.0])
    near(masked_whiten(torch.full((4,), 3.0, dtype=dtype), torch.ones(4).bool()), [0.0] * 4)
    near(masked_whiten(torch.full((4,), 3.0, dtype=dtype), torch.ones(4).bool(), keep_mean=True), [3.0] * 4)


def test_padding_leaves_no_nan_in_the_gradient():
    x = torch.tensor([1.0, 2.0, 3.0, math.nan], requires_grad=True)
    mask = torch.tensor([True, True, True, False])
    (masked_whiten(x, mask) * torch.arange(4.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[3] == 0


def test_many_bfloat16_numbers_are_summed_in_float32(near):
    x = torch.full((10_000,), 1.0, dtype=torch.bfloat16)
    near(masked_sum(x, torch.ones(10_000).bool()), 10_000.0)
