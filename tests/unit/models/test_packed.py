"""Sequences laid end to end: what a model computes is what it computes for each alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit import devices
from tests.unit.train.tiny import exact
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from heedlm.models import attention, forward, logits, new_reward, token_scores
from heedlm.models.attention import packed_attention
from heedlm.models.forward import (
    compute_in,
    hidden_states,
    output_head,
    packs,
    sequence_logps,
    sequence_scores,
    sequence_statistics,
)
from heedlm.models.packed import pack_sequences, packed_length
from heedlm.ops import kernels
from heedlm.ops.logprobs import entropy, token_logps

Tiny = Callable[[str], PreTrainedModel]
ALL = ["llama", "gpt2", "qwen2", "mistral", "bloom"]
PACKING = ALL[:-1]
SEQUENCES = [[7, 8, 9], [3], [4, 4, 9, 1, 2, 6, 8, 30], [11, 12], [5, 6], [40], [21, 22, 23, 24, 25, 26, 27, 28, 29]]
PREFIXES = [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8], [], [9], [1, 2, 3, 4, 5, 6, 7, 8], [9], [30, 31]]


def alone(run: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """Of each sequence by itself: what `run` gives at the tokens that are its own."""
    whole = [[*prefix, *own] for prefix, own in zip(PREFIXES, SEQUENCES, strict=True)]
    return [run(torch.tensor([ids]))[0][-len(own) :] for ids, own in zip(whole, SEQUENCES, strict=True)]


@pytest.mark.parametrize("kind", ALL)
def test_each_sequence_is_as_if_alone(tiny: Tiny, kind: str) -> None:
    model = exact(tiny(kind))
    packed = pack_sequences(SEQUENCES, PREFIXES)
    assert packs(model) == (kind in PACKING)
    with torch.no_grad():
        found = hidden_states(model, packed)[packed.own]
        expected = torch.cat(alone(lambda ids: model.base_model(input_ids=ids, use_cache=False).last_hidden_state))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_and_entropies_are_those_of_the_plain_path(tiny: Tiny, kind: str, temperature: float) -> None:
    model = exact(tiny(kind))
    packed = pack_sequences(SEQUENCES, PREFIXES)
    targets = packed.own[packed.before[packed.own] != packed.own]  # not the first of the sequence without a prefix
    assert len(targets) == sum(map(len, SEQUENCES)) - 1

    def plain(measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        parts = alone(lambda ids: measure(logits(model, ids), ids))
        return torch.cat([part[1:] if not prefix else part for part, prefix in zip(parts, PREFIXES, strict=True)])

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        model.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    weights = torch.linspace(-1, 2, len(targets), dtype=torch.float64)
    found = sequence_logps(model, packed, targets, temperature)
    expected = plain(lambda out, ids: token_logps(out, ids, temperature))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    # BLOOM's own softmax is in float32, whatever the weights are.
    close = 1e-9 if kind in PACKING else 1e-5
    torch.testing.assert_close(gradient(found @ weights), gradient(expected @ weights), rtol=close, atol=close)
    logps, spread = sequence_statistics(model, packed, targets, temperature)
    torch.testing.assert_close(logps, expected.detach(), rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(spread, plain(lambda out, _: entropy(out, temperature)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
def test_scores_are_those_of_the_plain_path(tiny: Tiny, kind: str) -> None:
    reward = exact(new_reward(tiny(kind), seed=3))
    packed = pack_sequences(SEQUENCES, PREFIXES)
    with torch.no_grad():
        parts = alone(lambda ids: token_scores(reward, ids))
        found = sequence_scores(reward, packed, packed.last)
    torch.testing.assert_close(found, torch.stack([part[-1] for part in parts]), rtol=1e-9, atol=1e-12)


ids = st.lists(st.integers(0, 5), max_size=4)


@given(st.lists(st.tuples(ids, ids.filter(bool)), min_size=1, max_size=8))
def test_every_token_keeps_its_place_and_its_predecessor(pairs: list[tuple[list[int], list[int]]]) -> None:
    prefixes, sequences = [p for p, _ in pairs], [s for _, s in pairs]
    packed = pack_sequences(sequences, prefixes)
    assert len(packed) == packed_length(sequences, prefixes) == len(packed.positions)
    for prefix, own, (first, length) in zip(prefixes, sequences, packed.sequences, strict=True):
        whole = [*prefix, *own]
        assert packed.tokens[first : first + length].tolist() == own
        back, place = [], first + length - 1
        while True:  # walk back from the last token to the sequence's first
            back.append((int(packed.tokens[place]), int(packed.positions[place])))
            if int(packed.before[place]) == place:
                break
            place = int(packed.before[place])
        assert back[::-1] == list(zip(whole, range(len(whole)), strict=True))
    rows, places = packed.rows
    assert torch.equal(rows[places[:, 0], places[:, 1]], packed.tokens)
    assert torch.equal(places[:, 1], packed.positions)


def test_a_prefix_is_laid_down_once_and_only_where_it_is_shared() -> None:
    packed = pack_sequences([[1], [2], [3]], [[7, 8], [7, 8], [9]])
    assert packed.tokens.tolist() == [7, 8, 1, 2, 9, 3]
    assert packed.own.tolist() == [2, 3, 5]
    assert packed.before.tolist() == [0, 0, 1, 1, 4, 4]
    with pytest.raises(ValueError, match="at least one token of its own"):
        pack_sequences([[1], []], [[5], [5]])


def test_sequences_of_like_length_share_a_section() -> None:
    """Attention's padding, in cells of its padded rows, stays small beside rows that are all as long as the longest."""
    lengths = [4, 400, 30, 380, 25, 390, 200, 5, 210, 30]
    packed = pack_sequences([[1] * n for n in lengths])
    widths = [section.roots.index.shape for section in packed.sections]
    assert sum(section.tokens for section in packed.sections) == sum(lengths)
    assert len(widths) > 1
    assert sum(rows * width**2 for rows, width in widths) < 1.5 * sum(n**2 for n in lengths)
    again = pack_sequences([[1] * n for n in lengths], [[2, 3]] * 5 + [[4]] * 5)
    assert [section.branches is None for section in again.sections] == [False] * len(again.sections)


@pytest.mark.parametrize("alike", [0.8, 1.0])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_any_mixture_of_lengths_packs(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, alike: float, seed: int, count: int
) -> None:
    model = _gpt2(tiny)
    monkeypatch.setattr("heedlm.models.packed._ALIKE", alike)
    monkeypatch.setattr("heedlm.models.packed._FULL", 1)  # many sections even of short sequences
    generator = torch.Generator().manual_seed(seed)

    def some(least: int) -> list[int]:
        length = int(torch.randint(least, 14, (1,), generator=generator))
        return torch.randint(0, 50, (length,), generator=generator).tolist()

    pool = [some(0), some(1)]
    prefixes = [pool[int(torch.randint(0, 2, (1,), generator=generator))] for _ in range(count)]
    packed = pack_sequences([some(1) for _ in range(count)], prefixes)
    rows, places = packed.rows
    with torch.no_grad():
        plain = model.base_model(input_ids=rows, use_cache=False).last_hidden_state[places[:, 0], places[:, 1]]
        torch.testing.assert_close(hidden_states(model, packed), plain, rtol=1e-9, atol=1e-9)


_MADE: list[PreTrainedModel] = []


def _gpt2(tiny: Tiny) -> PreTrainedModel:
    if not _MADE:
        _MADE.append(tiny("gpt2"))
    return _MADE[0]


def test_a_model_that_scales_its_logits_takes_the_plain_path(tiny: Tiny) -> None:
    model = tiny("llama")
    plain_forward = model.forward

    def scaled(*args: object, **kwargs: object) -> object:
        out = plain_forward(*args, **kwargs)
        out.logits = out.logits * 0.5
        return out

    model.forward = scaled  # type: ignore[method-assign]
    assert output_head(model) is None
    packed = pack_sequences([[5, 6, 7, 8]])
    targets = torch.tensor([1, 2, 3])
    with torch.no_grad():
        expected = token_logps(logits(model, packed.tokens[None]), packed.tokens[None])[0, 1:]
        torch.testing.assert_close(sequence_logps(model, packed, targets), expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(sequence_statistics(model, packed, targets)[0], expected, rtol=1e-9, atol=1e-12)


def test_checkpointed_activations_give_the_same_gradient(tiny: Tiny) -> None:
    packed = pack_sequences(SEQUENCES, PREFIXES)
    gradients = []
    for checkpointing in (False, True):
        model = exact(tiny("llama")).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        sequence_logps(model, packed, packed.own[1:4]).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-14)


def test_computing_in_bfloat16_keeps_weights_and_losses_wide(tiny: Tiny) -> None:
    model = tiny("llama").float()
    packed = pack_sequences(SEQUENCES, PREFIXES)
    wide = sequence_logps(model, packed, packed.own[1:4])
    compute_in(model, torch.bfloat16)
    assert packs(model)
    narrow = sequence_logps(model, packed, packed.own[1:4])
    assert narrow.dtype == torch.float32
    assert 0 < float((narrow - wide).detach().abs().max()) < 0.5
    narrow.sum().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
    compute_in(model, None)
    assert torch.equal(sequence_logps(model, packed, packed.own[1:4]), wide)
    fresh = tiny("llama").float()
    compute_in(fresh, torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(sequence_logps(fresh, packed, packed.own[1:4]), narrow)
    assert packs(fresh)  # bfloat16's rounding is not taken for an inability to pack


def _masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None) -> torch.Tensor:
    """Attention of one sequence (n, heads, D), by a mask over all scores."""
    steps = torch.arange(len(q))
    back = steps[:, None] - steps
    seen = (back >= 0) & (back < (window or len(q)))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * 0.3
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


def _go(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention by loops in C, by products of one block of queries or of several, or by torch's kernel."""
    if way == "loops":
        if kernels.loops(torch.float64) is None:
            pytest.skip("no C compiler that makes the loops")
        return
    monkeypatch.setattr(attention, "loops", lambda dtype: None)
    monkeypatch.setattr(attention, "_KEPT", 0 if way == "torch" else 1024)
    monkeypatch.setattr(attention, "_BLOCK", 2 if way == "blocks" else 64)


LONG = [[1] * 70, [2] * 3, [3] * 129, [4] * 66, [5] * 64, [6]], [[7] * 67, [7] * 67, [], [8] * 2, [7] * 67, [8] * 2]


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-9), (torch.float32, 1e-4), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("way", ["loops", "products", "blocks", "torch"])
@pytest.mark.parametrize("long", [False, True])
def test_attention_and_its_gradients_are_those_of_each_sequence(
    window: int | None, dtype: torch.dtype, close: float, way: str, long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _go(way, monkeypatch)
    width = 20 if long else 8
    packed = pack_sequences(*LONG) if long else pack_sequences([*SEQUENCES, [3, 4, 5, 6, 7]], [*PREFIXES, []])
    assert any(section.branches is None for section in packed.sections)
    generator = torch.Generator().manual_seed(5)
    shapes = [(1, heads, len(packed), width) for heads in (4, 2, 2)]
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    weights = torch.randn((len(packed), 4, width), generator=generator, dtype=torch.float64)
    given = [part.clone().requires_grad_() for part in parts]
    out, _ = packed_attention(torch.nn.Module(), *given, None, packed, scaling=0.3, sliding_window=window)
    found = [out[0], *torch.autograd.grad((out[0] * weights).sum(), given)]

    exact = [part.double().requires_grad_() for part in parts]
    rows = [part[0].transpose(0, 1) for part in exact]
    wanted, total = torch.zeros_like(weights), torch.zeros((), dtype=torch.float64)
    counted = set[int]()
    for (start, before), (first, length) in zip(packed.prefixes, packed.sequences, strict=True):
        place = torch.tensor([*range(start, start + before), *range(first, first + length)])
        whole = _masked(*(x[place] for x in rows), window)
        new = [i for i, at in enumerate(place.tolist()) if at not in counted]  # a shared prefix counts once
        counted.update(place.tolist())
        wanted[place[new]] = whole[new].detach()
        total = total + (whole[new] * weights[place[new]]).sum()
    assert len(counted) == len(packed)
    for mine, theirs in zip(found, [wanted, *torch.autograd.grad(total, exact)], strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=close, atol=close)


@pytest.mark.parametrize("way", ["loops", "products", "torch"])
def test_tokens_added_for_the_kernels_change_nothing(tiny: Tiny, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _go(way, monkeypatch)
    model, packed, found = exact(tiny("llama")), pack_sequences(SEQUENCES, PREFIXES), []
    packs(model)
    for more in (0, 5):
        monkeypatch.setattr(forward, "_filling", lambda packed, more=more: more)
        model.zero_grad()
        logps = sequence_logps(model, packed, packed.own[1:4])
        logps.sum().backward()
        found.append(torch.cat([logps.detach(), *(p.grad.flatten() for p in model.parameters() if p.grad is not None)]))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)


def test_products_come_in_few_shapes(tiny: Tiny) -> None:
    """Making a kernel for a shape takes longer than the product: in bfloat16 on a processor one is made for each."""
    shapes = {pack_sequences([[1] * n]).sections[0].roots.index.shape for n in range(1, 65)}
    assert len(shapes) == 4
    model, seen = tiny("llama").float(), set()
    model.base_model.layers[0].register_forward_pre_hook(lambda _, args: seen.add(args[0].shape[1]))
    compute_in(model, torch.bfloat16)
    packs(model)
    seen.clear()
    with torch.no_grad():
        for count in (1, 63, 64):
            assert hidden_states(model, pack_sequences([[1] * count])).shape[0] == count
    assert seen == {64}


def test_products_that_need_no_gradient_keep_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    _go("products", monkeypatch)
    kept = []
    real = torch.autograd.function.FunctionCtx.save_for_backward
    monkeypatch.setattr(
        torch.autograd.function.FunctionCtx,
        "save_for_backward",
        lambda self, *xs: kept.append(len(xs)) or real(self, *xs),
    )
    packed = pack_sequences(SEQUENCES, PREFIXES)
    given = [torch.randn((1, 2, len(packed), 8)) for _ in range(3)]
    with torch.no_grad():
        packed_attention(torch.nn.Module(), *given, None, packed)
    packed_attention(torch.nn.Module(), given[0].requires_grad_(), *given[1:], None, packed)
    assert kept[0] == 3 < kept[1]


def test_rounding_of_a_deep_model_in_bfloat16_is_not_taken_for_an_inability_to_pack() -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 50}
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=24, initializer_range=0.15, **shape)).bfloat16().eval()
    assert packs(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_does_not_pack_says_so_once(
    tiny: Tiny, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forward, "_told", set())
    for _ in range(2):
        assert not packs(tiny("bloom").to(dtype))
    assert packs(tiny("llama").to(dtype))
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "BloomForCausalLM cannot compute packed rows"
    ]


@pytest.mark.parametrize(("dtype", "masked"), [(torch.bfloat16, False), (torch.bfloat16, True), (torch.float32, False)])
def test_a_gpu_gets_keys_and_values_without_copies_where_its_kernel_takes_them(
    dtype: torch.dtype, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn((heads, 2, 5, 8), generator=generator).to(dtype) for heads in (4, 2, 2))
    mask = torch.zeros(5, 5, dtype=dtype).masked_fill_(~torch.ones(5, 5).tril().bool(), -torch.inf) if masked else None
    wanted = attention._attend(q, k, v, mask, None, 0.0)
    heads = []
    real = attention.scaled_dot_product_attention

    def watched(*parts: torch.Tensor, **options: Any) -> torch.Tensor:
        heads.append((parts[1].shape[1], options["enable_gqa"]))
        return real(*parts, **options)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", watched)
    with devices.pretended(monkeypatch) as device:
        there = [None if x is None else x.to(device) for x in (q, k, v, mask)]
        found = attention._attend(*there, None, 0.0)
    torch.testing.assert_close(devices.here(found), wanted, atol=2e-2, rtol=2e-2)
    assert heads == [(2, True) if dtype == torch.bfloat16 and not masked else (4, False)]
