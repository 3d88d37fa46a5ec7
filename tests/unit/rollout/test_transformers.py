from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerFast

from heedlm.errors import BadInput, NotFinite
from heedlm.models import Chat, create, logits
from heedlm.ops.logprobs import token_logps
from heedlm.ops.sampling import warp
from heedlm.ops.types import Rollouts
from heedlm.records import Message
from heedlm.rollout import Sampling, Transformers
from heedlm.rollout.cache import BufferLayer
from heedlm.rollout.transformers import TransformersEngine

Tiny = Callable[..., PreTrainedModel]
EOS = frozenset({2, 5, 9})  # several ends, so that rows end at different times


def prompts(count: int, seed: int = 0, longest: int = 9) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(40) for _ in range(rng.randrange(1, longest + 1))] for _ in range(count)]


def same(one: Rollouts, other: Rollouts) -> None:
    assert one.responses() == other.responses()
    assert torch.equal(one.ended, other.ended)
    torch.testing.assert_close(one.logps, other.logps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=20),
        Sampling(max_new_tokens=20, temperature=0.7),
        Sampling(max_new_tokens=20, temperature=1.3, top_p=0.8, top_k=10),
    ],
)
def test_stored_logps_are_those_of_a_training_pass(tiny: Tiny, kind: str, sampling: Sampling) -> None:
    model = tiny(kind)
    rollouts = TransformersEngine(model, EOS).generate(prompts(24), sampling, seed=3)
    with torch.no_grad():
        warped = warp(logits(model, rollouts.tokens), sampling.temperature, sampling.top_k, sampling.top_p)
        again = token_logps(warped, rollouts.tokens)
    mask = rollouts.response_mask
    torch.testing.assert_close(rollouts.logps[mask], again[mask], rtol=1e-9, atol=1e-9)
    assert bool((rollouts.logps[~mask] == 0).all())
    assert bool(rollouts.logps.isfinite().all())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom"])
def test_stored_logps_in_single_precision(tiny: Tiny, kind: str) -> None:
    model = tiny(kind).float()
    rollouts = TransformersEngine(model, EOS).generate(prompts(24), Sampling(max_new_tokens=20), seed=3)
    with torch.no_grad():
        again = token_logps(logits(model, rollouts.tokens), rollouts.tokens)
    mask = rollouts.response_mask
    torch.testing.assert_close(rollouts.logps[mask], again[mask], rtol=1e-5, atol=1e-5)


def test_rows_hold_prompt_then_answer(tiny: Tiny) -> None:
    given_prompts = prompts(24)
    rollouts = TransformersEngine(tiny("llama"), EOS).generate(given_prompts, Sampling(max_new_tokens=12), seed=1)
    assert rollouts.prompt_lengths.tolist() == [len(p) for p in given_prompts]
    assert rollouts.tokens.shape[1] == int(rollouts.lengths.max())
    for i, answer in enumerate(rollouts.responses()):
        assert rollouts.tokens[i, : len(given_prompts[i])].tolist() == given_prompts[i]
        assert 1 <= len(answer) <= 12
        assert bool(rollouts.ended[i]) == (answer[-1] in EOS)
        assert not set(answer[:-1]) & EOS
        assert bool(rollouts.ended[i]) or len(answer) == 12
    assert int(rollouts.ended.sum()) > 0


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
def test_neither_batch_size_nor_company_changes_an_answer(tiny: Tiny, kind: str) -> None:
    model, asked, sampling = tiny(kind), prompts(16), Sampling(max_new_tokens=15)
    together = TransformersEngine(model, EOS).generate(asked, sampling, seed=5)
    same(together, TransformersEngine(model, EOS, max_batch=3).generate(asked, sampling, seed=5))
    same(together, TransformersEngine(model, EOS, max_batch=1).generate(asked, sampling, seed=5))
    fewer = TransformersEngine(model, EOS).generate(asked[:7], sampling, seed=5)
    assert fewer.responses() == together.responses()[:7]


def test_the_seed_decides(tiny: Tiny) -> None:
    engine, asked = TransformersEngine(tiny("llama"), EOS), prompts(8)
    torch.manual_seed(1)
    one = engine.generate(asked, Sampling(), seed=5)
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    same(one, engine.generate(asked, Sampling(), seed=5))
    assert one.responses() != engine.generate(asked, Sampling(), seed=6).responses()
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_equal_prompts_are_read_once_and_answered_differently(tiny: Tiny) -> None:
    model = tiny("gpt2")
    read: list[int] = []
    model.register_forward_pre_hook(lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True)
    asked = [[4, 5, 6]] * 6 + [[7, 8]] * 6
    rollouts = TransformersEngine(model, EOS).generate(asked, Sampling(max_new_tokens=20), seed=2)
    assert read[0] == 2 * 3
    assert len({tuple(a) for a in rollouts.responses()[:6]}) > 1
    shuffled = [asked[i] for i in (0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11)]
    again = TransformersEngine(model, EOS, max_batch=5).generate(shuffled, Sampling(max_new_tokens=20), seed=2)
    with torch.no_grad():
        logps = token_logps(logits(model, again.tokens), again.tokens)
    torch.testing.assert_close(again.logps, torch.where(again.response_mask, logps, 0.0), rtol=1e-9, atol=1e-9)


def test_samples_follow_the_models_distribution(tiny: Tiny) -> None:
    model = tiny("llama")
    n = 20_000
    rollouts = TransformersEngine(model, frozenset({99}), max_batch=n).generate(
        [[3, 4]] * n, Sampling(max_new_tokens=1, temperature=1.5), seed=0
    )
    with torch.no_grad():
        expected = (logits(model, torch.tensor([[3, 4]]))[0, -1] / 1.5).softmax(-1) * n
    seen = torch.bincount(rollouts.tokens[:, 2], minlength=40).double()
    big = expected > 5
    statistic = ((seen - expected)[big] ** 2 / expected[big]).sum().item()
    freedom = int(big.sum())
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5


def test_the_models_mode_and_weights_are_left_alone(tiny: Tiny) -> None:
    model = tiny("gpt2").train()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    rollouts = TransformersEngine(model, EOS).generate(prompts(4), Sampling(), seed=0)
    assert model.training
    assert not rollouts.logps.requires_grad
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    logits(model, rollouts.tokens).sum().backward()  # rollouts can be trained on


def test_dropout_is_off_while_sampling(tiny: Tiny) -> None:
    model = tiny("gpt2")
    quiet = TransformersEngine(model, EOS).generate(prompts(6), Sampling(), seed=0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    same(quiet, TransformersEngine(model.train(), EOS).generate(prompts(6), Sampling(), seed=0))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_answers_stop_where_the_context_is_full(tiny: Tiny, kind: str) -> None:
    engine = TransformersEngine(tiny(kind), frozenset({99}))
    asked = [[3] * 47, [3] * 40, [3] * 5]
    rollouts = engine.generate(asked, Sampling(max_new_tokens=10), seed=0)
    assert rollouts.response_lengths.tolist() == [1, 8, 10]
    assert rollouts.ended.tolist() == [False] * 3
    with pytest.raises(BadInput, match="prompt 2 of 2 has 48 tokens and leaves no room"):
        engine.generate([[3], [3] * 48], Sampling(), seed=0)


def test_an_empty_prompt_is_one_line(tiny: Tiny) -> None:
    with pytest.raises(BadInput, match="prompt 2 of 2 has no tokens"):
        TransformersEngine(tiny("llama"), EOS).generate([[3], []], Sampling(), seed=0)


def test_no_prompts_give_no_rows(tiny: Tiny) -> None:
    rollouts = TransformersEngine(tiny("llama"), EOS).generate([], Sampling(), seed=0)
    assert len(rollouts) == 0
    assert rollouts.responses() == []


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_not_numbers_stop_the_run(tiny: Tiny, temperature: float) -> None:
    model = tiny("llama").train()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NotFinite, match="NaN"):
        TransformersEngine(model, EOS).generate(prompts(3), Sampling(temperature=temperature), seed=0)
    assert model.training


def test_sync_takes_over_weights(tiny: Tiny) -> None:
    policy, copy = tiny("llama"), tiny("llama")
    with torch.no_grad():
        for p in policy.parameters():
            p.mul_(1.5)
    engine = TransformersEngine(copy, EOS)
    engine.sync(policy.state_dict())
    same(
        engine.generate(prompts(6), Sampling(), seed=0),
        TransformersEngine(policy, EOS).generate(prompts(6), Sampling(), seed=0),
    )


def test_a_bound_engine_follows_the_model_as_it_is_trained(trained: PreTrainedTokenizerFast) -> None:
    model, chat = create("tiny", trained, context=64), Chat(trained)
    engine = Transformers().bind(model, trained)
    ids = chat.conversation([Message(role="user", content="Who?"), Message(role="assistant", content="Ann")])[0]
    prompt = chat.prompt_ids([Message(role="user", content="Who?")])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        loss = -token_logps(logits(model, torch.tensor([ids])), torch.tensor([ids])).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    rollouts = engine.generate([prompt], Sampling(temperature=0), seed=0)
    assert rollouts.ended.tolist() == [True]
    assert chat.decode(rollouts.responses()[0]) == "Ann"


@given(data=st.data())
def test_buffers_hold_what_concatenation_would(data: st.DataObject) -> None:
    buffer, plain = BufferLayer(12), DynamicCache().layer_class_to_replicate()
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    rows = data.draw(st.integers(1, 4))
    for size in data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)):
        new = torch.randn(2, rows, 2, size, 3, generator=generator)
        for one, other in zip(buffer.update(new[0], new[1]), plain.update(new[0], new[1]), strict=True):
            assert torch.equal(one, other)
        assert buffer.get_seq_length() == plain.get_seq_length()
        index = torch.tensor(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=5)))
        buffer.batch_select_indices(index)
        plain.batch_select_indices(index)
        rows = len(index)
