"""Preference training: what comparisons become, log-probs over packed rows, denominators, references, KTO's z₀."""

import math

import pytest
import torch
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.models.adapters import Lora
from heedlm.models.forward import logits
from heedlm.objectives import Dpo, Ipo, Kto, Orpo, Simpo
from heedlm.ops.types import PairLogps
from heedlm.train.batching import Row
from heedlm.train.judged import Judged, in_pairs, mismatched, one_by_one
from heedlm.train.learner import Learner
from heedlm.train.optim import Optim
from heedlm.train.preference import Answers, PreferenceTraining, answer_logps, implicit_rewards
from heedlm.train.ranking import Ranking

OBJECTIVES = [Dpo(label_smoothing=0.1), Ipo(length_norm=True), Kto(desirable=1.2), Orpo(), Simpo()]
NAMES = [objective.name for objective in OBJECTIVES]


def ranking(ranks, seed=0):
    """Answers of one to nine tokens to a prompt of its own; the first two begin with the same two tokens."""
    draw = torch.Generator().manual_seed(seed)

    def ids(count):
        return torch.randint(3, 60, (count,), generator=draw).tolist()

    prompt, opening = ids(4 + seed % 5), ids(2)
    answers = [[*ids(int(torch.randint(1, 8, (1,), generator=draw))), 2] for _ in ranks]
    answers = [opening + answer if k < 2 else answer for k, answer in enumerate(answers)]
    return Ranking([Row(prompt + a, [False] * len(prompt) + [True] * len(a)) for a in answers], list(ranks))


RANKS = [(1, 2), (2, 1, 3), (1, 2), (3, 1, 2, 2), (1, 2, 3), (2, 1)]
RANKINGS = [ranking(ranks, seed) for seed, ranks in enumerate(RANKS)]


def judged(objective, rankings=RANKINGS):
    return [one_by_one(r) if isinstance(objective, Kto) else in_pairs(r) for r in rankings]


def training(objective, *, budget=10_000, model=None, reference="model", dtype=torch.float64, batch=6, **more):
    model = tiny.model(1, dtype=dtype) if model is None else model
    learner = Learner(model, Optim(lr=1e-2, warmup=0, schedule="constant", grad_clip=None), 10)
    given = model if reference == "model" else reference
    return PreferenceTraining(
        learner, judged(objective), judged(objective)[:3], objective,
        reference=given, batch=batch, budget=budget, length=64, seed=3, **more,
    )  # fmt: skip


def other_model(dtype=torch.float64):
    return tiny.model(7, dtype=dtype).requires_grad_(False)


# ---------------------------------------------------------------- comparisons as pairs and as single answers


def places(found, given):
    """Which rows of a ranking were kept."""
    return [next(i for i, row in enumerate(given.rows) if row is kept) for kept in found.ranking.rows]


@pytest.mark.parametrize(
    ("ranks", "which", "kept", "pairs"),
    [
        ((2, 1), "all", [0, 1], [(1, 0)]),
        ((1, 2, 3), "all", [0, 1, 2], [(0, 1), (0, 2), (1, 2)]),
        ((1, 2, 2), "all", [0, 1, 2], [(0, 1), (0, 2)]),  # a tie makes no pair
        ((3, 1, 2), "extremes", [1, 0], [(0, 1)]),
        ((2, 1, 1, 2), "extremes", [1, 0], [(0, 1)]),
    ],
)
def test_rankings_become_pairs(ranks, which, kept, pairs):
    given = ranking(ranks)
    found = in_pairs(given, which)
    assert places(found, given) == kept
    assert found.pairs == pairs


@pytest.mark.parametrize(
    ("ranks", "kept", "good"),
    [
        ((2, 1), [0, 1], [False, True]),
        ((1, 2, 3), [0, 2], [True, False]),  # the one in the middle is neither
        ((4, 1, 2, 3), [0, 1, 2, 3], [False, True, True, False]),
        ((1, 2, 2, 2), [0, 1, 2, 3], [True, False, False, False]),
    ],
)
def test_rankings_become_single_answers(ranks, kept, good):
    given = ranking(ranks)
    found = one_by_one(given)
    assert places(found, given) == kept
    assert found.good == good
    assert all(found.good[i] and not found.good[j] for i, j in found.pairs if len(kept) == 2)


def test_ties_alone_give_nothing():
    assert in_pairs(ranking((1, 1, 1))) is None
    assert in_pairs(ranking((1, 1)), "extremes") is None
    assert one_by_one(ranking((1, 1))) is None


# ---------------------------------------------------------------- log-probs


def plain_logps(model, rows):
    """Row after row, all logits."""
    found = []
    for row in rows:
        ids = torch.tensor([row.ids])
        each = logits(model, ids).log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
        found.append(each[torch.tensor(row.mask[1:])].sum())
    return torch.stack(found)


def test_log_probs_over_packed_rows_are_those_of_each_row_alone():
    """Shared prompts, and first tokens that two answers share, count in each answer."""
    model = tiny.model(1, dtype=torch.float64)
    rows = [row for each in RANKINGS for row in each.rows]
    answers = Answers.of(RANKINGS, "cpu")
    assert len(answers.packed) < sum(map(len, rows))
    assert answers.lengths.tolist() == [sum(row.mask) for row in rows]
    ours, theirs = answers.logps(model), plain_logps(model, rows)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    weights = torch.arange(len(rows))
    one, two = (torch.autograd.grad((x * weights).sum(), list(model.parameters())) for x in (ours, theirs))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
    parts = answer_logps(model, RANKINGS, budget=40)
    torch.testing.assert_close(torch.cat(parts), theirs.detach(), rtol=1e-10, atol=1e-10)
    assert [len(part) for part in parts] == [len(ranks) for ranks in RANKS]


def test_implicit_rewards_are_the_objectives():
    model, reference = tiny.model(1, dtype=torch.float64), other_model()
    policy, ref = (answer_logps(m, RANKINGS, budget=99) for m in (model, reference))
    found = implicit_rewards(Ipo(tau=0.3, length_norm=True), policy, ref, RANKINGS)
    rows = [row for each in RANKINGS for row in each.rows]
    ratios = plain_logps(model, rows) - plain_logps(reference, rows)
    by_hand = 0.3 * ratios.detach() / torch.tensor([sum(row.mask) for row in rows])
    assert [x for each in found for x in each] == pytest.approx(by_hand.tolist())


# ---------------------------------------------------------------- denominators


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
@pytest.mark.parametrize("precompute", [True, False])
def test_microbatches_and_the_time_of_asking_change_nothing(objective, precompute):
    """Loss, metrics, weights after a step, and held-out numbers, for one microbatch and for one a prompt."""
    reference = other_model()
    whole = training(objective, reference=reference)
    parts = training(objective, reference=reference, budget=20, precompute=precompute)
    for index in range(2):
        one, two = whole.step(index), parts.step(index)
        assert one == pytest.approx(two, rel=1e-9)
    assert whole.evaluate(2) == pytest.approx(parts.evaluate(2), rel=1e-9)
    for a, b in zip(whole.learner.model.parameters(), parts.learner.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
def test_the_loss_of_a_step_is_the_mean_over_all_its_pairs_or_answers(objective):
    reference = other_model()
    method = training(objective, reference=reference, budget=30)
    chosen = judged(objective)
    rows = [row for each in chosen for row in each.ranking.rows]
    policy, ref = plain_logps(method.learner.model, rows), plain_logps(reference, rows)
    lengths = torch.tensor([sum(row.mask) for row in rows])
    values = []
    if isinstance(objective, Kto):
        others = [each.rows[0] for each in method.examples.others]
        ratios = plain_logps(method.learner.model, others) - plain_logps(reference, others)
        z0 = max(0.0, float(ratios.detach().mean()))
        for i, good in enumerate(good for each in chosen for good in each.good):
            side = 0.1 * (float((policy - ref).detach()[i]) - z0) * (1 if good else -1)
            values.append((1.2 if good else 1.0) / (1 + math.exp(side)))
    else:
        start = 0
        for each in chosen:
            for i, j in each.pairs:
                better, worse = [start + i], [start + j]
                sides = lengths[better], lengths[worse]
                pairs = (PairLogps(x[better].detach(), x[worse].detach(), *sides) for x in (policy, ref))
                values.append(float(objective(*pairs).mean()))
            start += len(each.good)
    found = method.step(0)
    assert found["loss/train"] == pytest.approx(sum(values) / len(values), rel=1e-9)
    assert found["tokens"] == sum(each.ranking.tokens for each in chosen)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
def test_what_is_logged(objective):
    values = training(objective).step(0)
    expected = {"loss/train", "reward/chosen", "reward/rejected", "reward/margin", "accuracy", "logps/chosen"}
    expected |= {"logps/rejected", "grad_norm", "lr", "tokens"}
    if isinstance(objective, Kto):
        expected |= {"kl/mismatched_nats", "desirable"}
    assert set(values) == expected
    assert values["logps/chosen"] < 0
    assert all(math.isfinite(value) for value in values.values())


def test_held_out_accuracy_is_that_of_implicit_rewards_over_pairs_for_kto_too():
    reference = other_model()
    for objective in (Dpo(), Kto()):
        method = training(objective, reference=reference)
        found = method.evaluate(1)
        rows = judged(objective)[:3]
        given = [each.ranking for each in rows]
        ratios = zip(*(answer_logps(m, given, budget=99) for m in (method.learner.model, reference)), strict=True)
        gains = [policy - ref for policy, ref in ratios]
        right = [float(gain[i] > gain[j]) for gain, each in zip(gains, rows, strict=True) for i, j in each.pairs]
        assert found["accuracy/held_out"] == pytest.approx(sum(right) / len(right))
        assert method.best.value == found["loss/held_out"]


# ---------------------------------------------------------------- at the start


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dpo_starts_at_log_2(dtype):
    """Exactly, where the reference is asked over the same microbatches; up to rounding, where it was asked before."""
    model = tiny.model(1, dtype=dtype)
    asked_now = training(Dpo(), dtype=dtype, model=model, precompute=False)
    assert asked_now.step(0)["loss/train"] == pytest.approx(math.log(2), rel=1e-15)
    asked_before = training(Dpo(), dtype=dtype, budget=30)
    assert asked_before.step(0)["loss/train"] == pytest.approx(math.log(2), abs=1e-6)
    assert training(Dpo(), dtype=dtype).evaluate(0)["loss/held_out"] == pytest.approx(math.log(2), abs=1e-6)


def test_the_reference_of_adapters_is_their_base():
    """Asked before training or in every step, with the same numbers; the base stays as it is."""
    found = []
    for precompute in (True, False):
        base = tiny.model(1)
        policy = Lora(rank=4).on(base, seed=0)
        method = training(Dpo(), model=policy, reference=base, precompute=precompute, dtype=torch.float32)
        found.append([method.step(index) for index in range(3)])
        torch.testing.assert_close(
            torch.cat(answer_logps(base, RANKINGS, budget=99)),
            torch.cat(answer_logps(tiny.model(1), RANKINGS, budget=99)),
        )
    assert found[0][0]["loss/train"] == pytest.approx(math.log(2), abs=1e-6)
    assert found[0][2]["loss/train"] < math.log(2) - 1e-3
    for one, two in zip(*found, strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-5)


# ---------------------------------------------------------------- KTO's mismatched answers


def test_mismatched_answers_answer_another_prompt_and_fit():
    pool = judged(Kto())
    found = mismatched(pool, pool, 9, seed=0)
    rows = [(place, row) for place, each in enumerate(pool) for row in each.ranking.rows]
    answers = {tuple(row.ids[row.mask.index(True) :]): place for place, row in rows}
    for place, (each, other) in enumerate(zip(pool, found, strict=True)):
        (row,) = other.rows
        own = each.ranking.rows[0]
        length = own.mask.index(True)
        assert row.ids[:length] == own.ids[:length]
        assert not any(row.mask[:length])
        assert all(row.mask[length:])
        assert length < len(row) <= 9
        taken = [at for answer, at in answers.items() if list(answer)[: len(row) - length] == row.ids[length:]]
        assert taken
        assert place not in taken
    assert mismatched(pool, pool, 9, seed=0) == found
    assert mismatched(pool, pool, 9, seed=1) != found


def test_one_prompt_is_too_few_for_kto():
    same = [Judged(RANKINGS[0], [], [True, False])] * 3
    with pytest.raises(BadInput, match="all answers are to one prompt"):
        mismatched(same, same, 64, seed=0)


def test_a_step_of_good_answers_alone_logs_nothing_of_bad_ones():
    good = [Judged(Ranking(each.rows[:1], [1]), [], [True]) for each in RANKINGS]
    model = tiny.model(1)
    method = PreferenceTraining(
        Learner(model, Optim(), 2), good, [], Kto(), reference=model, batch=2, budget=99, length=64, seed=0
    )
    values = method.step(0)
    assert values["desirable"] == 1
    assert "reward/rejected" not in values
    assert "reward/margin" not in values
    assert method.evaluate(1) == {}
