"""Rollouts and losses."""

import pytest
import torch

from heedlm.ops.types import Loss, Rollouts


@pytest.fixture
def rollouts():
    """Prompts of 1 and 2 tokens, answers of 3 and 1; the padding holds a real token id on purpose."""
    return Rollouts(
        tokens=torch.tensor([[5, 6, 7, 2], [5, 5, 2, 2]]),
        prompt_lengths=torch.tensor([1, 2]),
        lengths=torch.tensor([4, 3]),
        logps=torch.tensor([[0.0, -1.0, -2.0, -3.0], [0.0, 0.0, -4.0, 0.0]]),
        ended=torch.tensor([False, True]),
    )


def test_masks_come_from_lengths_not_from_token_ids(rollouts):
    assert rollouts.mask.tolist() == [[True] * 4, [True, True, True, False]]
    assert rollouts.response_mask.tolist() == [[False, True, True, True], [False, False, True, False]]
    assert rollouts.response_lengths.tolist() == [3, 1]
    assert rollouts.responses() == [[6, 7, 2], [2]]
    assert len(rollouts) == 2


@pytest.mark.parametrize(
    "index", [[1], torch.tensor([1]), torch.tensor([False, True]), torch.tensor([1], dtype=torch.int32)]
)
def test_rows_are_selected_by_number_or_by_mask(rollouts, index):
    one = rollouts.select(index)
    assert one.tokens.tolist() == [[5, 5, 2, 2]]
    assert one.responses() == [[2]]
    assert one.ended.tolist() == [True]
    assert one.logps.tolist() == [[0.0, 0.0, -4.0, 0.0]]


def test_no_row_may_be_selected(rollouts):
    none = rollouts.select([])
    assert len(none) == 0
    assert none.responses() == []


def test_joined_rollouts_keep_their_rows(rollouts):
    short = Rollouts(
        torch.tensor([[1, 2]]),
        torch.tensor([1]),
        torch.tensor([2]),
        torch.tensor([[0.0, -0.5]]),
        torch.tensor([True]),
    )
    both = Rollouts.cat([short, rollouts])
    assert both.tokens.shape == (3, 4)
    assert both.responses() == [[2], *rollouts.responses()]
    assert both.logps[0].tolist() == [0.0, -0.5, 0.0, 0.0]
    assert both.response_mask.sum(1).tolist() == [1, 3, 1]
    with pytest.raises(ValueError, match="at least one part"):
        Rollouts.cat([])


def test_moved_rollouts_are_the_same(rollouts):
    moved = rollouts.to("cpu")
    assert moved.tokens.equal(rollouts.tokens)
    assert moved.responses() == rollouts.responses()


def test_the_loss_of_a_batch_is_divided_by_its_count():
    values = torch.tensor([3.0, 4.0], requires_grad=True)
    loss = Loss(values, torch.tensor(4))
    assert float(loss.mean().detach()) == pytest.approx(1.75)
    loss.mean().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.25, 0.25]
    assert float(Loss(torch.zeros(2), torch.tensor(0)).mean()) == 0.0
