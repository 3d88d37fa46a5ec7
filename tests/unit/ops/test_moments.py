"""Running moments (N11) and reference normalisation (N6)."""

import json
import math

import pytest
import torch

from heedlm.errors import NotFinite
from heedlm.ops.moments import RunningMoments, reference_affine


def test_n11(f64, near):
    moments = RunningMoments()
    moments.update(f64(1, 2, 3, 4))
    near([moments.mean, moments.std], [2.5, math.sqrt((2.25 + 0.25 + 0.25 + 2.25) / 3)])
    near(moments.std, 1.290994)
    moments.update(f64(2, 8))
    # All six: mean 20/6; squares 98 − 6·(20/6)² = 31.333333, over 5.
    near([moments.mean, moments.std], [20 / 6, math.sqrt((98 - 400 / 6) / 5)])
    near([moments.mean, moments.std], [3.333333, 2.503331])
    near(moments.normalise(f64(8)), [(8 - 20 / 6) / 2.503331114])
    near(moments.normalise(f64(8)), [1.864183])
    near(moments.normalise(f64(8), clip=0.8), [0.8])
    near(moments.normalise(f64(-8), clip=0.8), [-0.8])
    near(moments.scale(f64(8)), [3.195742])
    near(moments.scale(f64(8), clip=2.0), [2.0])


def test_batches_in_any_size_give_the_moments_of_the_whole(near):
    torch.manual_seed(0)
    x = 1e4 + torch.randn(1000, dtype=torch.float64)
    moments = RunningMoments()
    for part in x.split([1, 7, 0, 500, 492]):
        moments.update(part)
    near(moments.count, 1000.0)
    near(moments.mean, x.mean(), tol=1e-12)
    near(moments.std, x.std(), tol=1e-9)


def test_a_mask_chooses(f64, near):
    moments = RunningMoments()
    moments.update(f64([1.0, math.nan], [3.0, 9.0]), torch.tensor([[True, False], [True, False]]))
    near([moments.count, moments.mean, moments.std], [2.0, 2.0, math.sqrt(2)])


def test_nothing_yet_one_number_and_a_constant_batch(f64, near):
    moments = RunningMoments()
    near(moments.normalise(f64(3.0)), [3.0])
    moments.update(f64(5.0))
    near(moments.normalise(f64(5.0, 6.0)), [0.0, 1.0])  # one number has no spread to divide by
    moments.update(f64(5.0, 5.0))
    assert moments.std == 0
    near(moments.normalise(f64(5.0, 6.0)), [0.0, 1.0])
    near(moments.scale(f64(5.0)), [5.0])


def test_resumed_moments_go_on_exactly(f64):
    first = RunningMoments()
    first.update(f64(0.1, 0.7, -2.3))
    second = RunningMoments()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for moments in (first, second):
        moments.update(f64(1.1, 0.3))
    assert first.state_dict() == second.state_dict()


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_broken_numbers_are_refused_and_leave_no_trace(wrong, f64):
    moments = RunningMoments()
    moments.update(f64(1.0, 2.0))
    before = moments.state_dict()
    with pytest.raises(NotFinite):
        moments.update(f64(1.0, wrong))
    assert moments.state_dict() == before
    with pytest.raises(NotFinite):
        reference_affine(f64(1.0, wrong))


def test_n6(f64, near):
    scores = f64(0.4, 1.0, -0.2, 0.8)
    # Mean 2/4; population variance (.01 + .25 + .49 + .09)/4 = .21.
    near(reference_affine(scores, std=None), [1.0, -0.5])
    gain, bias = reference_affine(scores)
    near([gain, bias], [1 / math.sqrt(0.21), -0.5 / math.sqrt(0.21)])
    near([gain, bias], [2.182179, -1.091089])
    normalised = gain * scores + bias
    near([normalised.mean(), normalised.std(correction=0)], [0.0, 1.0])


def test_any_target_is_met(f64, near):
    scores = f64(3.0, 9.0, 5.0)
    gain, bias = reference_affine(scores, mean=-2.0, std=0.5)
    normalised = gain * scores + bias
    near([normalised.mean(), normalised.std(correction=0)], [-2.0, 0.5])


def test_constant_scores_keep_their_scale(f64, near):
    near(reference_affine(f64(3.0, 3.0)), [1.0, -3.0])
    near(reference_affine(f64(3.0)), [1.0, -3.0])
    with pytest.raises(ValueError, match="no reference scores"):
        reference_affine(torch.zeros(0))
