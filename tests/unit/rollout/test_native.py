"""The native engine beside `TransformersEngine`, transformers' own `generate` and the trainer's log-probs."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from heedlm.errors import BadInput, NotFinite
from heedlm.models import Chat, create, load_with_tokenizer, logits
from heedlm.models.adapters import Lora
from heedlm.ops.logprobs import token_logps
from heedlm.ops.sampling import warp
from heedlm.ops.types import Rollouts
from heedlm.records import Message
from heedlm.rollout import Native, Sampling, weights
from heedlm.rollout import native as native_module
from heedlm.rollout.native import NativeEngine
from heedlm.rollout.transformers import TransformersEngine

Tiny = Callable[..., PreTrainedModel]
EOS = frozenset({2, 5, 9})
KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, every head its keys": ("llama", {"num_key_value_heads": 4}),
    "llama, one head of keys": ("llama", {"num_key_value_heads": 1}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, scaled positions": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, long window": ("mistral", {"sliding_window": 48}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gpt2": ("gpt2", {}),
    "gpt2, scaled by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
}
SAMPLINGS = [
    Sampling(max_new_tokens=20),
    Sampling(max_new_tokens=20, temperature=0),
    Sampling(max_new_tokens=20, temperature=0.7),
    Sampling(max_new_tokens=20, temperature=1.3, top_p=0.8, top_k=10),
]


@pytest.fixture(params=sorted(KINDS))
def model(request: pytest.FixtureRequest, tiny: Tiny) -> PreTrainedModel:
    kind, extra = KINDS[request.param]
    return tiny(kind, **extra)


def prompts(count: int, seed: int = 0, longest: int = 9) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(40) for _ in range(rng.randrange(1, longest + 1))] for _ in range(count)]


def same(one: Rollouts, other: Rollouts, tol: float = 1e-9) -> None:
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.lengths, other.lengths)
    assert torch.equal(one.prompt_lengths, other.prompt_lengths)
    assert torch.equal(one.ended, other.ended)
    torch.testing.assert_close(one.logps, other.logps, rtol=tol, atol=tol)


def native(model: PreTrainedModel, max_batch: int = 256) -> NativeEngine:
    """The engine, which must not hand over to another."""
    engine = NativeEngine(model, EOS, max_batch)
    assert native_module.why_not(model) is None
    return engine


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_answers_are_those_of_the_transformers_engine(model: PreTrainedModel, sampling: Sampling) -> None:
    asked = prompts(24) + [[7, 8, 9]] * 6
    same(native(model).generate(asked, sampling, seed=3), TransformersEngine(model, EOS).generate(asked, sampling, 3))


@pytest.mark.parametrize("max_batch", [4, 256])
def test_without_loops_in_c_the_answers_are_the_same(
    model: PreTrainedModel, max_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, sampling = prompts(24), Sampling(max_new_tokens=20)
    wanted = native(model, max_batch).generate(asked, sampling, seed=3)
    monkeypatch.setattr(weights, "loops", lambda dtype: None)
    same(native(model, max_batch).generate(asked, sampling, seed=3), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_greedy_tokens_are_those_of_generate(model: PreTrainedModel, dtype: torch.dtype) -> None:
    model, asked = model.to(dtype), prompts(6, seed=4)
    ours = native(model, 4).generate(asked, Sampling(temperature=0, max_new_tokens=25), seed=0).responses()
    settings = GenerationConfig(max_new_tokens=25, do_sample=False, eos_token_id=sorted(EOS), pad_token_id=0)
    for prompt, answer in zip(asked, ours, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]), generation_config=settings, attention_mask=torch.ones(1, len(prompt))
        )
        assert answer == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("sampling", [s for s in SAMPLINGS if s.temperature])
def test_stored_logps_are_those_of_a_training_pass(model: PreTrainedModel, sampling: Sampling) -> None:
    rollouts = native(model, 7).generate(prompts(24), sampling, seed=3)
    with torch.no_grad():
        warped = warp(logits(model, rollouts.tokens), sampling.temperature, sampling.top_k, sampling.top_p)
        again = token_logps(warped, rollouts.tokens)
    mask = rollouts.response_mask
    torch.testing.assert_close(rollouts.logps[mask], again[mask], rtol=1e-9, atol=1e-9)
    assert bool((rollouts.logps[~mask] == 0).all())
    assert bool(rollouts.logps.isfinite().all())


def test_stored_logps_in_single_precision(model: PreTrainedModel) -> None:
    rollouts = native(model.float()).generate(prompts(24), Sampling(max_new_tokens=20), seed=3)
    assert rollouts.logps.dtype == torch.float32
    with torch.no_grad():
        again = token_logps(logits(model, rollouts.tokens), rollouts.tokens)
    mask = rollouts.response_mask
    torch.testing.assert_close(rollouts.logps[mask], again[mask], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("max_batch", [1, 2, 3, 7, 13])
def test_the_number_of_slots_changes_nothing(model: PreTrainedModel, max_batch: int) -> None:
    asked, sampling = prompts(29, longest=14) + [[7, 8, 9]] * 5, Sampling(max_new_tokens=30)
    same(native(model).generate(asked, sampling, seed=5), native(model, max_batch).generate(asked, sampling, seed=5))


@given(
    lengths=st.lists(st.integers(1, 47), min_size=1, max_size=14),
    max_batch=st.integers(1, 16),
    most=st.integers(1, 60),
    seed=st.integers(0, 9),
    alike=st.booleans(),
)
def test_any_lengths(tiny: Tiny, lengths: list[int], max_batch: int, most: int, seed: int, alike: bool) -> None:
    model, rng = tiny("llama"), random.Random(seed)
    asked = [[3 if alike else rng.randrange(40) for _ in range(length)] for length in lengths]
    sampling = Sampling(max_new_tokens=most)
    same(
        native(model, max_batch).generate(asked, sampling, seed),
        TransformersEngine(model, EOS).generate(asked, sampling, seed),
    )


def test_prompts_are_read_in_parts(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, sampling = prompts(20) + [[7, 8, 9]] * 5, Sampling(max_new_tokens=10)
    whole = native(model).generate(asked, sampling, seed=5)
    monkeypatch.setattr("heedlm.rollout.decoding._READ", 12)
    same(whole, native(model).generate(asked, sampling, seed=5))
    same(whole, native(model, 4).generate(asked, sampling, seed=5))


def test_equal_prompts_are_read_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = native_module.read

    def watched(*args: object) -> object:
        network = plain(*args)  # type: ignore[arg-type]
        prefill = type(network).prefill
        monkeypatch.setattr(
            type(network),
            "prefill",
            lambda self, tokens, *rest: (read.append(len(tokens)), prefill(self, tokens, *rest))[1],
        )
        return network

    monkeypatch.setattr(native_module, "read", watched)
    asked = [[4, 5, 6], [7, 8]] * 6
    rollouts = native(tiny("llama"), 5).generate(asked, Sampling(max_new_tokens=20), seed=2)
    assert read == [5]
    assert len({tuple(a) for a in rollouts.responses()[::2]}) > 1


def test_a_bound_engine_follows_the_model_as_it_is_trained(trained: PreTrainedTokenizerFast) -> None:
    model, chat = create("tiny", trained, context=64), Chat(trained)
    engine = Native().bind(model, trained)
    assert isinstance(engine, NativeEngine)
    ids = chat.conversation([Message(role="user", content="Who?"), Message(role="assistant", content="Ann")])[0]
    prompt = chat.prompt_ids([Message(role="user", content="Who?")])
    before = engine.generate([prompt], Sampling(temperature=0), seed=0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        loss = -token_logps(logits(model, torch.tensor([ids])), torch.tensor([ids])).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    rollouts = engine.generate([prompt], Sampling(temperature=0), seed=0)
    assert rollouts.ended.tolist() == [True]
    assert chat.decode(rollouts.responses()[0]) == "Ann"
    assert rollouts.responses() != before.responses()


def test_one_training_step_is_seen(model: PreTrainedModel) -> None:
    engine, asked = native(model), prompts(8)
    first = engine.generate(asked, Sampling(), seed=0)
    logits(model, first.tokens).logsumexp(-1).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1e-4).step()
    again = engine.generate(asked, Sampling(), seed=0)
    assert not torch.equal(first.logps, again.logps)
    same(again, TransformersEngine(model, EOS).generate(asked, Sampling(), seed=0))


def test_sync_takes_over_weights(tiny: Tiny) -> None:
    policy, copy = tiny("llama"), tiny("llama")
    with torch.no_grad():
        for p in policy.parameters():
            p.mul_(1.5)
    engine = native(copy)
    engine.sync(policy.state_dict())
    same(engine.generate(prompts(6), Sampling(), seed=0), native(policy).generate(prompts(6), Sampling(), seed=0))


def test_answers_end_at_the_first_token_and_where_the_context_is_full(model: PreTrainedModel) -> None:
    with torch.no_grad():
        rollouts = NativeEngine(model, frozenset(range(40)), 2).generate([[3]] * 5, Sampling(), seed=0)
    assert rollouts.response_lengths.tolist() == [1] * 5
    assert rollouts.ended.tolist() == [True] * 5
    asked = [[3] * 47, [3] * 40, [3], [3] * 5, [3] * 47]
    for max_batch in (1, 2, 9):
        rollouts = NativeEngine(model, frozenset({99}), max_batch).generate(asked, Sampling(max_new_tokens=10), seed=0)
        assert rollouts.response_lengths.tolist() == [1, 8, 10, 10, 1]
        assert rollouts.ended.tolist() == [False] * 5


def test_prompts_that_cannot_be_answered_are_one_line(tiny: Tiny) -> None:
    with pytest.raises(BadInput, match="prompt 2 of 2 has no tokens"):
        native(tiny("llama")).generate([[3], []], Sampling(), seed=0)
    with pytest.raises(BadInput, match="prompt 2 of 2 has 48 tokens and leaves no room"):
        native(tiny("llama")).generate([[3], [3] * 48], Sampling(), seed=0)


def test_no_prompts_give_no_rows(tiny: Tiny) -> None:
    assert native(tiny("llama")).generate([], Sampling(), seed=0).responses() == []


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_stop_the_run(tiny: Tiny, temperature: float, value: float) -> None:
    model = tiny("llama").train()
    with torch.no_grad():
        model.lm_head.weight[3] = value
    with pytest.raises(NotFinite, match="NaN"):
        native(model).generate(prompts(3), Sampling(temperature=temperature), seed=0)
    assert model.training


def test_the_model_and_the_random_state_are_left_alone(model: PreTrainedModel) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    before = {name: p.clone() for name, p in model.state_dict().items()}
    state = torch.random.get_rng_state()
    rollouts = native(model).generate(prompts(4), Sampling(), seed=0)
    assert model.training
    assert not rollouts.logps.requires_grad
    assert not any(part.is_inference() for part in (rollouts.tokens, rollouts.logps, rollouts.lengths, rollouts.ended))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    same(rollouts, native(model.eval()).generate(prompts(4), Sampling(), seed=0))
    logits(model, rollouts.tokens).sum().backward()  # rollouts can be trained on


def test_half_precision_is_close(model: PreTrainedModel) -> None:
    model = model.float()
    rollouts = NativeEngine(model, EOS, dtype="bfloat16").generate(prompts(24), Sampling(max_new_tokens=20), seed=3)
    with torch.no_grad():
        again = token_logps(logits(model, rollouts.tokens), rollouts.tokens)
    mask = rollouts.response_mask
    gap = (rollouts.logps - again)[mask].abs()
    assert 0 < float(gap.mean()) < 0.1


def test_a_model_of_half_precision_is_decoded_in_it(tiny: Tiny) -> None:
    model = tiny("llama").bfloat16()
    rollouts = native(model).generate(prompts(8), Sampling(max_new_tokens=8), seed=3)
    assert rollouts.logps.dtype == torch.float32
    with torch.no_grad():
        again = token_logps(logits(model, rollouts.tokens).float(), rollouts.tokens)
    mask = rollouts.response_mask
    assert float((rollouts.logps - again)[mask].abs().mean()) < 0.1


def test_a_merged_adapter_is_sampled_from(model: PreTrainedModel) -> None:
    asked, sampling = prompts(8), Sampling(max_new_tokens=20)
    plain = native(model).generate(asked, sampling, seed=0)
    adapted = Lora(rank=2).on(model, seed=1)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.3)
    with adapted.on() as placed:
        assert "is not a plain layer" in str(native_module.why_not(placed))
    with adapted.merged() as merged:
        rollouts = native(merged).generate(asked, sampling, seed=0)
    assert not torch.equal(rollouts.logps[:, :9], plain.logps[:, :9])
    with torch.no_grad(), adapted.on() as placed:
        again = token_logps(logits(placed, rollouts.tokens), rollouts.tokens)
    mask = rollouts.response_mask
    torch.testing.assert_close(rollouts.logps[mask], again[mask], rtol=1e-9, atol=1e-9)
    same(native(model).generate(asked, sampling, seed=0), plain)


class Odd(torch.nn.Linear):
    """A product that is not what its class says."""


def changed(model: PreTrainedModel, what: str) -> PreTrainedModel:
    block = model.model.layers[1].self_attn
    if what == "a wrapped product":
        block.q_proj = Odd(32, 32, bias=False).double()
    elif what == "a parametrised product":
        torch.nn.utils.parametrizations.weight_norm(block.v_proj)
    else:
        model.lm_head = Odd(32, 40, bias=False).double()
    return model


@pytest.mark.parametrize("what", ["a wrapped product", "a parametrised product", "a wrapped head"])
def test_what_it_cannot_read_goes_to_the_other_engine(
    tiny: Tiny, trained: PreTrainedTokenizerFast, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    native_module._told.clear()
    model = changed(tiny("llama"), what)
    with caplog.at_level(logging.WARNING):
        engines = [Native(max_batch=7).bind(model, trained) for _ in range(2)]
    assert all(isinstance(engine, TransformersEngine) for engine in engines)
    assert engines[0].max_batch == 7
    assert caplog.text.count("is not a plain layer") == 1


def test_models_it_does_not_know_go_to_the_other_engine(tiny: Tiny, trained: PreTrainedTokenizerFast) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    for model in (tiny("bloom"), tiny("llama", rope_parameters=rope)):
        assert isinstance(Native().bind(model, trained), TransformersEngine)
    mixed = tiny("llama")
    mixed.lm_head.float()
    assert native_module.why_not(mixed) == "its weights are of mixed or unusual precision"


@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_rows_longer_than_a_sliding_window_go_to_the_other_engine(
    tiny: Tiny, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    native_module._told.clear()
    extra = {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1} if kind == "qwen2" else {}
    model, sampling = tiny(kind, **extra), Sampling(max_new_tokens=20)
    engine = native(model)
    short = [[3, 4], [5]]
    same(
        engine.generate(short, Sampling(max_new_tokens=6), 1),
        TransformersEngine(model, EOS).generate(short, Sampling(max_new_tokens=6), 1),
    )
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        ours = engine.generate(prompts(6), sampling, seed=1)
    assert "longer than its sliding window of 8" in caplog.text
    same(ours, TransformersEngine(model, EOS).generate(prompts(6), sampling, seed=1))


def test_a_real_model(shared: Path) -> None:
    model, tokenizer = load_with_tokenizer(shared / "models" / "stories260K")
    engine = NativeEngine(model, frozenset({2}), 3)
    asked = [tokenizer(text).input_ids for text in ("Once upon a time", "Lily had", "The big dog", "One day, Tom", "A")]
    ours = engine.generate(asked, Sampling(temperature=0, max_new_tokens=60), seed=0).responses()
    settings = GenerationConfig(max_new_tokens=60, do_sample=False, eos_token_id=2, pad_token_id=0)
    for prompt, answer in zip(asked, ours, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]), generation_config=settings, attention_mask=torch.ones(1, len(prompt))
        )
        assert answer == theirs[0, len(prompt) :].tolist()
    sampled = engine.generate(asked, Sampling(max_new_tokens=60), seed=2)
    with torch.no_grad():
        again = token_logps(logits(model, sampled.tokens), sampled.tokens)
    mask = sampled.response_mask
    torch.testing.assert_close(sampled.logps[mask], again[mask], rtol=1e-4, atol=1e-4)
