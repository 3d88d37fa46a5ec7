"""One gradient, however a batch is padded, packed, split or ordered: relative 1e-9 in float64 (PITFALLS 2 and 6)."""

import copy

import pytest
import torch
from tests.unit.train import tiny

from heedlm.models.forward import logits, token_scores
from heedlm.models.scalar import new_reward
from heedlm.objectives import BradleyTerry, Ppo, Sft, ranked_batch
from heedlm.ops.logprobs import token_logps
from heedlm.ops.types import Rollouts
from heedlm.train.batching import Row, pack
from heedlm.train.experience import (
    Experience,
    pack_responses,
    policy_terms,
    rollout_logps,
    rollout_statistics,
    rollout_values,
    row_groups,
    value_terms,
)
from heedlm.train.language import language_terms, mean_nll
from heedlm.train.learner import Learner, Term
from heedlm.train.optim import Optim
from heedlm.train.ranking import Ranking, RankingTraining, ranking_scores

LENGTHS = (3, 17, 8, 2, 11, 11, 5, 20)
PLAIN = Optim(grad_clip=None)


@pytest.fixture(scope="module")
def policy():
    return tiny.model(3, vocabulary=40, spread=0.3, dtype=torch.float64)


@pytest.fixture(scope="module")
def scalar(policy):
    return tiny.exact(new_reward(policy, seed=5))


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    made = []
    for length in LENGTHS:
        ids = torch.randint(3, 40, (length,), generator=generator).tolist()
        mask = (torch.rand(length, generator=generator) < 0.6).tolist()
        made.append(Row(ids, [*mask[:-1], True]))
    return made


def step(model, terms):
    """Losses and gradients of one update, taken on a copy."""
    own = copy.deepcopy(model).requires_grad_(True)
    values = Learner(own, PLAIN, 10).update(terms(own))
    return values, {name: p.grad.clone() for name, p in own.named_parameters() if p.grad is not None}


def gradient_of(model, loss):
    """Loss and gradients of a loss written out by hand."""
    own = copy.deepcopy(model).requires_grad_(True)
    value = loss(own)
    value.backward()
    return float(value.detach()), {name: p.grad.clone() for name, p in own.named_parameters() if p.grad is not None}


def same(found, expected):
    assert found.keys() == expected.keys()
    scale = max(float(x.abs().max()) for x in expected.values())
    assert scale > 1e-4  # a gradient of nothing would prove nothing
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9 * scale)


def left_padded(rows, width, fill=9):
    tokens = torch.tensor([[fill] * (width - len(row)) + row.ids for row in rows])
    mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    return tokens, mask


def right_padded(rows, fill):
    width = max(map(len, rows))
    tokens = torch.tensor([row.ids + [fill] * (width - len(row)) for row in rows])
    counted = torch.tensor([[False, *row.mask[1:]] + [False] * (width - len(row)) for row in rows])
    return tokens, counted


def row_by_row(model, rows):
    """The fine-tuning loss with no batch at all: Σ NLL of counted tokens ÷ their number."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in rows:
        tokens = torch.tensor([row.ids])
        scores = model(input_ids=tokens, use_cache=False).logits.log_softmax(-1)
        for place in range(1, len(row)):
            if row.mask[place]:
                total = total - scores[0, place - 1, row.ids[place]]
                count += 1
    return total / count


# ---------------------------------------------------------------- next-token loss


@pytest.mark.parametrize("budget", [1, 25, 40, 10_000])
@pytest.mark.parametrize("length", [1, 21, 64])
def test_fine_tuning_packed_and_accumulated_equals_single_rows(policy, rows, length, budget):
    value, expected = gradient_of(policy, lambda own: row_by_row(own, rows))
    groups = pack(rows, length)
    found, gradients = step(policy, lambda own: language_terms(own, groups, budget=budget))
    assert found["loss/train"] == pytest.approx(value, rel=1e-9)
    assert found["nll"] == pytest.approx(value, rel=1e-9)
    same(gradients, expected)
    assert mean_nll(policy, groups, budget=budget) == pytest.approx(value, rel=1e-9)


def test_fine_tuning_does_not_see_padding_on_either_side(policy, rows):
    value, expected = gradient_of(policy, lambda own: row_by_row(own, rows))
    width = max(LENGTHS) + 3
    tokens, mask = left_padded(rows, width)
    counted = torch.tensor([[False] * (width - len(row) + 1) + row.mask[1:] for row in rows])

    def left(own):
        loss = Sft()(token_logps(logits(own, tokens, mask=mask), tokens), counted)
        return loss.values.sum() / loss.count

    def right(own):
        filled, places = right_padded(rows, fill=17)
        loss = Sft()(token_logps(logits(own, filled), filled), places)
        return loss.values.sum() / loss.count

    for way in (left, right):
        found, gradients = gradient_of(policy, way)
        assert found == pytest.approx(value, rel=1e-9)
        same(gradients, expected)


@pytest.mark.parametrize("length", [1, 64])
def test_the_first_token_of_an_example_is_never_in_the_loss(policy, rows, length):
    counted = [Row(row.ids, [True, *row.mask[1:]]) for row in rows]
    left_out = [Row(row.ids, [False, *row.mask[1:]]) for row in rows]
    one, first = step(policy, lambda own: language_terms(own, pack(counted, length), budget=50))
    two, second = step(policy, lambda own: language_terms(own, pack(left_out, length), budget=50))
    assert one["loss/train"] == two["loss/train"]
    for name, value in first.items():
        assert torch.equal(value, second[name])


def test_two_groups_of_terms_keep_their_own_denominators(policy, rows):
    """A pretraining mix with few tokens weighs what its coefficient says, not what its size says."""
    few, many = rows[:2], rows[2:]

    def by_hand(own):
        return row_by_row(own, many) + 0.3 * row_by_row(own, few)

    value, expected = gradient_of(policy, by_hand)
    found, gradients = step(
        policy,
        lambda own: (
            language_terms(own, pack(many, 30), budget=40, group="policy")
            + language_terms(own, pack(few, 30), budget=1, weight=0.3, group="mix")
        ),
    )
    assert found["loss/policy"] + 0.3 * found["loss/mix"] == pytest.approx(value, rel=1e-9)
    same(gradients, expected)


# ---------------------------------------------------------------- ranking loss


@pytest.fixture(scope="module")
def rankings(rows):
    ranks = ([2, 1], [1, 1, 3], [2, 3, 1])
    whole = iter([Row(row.ids, [True] * len(row)) for row in rows])
    return [Ranking([next(whole) for _ in r], list(r)) for r in ranks]


OBJECTIVES = [BradleyTerry(), BradleyTerry(ties="davidson", label_smoothing=0.1, center=0.01)]


def ranked_row_by_row(model, rankings, objective):
    scores = []
    for ranking in rankings:
        for row in ranking.rows:
            hidden = model.base_model(input_ids=torch.tensor([row.ids]), use_cache=False).last_hidden_state
            scores.append(model.score(hidden)[0, -1, 0])
    loss = objective(torch.stack(scores), ranked_batch([ranking.ranks for ranking in rankings]))
    return loss.values.sum() / len(rankings)


def ranking_terms(model, rankings, objective, budget):
    training = RankingTraining(
        Learner(model, PLAIN, 10), rankings, [], objective, batch=len(rankings), budget=budget, seed=0
    )
    return training._terms(rankings, "prompts")


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["half", "davidson"])
@pytest.mark.parametrize("budget", [1, 40, 75, 10_000])
def test_rankings_in_microbatches_equal_single_rows(scalar, rankings, objective, budget):
    value, expected = gradient_of(scalar, lambda own: ranked_row_by_row(own, rankings, objective))
    found, gradients = step(scalar, lambda own: ranking_terms(own, rankings, objective, budget))
    assert found["loss/train"] == pytest.approx(value, rel=1e-9)
    same(gradients, expected)
    scores = ranking_scores(scalar, rankings, budget=budget)
    assert [len(row) for row in scores] == [2, 3, 3]
    assert scores[0][1] == pytest.approx(float(scalar_of(scalar, rankings[0].rows[1])), rel=1e-9)


def scalar_of(model, row):
    with torch.no_grad():
        return model.score(model.base_model(input_ids=torch.tensor([row.ids])).last_hidden_state)[0, -1, 0]


def test_rankings_do_not_see_left_padding(scalar, rankings):
    objective = OBJECTIVES[1]
    value, expected = gradient_of(scalar, lambda own: ranked_row_by_row(own, rankings, objective))
    flat = [row for ranking in rankings for row in ranking.rows]
    tokens, mask = left_padded(flat, max(LENGTHS) + 2)

    def left(own):
        scores = token_scores(own, tokens, mask=mask)[:, -1]
        loss = objective(scores, ranked_batch([ranking.ranks for ranking in rankings]))
        return loss.values.sum() / loss.count

    found, gradients = gradient_of(scalar, left)
    assert found == pytest.approx(value, rel=1e-9)
    same(gradients, expected)


def test_the_held_out_ranking_loss_is_that_of_training(scalar, rankings):
    training = RankingTraining(
        Learner(copy.deepcopy(scalar), PLAIN, 10), rankings, rankings, OBJECTIVES[0], batch=3, budget=40, seed=0
    )
    value, _ = gradient_of(scalar, lambda own: ranked_row_by_row(own, rankings, OBJECTIVES[0]))
    assert training.evaluate(1)["loss/held_out"] == pytest.approx(value, rel=1e-9)
    assert training.best.step == 1


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_a_prompt_computed_once_gives_what_each_row_alone_gives(scalar, budget):
    """K answers of one prompt: the same scores, loss and gradient, from fewer tokens."""
    generator = torch.Generator().manual_seed(9)

    def some(length):
        return torch.randint(3, 40, (length,), generator=generator).tolist()

    shared = []
    for prompt, answers in ((12, (5, 1, 9, 3)), (1, (4, 4)), (7, (6, 2, 8))):
        start = some(prompt)
        rows = [Row(start + some(length), [True] * (prompt + length)) for length in answers]
        shared.append(Ranking(rows, list(range(1, len(rows) + 1))))
    assert shared[0].work == 12 + 18
    assert shared[0].tokens == 4 * 12 + 18
    value, expected = gradient_of(scalar, lambda own: ranked_row_by_row(own, shared, OBJECTIVES[1]))
    found, gradients = step(scalar, lambda own: ranking_terms(own, shared, OBJECTIVES[1], budget))
    assert found["loss/train"] == pytest.approx(value, rel=1e-9)
    same(gradients, expected)
    for ranking, scores in zip(shared, ranking_scores(scalar, shared, budget=budget), strict=True):
        for row, score in zip(ranking.rows, scores, strict=True):
            assert score == pytest.approx(float(scalar_of(scalar, row)), rel=1e-9)


def test_answers_that_are_equal_or_begin_alike_keep_a_token_of_their_own():
    rows = [Row(ids, [True] * len(ids)) for ids in ([5, 6, 7], [5, 6, 7], [5, 6])]
    assert Ranking(rows, [1, 2, 3]).shared == 1
    assert Ranking(rows[:2], [1, 2]).shared == 2


# ---------------------------------------------------------------- PPO


@pytest.fixture(scope="module")
def rollouts(rows):
    generator = torch.Generator().manual_seed(4)
    tokens, _ = right_padded(rows, fill=11)
    starts = torch.tensor([1 + int(torch.randint(0, length - 1, (1,), generator=generator)) for length in LENGTHS])
    return Rollouts(
        tokens=tokens,
        prompt_lengths=starts,
        lengths=torch.tensor(LENGTHS),
        logps=torch.zeros(tokens.shape, dtype=torch.float64),
        ended=torch.ones(len(rows), dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def experience(policy, scalar, rollouts):
    """Old log-probs and values near the model's own, so that some tokens are clipped and some are not."""
    generator = torch.Generator().manual_seed(2)
    mask = rollouts.response_mask

    def noise(size):
        return torch.where(mask, size * torch.randn(mask.shape, generator=generator, dtype=torch.float64), 0.0)

    logps = rollout_logps(policy, rollouts, temperature=0.7, budget=10_000)
    values = rollout_values(scalar, rollouts, budget=10_000)
    old = values + noise(0.2)
    return Experience(rollouts.tokens, rollouts.lengths, mask, logps + noise(0.3), old, noise(1.0), old + noise(1.0))


def ppo_row_by_row(model, experience, objective, what):
    """Either loss from unpadded rows, divided by the response tokens of all rows."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for i, length in enumerate(experience.lengths.tolist()):
        tokens = experience.tokens[i : i + 1, :length]
        old = {name: getattr(experience, name)[i : i + 1, :length] for name in ("mask", "logps", "values")}
        gains = {name: getattr(experience, name)[i : i + 1, :length] for name in ("advantages", "returns")}
        if what == "policy":
            new = token_logps(model(input_ids=tokens, use_cache=False).logits, tokens, 0.7)
            loss = objective.policy(new, old["logps"], gains["advantages"], old["mask"])
        else:
            hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
            found = torch.nn.functional.pad(model.score(hidden)[0, :-1, 0], (1, 0))[None]
            loss = objective.value(found, old["values"], gains["returns"], old["mask"])
        total, count = total + loss.values.sum(), count + int(loss.count)
    return total / count


@pytest.mark.parametrize("budget", [1, 45, 10_000])
def test_ppo_policy_in_microbatches_equals_single_rows(policy, experience, budget):
    objective = Ppo()
    value, expected = gradient_of(policy, lambda own: ppo_row_by_row(own, experience, objective, "policy"))
    found, gradients = step(
        policy, lambda own: policy_terms(own, experience, objective, temperature=0.7, budget=budget, label="m")
    )
    assert found["loss/policy"] == pytest.approx(value, rel=1e-9)
    assert 0.05 < found["clip_fraction"] < 0.95
    same(gradients, expected)


@pytest.mark.parametrize("budget", [1, 45, 10_000])
def test_ppo_value_in_microbatches_equals_single_rows(scalar, experience, budget):
    objective = Ppo()
    value, expected = gradient_of(scalar, lambda own: 0.5 * ppo_row_by_row(own, experience, objective, "value"))
    found, gradients = step(
        scalar, lambda own: value_terms(own, experience, objective, weight=0.5, budget=budget, label="m")
    )
    assert 0.5 * found["loss/value"] == pytest.approx(value, rel=1e-9)
    assert 0.05 < found["value_clip_fraction"] < 0.95
    same(gradients, expected)


def test_ppo_metrics_do_not_depend_on_microbatches(policy, scalar, experience):
    def policy_step(own, budget):
        return policy_terms(own, experience, Ppo(), temperature=0.7, budget=budget, label="m")

    def value_step(own, budget):
        return value_terms(own, experience, Ppo(), weight=1.0, budget=budget, label="m")

    for model, terms in ((policy, policy_step), (scalar, value_step)):
        whole, _ = step(model, lambda own, terms=terms: terms(own, 10_000))
        parts, _ = step(model, lambda own, terms=terms: terms(own, 1))
        assert whole.keys() == parts.keys()
        for name, value in whole.items():
            assert parts[name] == pytest.approx(value, rel=1e-9), name


def test_ppo_does_not_see_left_padding(policy, rollouts, experience):
    lengths = experience.lengths.tolist()
    width = max(lengths) + 2
    value, expected = gradient_of(policy, lambda own: ppo_row_by_row(own, experience, Ppo(), "policy"))

    def shifted(x, fill):
        moved = torch.full((len(lengths), width), fill, dtype=x.dtype)
        for i, length in enumerate(lengths):
            moved[i, width - length :] = x[i, :length]
        return moved

    real = shifted(rollouts.mask, False)
    tokens, mask = shifted(experience.tokens, 21), shifted(experience.mask, False)
    old, gains = shifted(experience.logps, 0.0), shifted(experience.advantages, 0.0)

    def left(own):
        loss = Ppo().policy(token_logps(logits(own, tokens, mask=real), tokens, 0.7), old, gains, mask)
        return loss.values.sum() / loss.count

    found, gradients = gradient_of(policy, left)
    assert found == pytest.approx(value, rel=1e-9)
    same(gradients, expected)


def test_answers_to_one_prompt_share_it_and_nothing_changes(policy, scalar, experience):
    """Four rows with one prompt: the policy's and the critic's gradients are those of single rows."""
    tokens, mask = experience.tokens.clone(), torch.zeros_like(experience.mask)
    lengths = torch.tensor([12, 9, 20, 7, 11, 11, 5, 20])
    tokens[:4, :6] = tokens[7, :6]
    for i, length in enumerate(lengths.tolist()):
        mask[i, min(6, length - 2) : length] = True
    alike = Experience(
        tokens, lengths, mask, *(getattr(experience, n) for n in ("logps", "values", "advantages", "returns"))
    )
    assert sorted(map(len, row_groups(tokens, lengths, mask, 45)))[-1] >= 4
    packed, _ = pack_responses(tokens, lengths, mask)
    assert len(packed) == int(lengths.sum()) - 3 * 6  # rows 0, 1, 2 and 7
    for model, what, terms in (
        (policy, "policy", lambda own: policy_terms(own, alike, Ppo(), temperature=0.7, budget=45, label="m")),
        (scalar, "value", lambda own: value_terms(own, alike, Ppo(), weight=1.0, budget=45, label="m")),
    ):
        value, expected = gradient_of(model, lambda own, what=what: ppo_row_by_row(own, alike, Ppo(), what))
        found, gradients = step(model, terms)
        assert found[f"loss/{what}"] == pytest.approx(value, rel=1e-9)
        same(gradients, expected)


def test_minibatches_of_a_buffer_are_rows_of_it(experience):
    generator = torch.Generator().manual_seed(0)
    parts = list(experience.minibatches(3, generator))
    assert [len(part) for part in parts] == [3, 3, 2]
    assert sorted(i for part in parts for i in part) == list(range(8))
    part = experience.select(parts[0])
    width = int(part.lengths.max())
    assert part.tokens.shape == (3, width)
    for place, row in enumerate(parts[0]):
        assert torch.equal(part.logps[place], experience.logps[row, :width])


def test_log_probs_of_rollouts_do_not_depend_on_the_budget_and_turn_dropout_off(policy, rollouts):
    whole, spread = rollout_statistics(policy, rollouts, temperature=0.7, budget=10_000)
    with_dropout = copy.deepcopy(policy)
    with_dropout.config.attention_dropout = 0.5
    for layer in with_dropout.model.layers:
        layer.self_attn.attention_dropout = 0.5
    with_dropout.train()
    with torch.no_grad():
        noisy = token_logps(logits(with_dropout, rollouts.tokens), rollouts.tokens, 0.7)
    assert not torch.allclose(noisy[rollouts.response_mask], whole[rollouts.response_mask])
    for budget in (1, 45):
        logps, again = rollout_statistics(with_dropout, rollouts, temperature=0.7, budget=budget)
        torch.testing.assert_close(logps, whole, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(again, spread, rtol=1e-9, atol=1e-12)
    assert with_dropout.training  # left as it was found
    assert not whole[~rollouts.response_mask].any()


def test_a_term_counts_what_its_loss_counts(policy, scalar, rows, rankings, experience):
    """Counts are known before the forward pass, for the denominator; they must be those of the loss."""
    terms: list[Term] = language_terms(policy, pack(rows, 30), budget=40)
    terms += ranking_terms(scalar, rankings, BradleyTerry(), 40)
    terms += policy_terms(policy, experience, Ppo(), temperature=1.0, budget=40, label="m")
    terms += value_terms(scalar, experience, Ppo(), weight=1.0, budget=40, label="m")
    assert len(terms) > 8
    for term in terms:
        assert term.count == pytest.approx(float(term.loss().count), abs=1e-9)
