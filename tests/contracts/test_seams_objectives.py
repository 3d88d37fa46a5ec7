"""One suite for every objective, in every setting that a choice or an optional number offers.

Padding invariance, permutation, microbatches equal to one batch, finite at extremes, the gradient's sign, no
gradient in metrics, a docstring with its source. A new member is taken from the union; a new kind of objective
needs its own `Case` here, or its members fail.
"""

import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from heedlm import objectives
from heedlm.config.base import member_configs
from heedlm.objectives import ranked_batch
from heedlm.ops.masked import masked_sum
from heedlm.ops.types import Loss, PairLogps

B, T = 5, 7


@dataclass(frozen=True)
class Case:
    """One loss of an objective as a function of the tensor it trains, with the rest of its input.

    Attributes:
        loss: Loss of the trained tensor, other tensors, and what says which cells count.
        trained: What the model gives: (B, T), or (N,) scores.
        others: Further tensors of the same shape.
        counted: Mask (B, T), or the ranks of each prompt's answers.
        push: Direction (same shape as trained) in which the loss must fall; 0 where it need not.
    """

    loss: Callable[..., Loss]
    trained: Tensor
    others: tuple[Tensor, ...]
    counted: object
    push: Tensor

    def __call__(self, trained: Tensor | None = None) -> Loss:
        return self.loss(self.trained if trained is None else trained, self.others, self.counted)

    def gradient(self, trained: Tensor | None = None) -> Tensor:
        leaf = (self.trained if trained is None else trained).clone().requires_grad_()
        return torch.autograd.grad(self(leaf).mean(), leaf)[0]


def settings(cls):
    """The member with its defaults, and with each other choice, None and (for shares) half-way value."""
    yield cls()
    for name, field in cls.model_fields.items():
        annotation = field.annotation
        if name == "name":
            continue
        if typing.get_origin(annotation) is typing.Literal:
            yield from (cls(**{name: choice}) for choice in typing.get_args(annotation) if choice != field.default)
        elif type(None) in typing.get_args(annotation):
            yield cls(**{name: None})
        elif annotation is bool:
            yield cls(**{name: not field.default})
        elif field.default == 0.0 and annotation is not int:
            yield cls(**{name: 0.1})


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def response_mask():
    starts, ends = torch.tensor([2, 1, 3, 0, 6]), torch.tensor([5, 7, 4, 3, 7])
    place = torch.arange(T)
    return (place >= starts[:, None]) & (place < ends[:, None])


def token_cases(objective):
    mask = response_mask()
    yield Case(lambda x, others, m: objective(x, m), -random(B, T).abs(), (), mask, mask.double())


def critic_cases(objective):
    mask = response_mask()
    old, advantages, spread = -random(B, T).abs(), random(B, T), random(B, T).abs()
    yield Case(
        lambda x, others, m: objective.policy(x, *others[:2], m, others[2]), old + 0.05 * random(B, T),
        (old, advantages, spread), mask, advantages * mask,
    )  # fmt: skip
    values, returns = random(B, T), 3 + random(B, T).abs()
    yield Case(
        lambda x, others, m: objective.value(x, *others, m), values, (values - 0.1, returns), mask,
        (returns - values) * mask,
    )  # fmt: skip


def group_cases(objective):
    """An answer's advantage is the same on all its tokens; of a pair loss both answers are made from one row."""
    if objective.rows == 2:
        return pair_cases(lambda policy, ref: online(objective, policy, ref))
    mask = response_mask()
    old, spread, advantages = -random(B, T).abs(), random(B, T).abs(), random(B, 1).expand(B, T)
    return [Case(
        lambda x, others, m: objective.policy(x, *others[:2], m, *others[2:], 0.01, T), old + 0.05 * random(B, T),
        (old, advantages, spread, old + 0.05 * random(B, T)), mask, advantages * mask,
    )]  # fmt: skip


def online(objective, policy, ref):
    """Each pair as two rows of one token that holds the sum, the rejected answer first."""

    def rows(pairs):
        return torch.stack([pairs.rejected, pairs.chosen], 1).reshape(-1, 1)

    given = rows(policy)
    # As many tokens as the answer has, so that means are means; all but the first are certain.
    lengths = torch.stack([policy.rejected_lengths, policy.chosen_lengths], 1).reshape(-1, 1)
    mask = torch.arange(int(lengths.max()))[None, :] < lengths
    wide = [torch.nn.functional.pad(x, (0, mask.shape[1] - 1)) for x in (given, rows(ref))]
    signs = torch.tensor([-1.0, 1.0]).repeat(len(given) // 2)[:, None] * mask
    return objective.policy(wide[0], wide[0], signs, mask, ref=wide[1])


def ranking_cases(objective):
    ranks = [[1, 2, 3, 4], [2, 1], [1, 3, 2]]
    push = torch.tensor([1.0, 0, 0, -1, -1, 1, 1, -1, 0], dtype=torch.float64)  # best up, worst down
    yield Case(lambda x, others, r: objective(x, ranked_batch(r)), 0.05 * random(9), (), ranks, push)


def step_cases(objective):
    mask = response_mask()
    right = (torch.arange(B * T).reshape(B, T) % 3 > 0).double()
    push = (2 * right - 1) * mask  # right steps up, wrong ones down
    yield Case(lambda x, others, m: objective(x, *others, m), 0.05 * random(B, T), (right,), mask, push)


def pair_cases(objective):
    """Each row holds both answers of a pair: the first half of its counted tokens is the preferred one's."""
    mask = response_mask()
    mask[2, 5] = mask[4, 5] = True  # two tokens at least

    def halves(m):
        place, length = m.cumsum(1), m.sum(1, keepdim=True)
        return m & (place <= (length + 1) // 2), m & (place > (length + 1) // 2)

    def loss(x, others, m):
        chosen, rejected = halves(m)
        lengths = chosen.sum(1), rejected.sum(1)
        pairs = (PairLogps(masked_sum(t, chosen, 1), masked_sum(t, rejected, 1), *lengths) for t in (x, others[0]))
        return objective(*pairs)

    better, worse = halves(mask)
    yield Case(loss, -random(B, T).abs(), (-random(B, T).abs(),), mask, better.double() - worse.double())


def single_cases(objective):
    mask, signs = response_mask(), torch.tensor([1.0, -1, -1, 1, 1], dtype=torch.float64)[:, None].expand(B, T)

    def loss(x, others, m):
        logps, ref, sides = (masked_sum(t, m, 1) for t in (x, *others))
        return objective(logps, ref, sides > 0, torch.tensor(0.3, dtype=logps.dtype))

    yield Case(loss, -random(B, T).abs(), (-random(B, T).abs(), signs), mask, signs * mask)


KINDS = {
    objectives.TokenObjective: token_cases,
    objectives.RankingObjective: ranking_cases,
    objectives.StepObjective: step_cases,
    objectives.PairObjective: pair_cases,
    objectives.SingleObjective: single_cases,
    objectives.CriticObjective: critic_cases,
    objectives.GroupObjective: group_cases,
}


def cases():
    torch.manual_seed(0)
    for kind, make in KINDS.items():
        for cls in member_configs(kind):
            for objective in settings(cls):
                given = objective.model_dump(exclude_defaults=True)
                for number, case in enumerate(make(objective)):
                    yield pytest.param(case, id=f"{objective.name}-{number}-{given}")


CASES = list(cases())
TOKENWISE = [case for case in CASES if isinstance(case.values[0].counted, Tensor)]
RANKINGS = [case for case in CASES if not isinstance(case.values[0].counted, Tensor)]


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


def same_metrics(a, b):
    assert a.keys() == b.keys()
    for name in a:
        close(a[name], b[name])


def test_every_objective_is_of_a_kind_that_is_tested():
    tested = [cls for kind in KINDS for cls in member_configs(kind)]
    assert sorted(cls.__name__ for cls in tested) == sorted(
        cls.__name__ for cls in member_configs(objectives.Objective)
    )


@pytest.mark.parametrize("cls", member_configs(objectives.Objective))
def test_docstrings_name_a_source(cls):
    assert re.search(r"Source: .*(\b(19|20)\d\d\b|docs/methods.md §)", cls.__doc__ or "", re.DOTALL)


@pytest.mark.parametrize("case", CASES)
def test_a_loss_is_values_and_a_count(case):
    loss = case(case.trained.clone().requires_grad_())
    assert loss.values.ndim == 1
    assert loss.values.requires_grad
    assert loss.count.ndim == 0
    assert not loss.count.requires_grad
    assert loss.metrics
    assert all(metric.ndim == 0 and not metric.requires_grad for metric in loss.metrics.values())


@pytest.mark.parametrize("case", TOKENWISE)
@pytest.mark.parametrize("junk", [0.0, 1e30, float("nan"), float("-inf")])
def test_padding_changes_nothing(case, junk):
    """Neither columns before and after, nor what masked cells hold, enter loss, metrics or gradient."""

    def padded(x):
        filled = torch.where(case.counted, x, junk)
        return torch.nn.functional.pad(filled, (2, 3), value=junk)

    mask = torch.nn.functional.pad(case.counted, (2, 3))
    wide = replace(case, trained=padded(case.trained), others=tuple(padded(x) for x in case.others), counted=mask)
    close(wide().values, case().values)
    close(wide().count, case().count)
    same_metrics(wide().metrics, case().metrics)
    close(wide.gradient()[:, 2:-3], case.gradient())
    assert wide.gradient()[~mask].eq(0).all()


@pytest.mark.parametrize("case", TOKENWISE)
def test_the_order_of_rows_does_not_matter(case):
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = replace(
        case,
        trained=case.trained[order],
        others=tuple(x[order] for x in case.others),
        counted=case.counted[order],
    )
    close(moved().values, case().values[order])
    same_metrics(moved().metrics, case().metrics)
    close(moved.gradient(), case.gradient()[order])


@pytest.mark.parametrize("case", TOKENWISE)
def test_microbatches_add_up_to_the_batch(case):
    parts = [
        replace(case, trained=case.trained[s], others=tuple(x[s] for x in case.others), counted=case.counted[s])
        for s in (slice(0, 1), slice(1, 3), slice(3, B))
    ]
    count = sum(part().count for part in parts)
    close(count, case().count)
    close(sum(part().values.sum() for part in parts), case().values.sum())
    for name, metric in case().metrics.items():
        close(sum(part().metrics[name] * part().count for part in parts) / count, metric)
    close(torch.cat([part.gradient() * part().count / count for part in parts]), case.gradient())


@pytest.mark.parametrize("case", RANKINGS)
def test_the_order_of_prompts_and_answers_does_not_matter(case):
    order = torch.tensor([6, 8, 7, 5, 4, 2, 0, 3, 1])  # prompts in another order, and answers within each
    moved = replace(case, trained=case.trained[order], counted=[[1, 2, 3], [1, 2], [3, 1, 4, 2]])
    close(moved().mean(), case().mean())
    close(moved().count, case().count)
    same_metrics(moved().metrics, case().metrics)
    close(moved.gradient(), case.gradient()[order])


@pytest.mark.parametrize("case", RANKINGS)
def test_prompts_in_microbatches_add_up_to_the_batch(case):
    spans = [(0, 4), (4, 6), (6, 9)]
    parts = [
        replace(case, trained=case.trained[a:b], counted=[ranks])
        for (a, b), ranks in zip(spans, case.counted, strict=True)
    ]
    count = sum(part().count for part in parts)
    close(count, case().count)
    close(sum(part().values.sum() for part in parts), case().values.sum())
    for name in case().metrics.keys() - {"score_mean"}:
        close(sum(part().metrics[name] * part().count for part in parts) / count, case().metrics[name])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4, -1e4])
def test_finite_at_extremes(case, dtype, size):
    extreme = replace(
        case,
        trained=torch.full_like(case.trained, size, dtype=dtype),
        others=tuple(x.to(dtype) for x in case.others),
    )
    alternating = replace(extreme, trained=extreme.trained * torch.ones_like(extreme.trained).cumsum(-1).cos())
    for far in (extreme, alternating):
        loss = far()
        assert loss.values.isfinite().all()
        assert all(metric.isfinite() for metric in loss.metrics.values())
        assert far.gradient().isfinite().all()


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_points_the_right_way(case):
    gradient, wanted = case.gradient(), case.push.sign()
    assert gradient.abs().sum() > 0
    assert (gradient * wanted <= 1e-12).all(), "some part of the loss rises where it should fall"
    step = 1e-4 / gradient.norm()
    assert case(case.trained - step * gradient).mean() < case().mean()
