"""Objectives without a critic: what each method makes of rewards, and what its settings do to the loss."""

import pytest
import torch

from heedlm.objectives import Dapo, Dpo, DrGrpo, Grpo, Ipo, OnlineDpo, Ppo, ReinforcePp, Rloo, Simpo
from heedlm.ops.kl import k3
from heedlm.ops.types import PairLogps

# Four answers to one prompt, of 3, 1, 2 and 3 tokens after a prompt of one.
MASK = torch.tensor([[0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]], dtype=torch.bool)
SCORES = [1, 0, 0.5, 0.9]


def rewards(f64, kl=0.0):
    """The score on the last token, and −kl on every token."""
    found = torch.where(MASK, -kl, 0.0).double()
    found[torch.arange(4), [3, 1, 2, 3]] += f64(*SCORES)
    return found


def on_tokens(values):
    return torch.where(MASK, torch.as_tensor(values, dtype=torch.float64)[:, None], 0.0)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Rloo(), [0.533333, -0.8, -0.133333, 0.4]),
        (Grpo(), [0.879689, -1.319534, -0.219922, 0.659767]),
        (Grpo(deviation="population"), [1.016001, -1.524002, -0.254, 0.762001]),
        (Dapo(), [0.879689, -1.319534, -0.219922, 0.659767]),
        (DrGrpo(), [0.4, -0.6, -0.1, 0.3]),
        (OnlineDpo(), [1, -1, 0, 0]),
    ],
    ids=["rloo", "grpo", "grpo-population", "dapo", "dr_grpo", "online_dpo"],
)
def test_n13_on_every_token_of_an_answer(objective, expected, f64, near):
    near(objective.advantages(rewards(f64), MASK, 4), on_tokens(expected))


def test_kl_in_the_reward_is_an_answers_whole_kl(f64, near):
    """At 0.1 a token the answers are worth .7, −.1, .3 and .6."""
    found = Rloo().advantages(rewards(f64, 0.1), MASK, 4)
    near(found, on_tokens([0.7 - 0.8 / 3, -0.1 - 1.6 / 3, 0.3 - 1.2 / 3, 0.6 - 0.9 / 3]))


def test_reinforce_pp_whitens_rewards_to_go_over_the_buffer(f64, near):
    to_go = [0.7, 0.8, 0.9, -0.1, 0.3, 0.4, 0.6, 0.7, 0.8]  # token by token, −0.1 for each that follows and itself
    mean = sum(to_go) / 9
    deviation = (sum((x - mean) ** 2 for x in to_go) / 9) ** 0.5
    found = ReinforcePp().advantages(rewards(f64, 0.1), MASK, 1)
    near(found[MASK], [(x - mean) / deviation for x in to_go])
    assert not found[~MASK].any()
    near(float(found[MASK].mean()), 0.0)
    near(float(found[MASK].std(correction=0)), 1.0)
    based = ReinforcePp(baseline="mean").advantages(rewards(f64), MASK, 2)
    plain = torch.where(MASK, torch.tensor([0.5, -0.5, -0.2, 0.2], dtype=torch.float64)[:, None], 0.0)[MASK]
    near(based[MASK], (plain - plain.mean()) / plain.std(correction=0))


def test_rewards_alike_teach_nothing(f64):
    same = torch.where(MASK, 0.0, 0.0).double()
    same[torch.arange(4), [3, 1, 2, 3]] = 0.7
    for objective in (Rloo(), Grpo(), DrGrpo(), Dapo(), OnlineDpo()):
        assert objective.advantages(same, MASK, 4).abs().max() < 1e-9
    assert not OnlineDpo().advantages(same, MASK, 2).any()


# ---------------------------------------------------------------- averages, clips, KL


def loss_of(objective, f64, **more):
    """The loss where each token's is its answer's advantage, sign turned: ratio 1."""
    zero = torch.zeros(4, 4, dtype=torch.float64)
    return objective.policy(zero, zero, on_tokens([1, 2, 3, 4]), MASK, **more)


def test_what_weighs_the_same(f64, near):
    """Sums over tokens are 3, 2, 6 and 12; means 1, 2, 3 and 4."""
    tokens, answers = loss_of(Dapo(), f64), loss_of(Grpo(), f64)
    constant = loss_of(DrGrpo(), f64, room=8)
    near([tokens.mean(), answers.mean(), constant.mean()], [-23 / 9, -10 / 4, -23 / 32])
    assert [int(each.count) for each in (tokens, answers, constant)] == [9, 4, 4]
    assert [float(each.metrics["ratio"]) for each in (tokens, answers, constant)] == [1, 1, 1]
    near(loss_of(Ppo(), f64).mean(), -23 / 9)


def test_an_upper_clip_of_its_own():
    one = torch.ones(1, 1, dtype=torch.bool)

    def moves(objective, log_ratio, advantage):
        logps = torch.tensor([[log_ratio]], requires_grad=True)
        loss = objective.policy(logps, torch.zeros(1, 1), torch.tensor([[advantage]]), one)
        return bool(torch.autograd.grad(loss.mean(), logps)[0].abs().sum() > 0)

    # e^0.23 = 1.259, e^-0.23 = 0.795
    assert moves(Dapo(), 0.23, 1.0)
    assert not moves(Grpo(), 0.23, 1.0)
    assert not moves(Dapo(), 0.25, 1.0)
    assert not moves(Dapo(), -0.23, -1.0)
    assert moves(Dapo(), 0.5, -1.0)


def test_an_answers_ratio_is_one_number(f64, near):
    logps = torch.where(MASK, 0.05, 0.0).double().requires_grad_()
    loss = Rloo().policy(logps, torch.zeros_like(logps), on_tokens([1, 1, 1, 1]), MASK)
    ratios = [1.161834, 1.051271, 1.105171, 1.161834]  # e^.15, e^.05, e^.1, e^.15
    near(loss.values, [-r for r in ratios])
    (gradient,) = torch.autograd.grad(loss.values.sum(), logps)
    near(gradient, on_tokens([-r for r in ratios]))
    far = Rloo().policy(2 * logps, torch.zeros_like(logps), on_tokens([1, 1, 1, 1]), MASK)
    near(far.values, [-1.2, -1.105171, -1.2, -1.2])  # e^.3 and e^.2 are clipped
    near(far.metrics["clip_fraction"], 0.75)


def test_kl_in_the_loss_is_k3_and_only_where_it_is_wanted(f64, near):
    zero = torch.zeros(4, 4, dtype=torch.float64)
    ref = torch.full_like(zero, -0.2)
    known = {"ref": ref, "beta": 0.5}
    drift = float(k3(torch.tensor(0.0), torch.tensor(-0.2)))  # e^-.2 − 1 + .2 = .018731
    near(drift, 0.018731)
    near(loss_of(Grpo(), f64, **known).mean(), -2.5 + 0.5 * drift)
    near(loss_of(Grpo(), f64, **known).metrics["kl_loss"], drift)
    near(loss_of(Grpo(kl="reward"), f64, **known).mean(), -2.5)
    near(loss_of(Rloo(), f64, **known).mean(), -2.5)
    near(loss_of(Ppo(kl="loss"), f64, **known).mean(), -23 / 9 + 0.5 * drift)
    assert "kl_loss" not in loss_of(Grpo(), f64, ref=ref).metrics
    with pytest.raises(ValueError, match="needs the reference"):
        loss_of(Grpo(), f64, beta=0.5)


# ---------------------------------------------------------------- online DPO


@pytest.mark.parametrize("loss", [Dpo(), Dpo(beta=0.5, label_smoothing=0.1), Ipo(), Simpo()])
def test_online_dpo_is_the_pair_loss_on_the_best_and_the_worst(loss, near):
    torch.manual_seed(0)
    logps, ref = torch.randn(2, 4, 4, dtype=torch.float64)
    logps.requires_grad_()
    # The first pair has its better answer first, the second last.
    signs = on_tokens([1, -1, -1, 1])
    found = OnlineDpo(loss=loss).policy(logps, logps, signs, MASK, ref=ref)
    sums, base, lengths = (logps * MASK).sum(1), (ref * MASK).sum(1), MASK.sum(1)
    better, worse = [0, 3], [1, 2]
    pairs = (PairLogps(s[better], s[worse], lengths[better], lengths[worse]) for s in (sums, base))
    expected = loss(*pairs)
    near(found.values, expected.values, tol=1e-12)
    assert int(found.count) == int(expected.count) == 2
    assert found.metrics.keys() == expected.metrics.keys()
    gradient = torch.autograd.grad(found.mean(), logps)[0]
    near(gradient, torch.autograd.grad(expected.mean(), logps)[0], tol=1e-12)
    assert not gradient[~MASK].any()


def test_at_the_start_online_dpo_is_ln_2(near):
    logps = torch.randn(4, 4, dtype=torch.float64)
    near(OnlineDpo().policy(logps, logps, on_tokens([1, -1, -1, 1]), MASK, ref=logps).values, [0.693147] * 2)


def test_rows_that_are_no_pairs_are_refused(f64):
    logps = torch.zeros(4, 4, dtype=torch.float64)
    for signs in ([1, 1, -1, -1], [1, -1, 1, 0], [1, -1, 0, 0]):
        with pytest.raises(ValueError, match="do not stand in pairs"):
            OnlineDpo().policy(logps, logps, on_tokens(signs), MASK, ref=logps)
    with pytest.raises(ValueError, match="needs the reference"):
        OnlineDpo().policy(logps, logps, on_tokens([1, -1, 1, -1]), MASK)
    OnlineDpo(loss=Simpo()).policy(logps, logps, on_tokens([1, -1, 1, -1]), MASK)
    with pytest.raises(ValueError, match="at least 2 answers"):
        OnlineDpo().advantages(rewards(f64), MASK, 1)
