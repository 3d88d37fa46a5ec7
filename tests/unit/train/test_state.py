"""Training state on disk: what comes back is what went in, bit for bit."""

import errno
import math
import random

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from tests.unit import devices
from torch import nn

from heedlm.ops.types import Loss
from heedlm.train import state
from heedlm.train.learner import Learner, Term
from heedlm.train.loop import Best
from heedlm.train.optim import Optim
from heedlm.train.state import load_state, rng_state, save_state, seed_everything, set_rng_state


def same(a, b):
    """Equality that knows tensors and NaN, and for which 1 is not True and 1 is not 1.0."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
    elif isinstance(a, dict):
        assert [(type(key), key) for key in a] == [(type(key), key) for key in b]
        for key, value in a.items():
            same(value, b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, float) and math.isnan(a):
        assert math.isnan(b)
    else:
        assert a == b


tensors = st.builds(
    lambda dtype, shape, seed: torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 99),
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | tensors
keys = st.text("ab/0", max_size=3) | st.integers(0, 3)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(keys, trees, max_size=4))
def test_any_nested_state_comes_back(tmp_path_factory, state):
    folder = tmp_path_factory.mktemp("state")
    save_state(folder, state)
    same(load_state(folder), state)


def test_keys_that_look_alike_are_kept_apart(tmp_path):
    state = {"a": {"b": torch.tensor(1)}, "a/b": torch.tensor(2), 0: torch.tensor(3), "0": torch.tensor(4)}
    save_state(tmp_path, state)
    same(load_state(tmp_path), state)


def test_tied_and_strided_tensors_come_back(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    state = {"one": base, "tied": base, "part": base[:, 1:3], "turned": base.T}
    save_state(tmp_path, state, "again")
    found = load_state(tmp_path, "again")
    same(found, {name: value.contiguous() for name, value in state.items()})


def test_what_cannot_be_stored_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="cannot store set at /learner/seen"):
        save_state(tmp_path, {"learner": {"seen": {1, 2}}})


def test_an_optimiser_goes_on_as_if_never_stored(tmp_path):
    """AdamW's state is keyed by numbers and holds tensors of several shapes; its groups hold tuples and flags."""
    torch.manual_seed(1)
    one = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    two = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    optim = Optim(lr=0.01, weight_decay=0.1)
    first, second = Learner(one, optim, 10), Learner(two, optim, 10)

    def steps(learner, count, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            learner.optimizer.zero_grad()
            learner.model(torch.randn(5, 4, generator=generator)).square().mean().backward()
            learner.optimizer.step()

    steps(first, 3, seed=0)
    save_state(tmp_path, {"learner": first.state_dict()})
    second.load_state_dict(load_state(tmp_path)["learner"])
    steps(first, 3, seed=1)
    steps(second, 3, seed=1)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])
    assert first.optimizer.state_dict()["param_groups"] == [
        {**group, "betas": tuple(group["betas"])} for group in second.optimizer.state_dict()["param_groups"]
    ]


def test_random_generators_go_on_where_they_were(tmp_path):
    def draw():
        return random.random(), random.gauss(0, 1), numpy.random.normal(), numpy.random.rand(), torch.randn(3).tolist()

    before = rng_state()
    try:
        seed_everything(5)
        draw()
        random.gauss(0, 1)  # leaves a spare number inside the generator, as numpy's normal does
        numpy.random.normal()
        save_state(tmp_path, rng_state())
        first = draw()
        seed_everything(6)
        assert draw() != first
        set_rng_state(load_state(tmp_path))
        assert draw() == first
        seed_everything(5)
        seeded = draw()
        seed_everything(5)
        assert draw() == seeded
    finally:
        set_rng_state(before)


def test_generators_of_gpus_are_kept_where_something_was_drawn_on_one(monkeypatch):
    states = [torch.zeros(16, dtype=torch.uint8), torch.ones(16, dtype=torch.uint8)]
    put = []
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", put.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert "cuda" not in rng_state()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    state = rng_state()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # resumed where there are fewer
    set_rng_state(state)
    assert [len(given) for given in put] == [1]
    assert torch.equal(put[0][0], states[0])


def test_a_checkpoint_of_a_gpu_goes_on_there_and_on_the_cpu(tmp_path, monkeypatch):
    def learner(device):
        torch.manual_seed(0)
        return Learner(nn.Linear(3, 1).to(device), Optim(lr=0.1), 4)

    def step(held):
        x = torch.arange(6.0).view(2, 3).to(held.model.weight.device)
        held.update([Term(lambda: Loss(held.model(x).squeeze(1), torch.tensor(2)), 2)])

    plain = learner("cpu")
    step(plain)
    step(plain)
    with devices.pretended(monkeypatch) as device:
        first, second = learner(device), learner(device)
        step(first)
        best = Best(first.model)
        best.offer(1.0, 1)
        save_state(tmp_path, {"learner": first.state_dict(), "best": best.state_dict()})
        state = load_state(tmp_path)
        second.load_state_dict(state["learner"])
        step(second)
        torch.testing.assert_close(devices.here(second.model.weight), plain.model.weight)
        best = Best(second.model)
        best.load_state_dict(state["best"])
        best.restore()
        assert second.model.weight.device == device
        assert torch.equal(devices.here(second.model.weight), devices.here(first.model.weight))
    third = learner("cpu")
    third.load_state_dict(load_state(tmp_path)["learner"])
    step(third)
    torch.testing.assert_close(third.model.weight, plain.model.weight)


def test_a_full_disk_is_the_systems_error(tmp_path, monkeypatch):
    def full(tensors, path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        state.save_state(tmp_path, {"x": torch.zeros(2)})
    assert caught.value.errno == errno.ENOSPC
