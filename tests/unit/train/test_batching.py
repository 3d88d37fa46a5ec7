"""Rows into batches: nothing lost, nothing longer than allowed, and an order that needs no saving."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heedlm.train.batching import Order, Row, lay_out, microbatches, pack
from heedlm.train.language import chunk, packed

lengths_lists = st.lists(st.integers(1, 30), max_size=40)


def rows_of(lengths):
    """Rows whose tokens are all different, so that a lost or doubled one shows."""
    start, rows = 0, []
    for length in lengths:
        rows.append(Row(list(range(start, start + length)), [True] * length))
        start += length
    return rows


@given(lengths_lists, st.integers(1, 40))
def test_packing_loses_nothing_and_keeps_within_the_length(lengths, length):
    rows = rows_of(lengths)
    groups = pack(rows, length)
    found = [row.ids for group in groups for row in group]
    assert sorted(found) == sorted(row.ids for row in rows)
    for group in groups:
        assert group
        assert sum(map(len, group)) <= length or len(group) == 1


@given(lengths_lists.filter(bool), st.integers(8, 40), st.integers(0, 3))
def test_packing_after_a_shuffle_loses_nothing_either(lengths, length, seed):
    rows = rows_of(lengths)
    groups = packed(rows, length, seed)
    assert sorted(row.ids for group in groups for row in group) == sorted(row.ids for row in rows)
    assert groups == packed(rows, length, seed)


def test_packing_fills_rows_well():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 60, (400,), generator=generator).tolist()
    groups = pack(rows_of(lengths), 128)
    assert sum(lengths) / (128 * len(groups)) > 0.93


@given(lengths_lists, st.integers(1, 200))
def test_microbatches_are_a_partition_within_the_budget(lengths, budget):
    groups = microbatches(lengths, budget)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert sum(lengths[i] for i in group) <= budget or len(group) == 1
    widest = [max(lengths[i] for i in group) for group in groups]
    assert widest == sorted(widest, reverse=True)  # a lack of memory shows in the first pass


@given(lengths_lists.filter(bool))
def test_rows_are_laid_end_to_end_and_lose_their_first_token_from_the_loss(lengths):
    rows = rows_of(lengths)
    packed, targets = lay_out(rows)
    assert packed.tokens[packed.own].tolist() == [token for row in rows for token in row.ids]
    assert packed.positions[packed.own].tolist() == [place for length in lengths for place in range(length)]
    assert packed.tokens[targets].tolist() == [token for row in rows for token in row.ids[1:]]
    assert packed.tokens[packed.before[targets]].tolist() == [token for row in rows for token in row.ids[:-1]]


def test_a_mask_chooses_the_tokens_of_the_loss():
    rows = [Row([5, 6, 7], [True, False, True]), Row([8, 9], [True, True]), Row([4], [True])]
    packed, targets = lay_out(rows)
    assert packed.tokens[targets].tolist() == [7, 9]


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**70))
def test_every_example_comes_once_an_epoch(size, batch, seed):
    order = Order(size, batch, seed)
    epochs = 3
    steps = -(-epochs * size // batch)
    seen = [i for step in range(steps) for i in order.at(step)]
    for epoch in range(epochs):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == list(range(size))


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 9), st.lists(st.integers(0, 60), min_size=1))
def test_the_order_depends_on_seed_and_step_alone(size, batch, seed, asked):
    used = Order(size, batch, seed)
    for step in asked:
        assert used.at(step) == Order(size, batch, seed).at(step)


def test_epochs_and_seeds_shuffle_differently():
    order = Order(50, 50, seed=1)
    assert order.at(0) != order.at(1)
    assert order.at(0) != Order(50, 50, seed=2).at(0)
    assert order.at(0) != list(range(50))


def test_steps_of_an_order():
    assert Order(100, 10, 0).steps(1.0) == 10
    assert Order(100, 10, 0).steps(2.5) == 25
    assert Order(3, 10, 0).steps(0.1) == 1
    with pytest.raises(ValueError, match="at least one example"):
        Order(0, 4, 0)


@given(st.integers(0, 70), st.integers(2, 20))
def test_a_text_cut_into_rows_keeps_every_token(size, length):
    ids = list(range(size))
    rows = chunk(ids, length)
    found = [token for row in rows for token in row.ids]
    # A last row of one token has nothing to predict and is left out.
    assert found == (ids[:-1] if size % length == 1 else ids)
    assert all(2 <= len(row) <= length and all(row.mask) for row in rows)
