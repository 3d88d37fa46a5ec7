from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from heedlm.models import calibrate, calibration, context_limit, logits, new_reward, reward_scores, token_scores
from heedlm.models.forward import positions_of

Tiny = Callable[[str], PreTrainedModel]
ALL = ["llama", "gpt2", "qwen2", "mistral", "bloom"]


def rows(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 50, (1, n), generator=generator) for n in lengths]


def padded(parts: list[torch.Tensor], side: str, with_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(p.shape[1] for p in parts)
    tokens = torch.full((len(parts), width), with_id)
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for i, p in enumerate(parts):
        place = slice(width - p.shape[1], None) if side == "left" else slice(0, p.shape[1])
        tokens[i, place], mask[i, place] = p[0], True
    return tokens, mask


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", [0, 2, 49])
def test_padding_side_and_padding_id_change_no_real_logit(tiny: Tiny, kind: str, side: str, pad: int) -> None:
    model = tiny(kind)
    parts = rows(11, 3, 7, 1)
    tokens, mask = padded(parts, side, pad)
    with torch.no_grad():
        together = logits(model, tokens, mask)
        for row, part in enumerate(parts):
            alone = model(input_ids=part, use_cache=False).logits[0]
            torch.testing.assert_close(together[row][mask[row]], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ALL)
def test_right_padded_rows_need_no_mask(tiny: Tiny, kind: str) -> None:
    model = tiny(kind)
    tokens, mask = padded(rows(9, 4), "right", 0)
    with torch.no_grad():
        assert torch.equal(logits(model, tokens)[mask], logits(model, tokens, mask)[mask])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradients_stay_finite_where_whole_columns_are_padding(tiny: Tiny, kind: str) -> None:
    model = tiny(kind)
    tokens, mask = padded(rows(8, 1), "left", 0)
    logits(model, tokens, mask)[mask].log_softmax(-1).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_learned_positions_shift_without_position_ids(tiny: Tiny) -> None:
    """The defect this guards against: GPT-2 read at positions counted from the padding."""
    model = tiny("gpt2")
    tokens, mask = padded(rows(8, 3), "left", 0)
    with torch.no_grad():
        wrong = model(input_ids=tokens, attention_mask=mask.long(), use_cache=False).logits[1][mask[1]]
        right = logits(model, tokens, mask)[1][mask[1]]
    assert (wrong - right).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_reward_is_read_at_the_last_real_token(tiny: Tiny, kind: str) -> None:
    reward = new_reward(tiny(kind))
    parts = rows(9, 4, 1)
    lengths = torch.tensor([9, 4, 1])
    for pad in (0, 2, int(parts[1][0, -1])):
        tokens, _ = padded(parts, "right", pad)
        with torch.no_grad():
            together = reward_scores(reward, tokens, lengths)
            alone = torch.cat([token_scores(reward, p)[:, -1] for p in parts])
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_token_scores_with_padding_on_the_left(tiny: Tiny) -> None:
    reward = new_reward(tiny("gpt2"))
    parts = rows(9, 4)
    tokens, mask = padded(parts, "left", 0)
    with torch.no_grad():
        torch.testing.assert_close(
            token_scores(reward, tokens, mask)[1][mask[1]], token_scores(reward, parts[1])[0], rtol=1e-9, atol=1e-12
        )


def test_calibration_is_gain_times_head_plus_bias(tiny: Tiny) -> None:
    """docs/methods.md N6: scores .4, 1, -.2, .8 to mean 0 and standard deviation 1."""
    reward = new_reward(tiny("llama"))
    (tokens,) = rows(5)
    with torch.no_grad():
        raw = token_scores(reward, tokens)
        calibrate(reward, gain=2.182179, bias=-1.091089)
        torch.testing.assert_close(token_scores(reward, tokens), raw * 2.182179 - 1.091089)
    assert calibration(reward) == (2.182179, -1.091089)
    scores = torch.tensor([0.4, 1.0, -0.2, 0.8]) * 2.182179 - 1.091089
    assert scores.mean().abs() < 1e-6
    assert abs(scores.std(unbiased=False).item() - 1) < 1e-6


def test_context_limit_is_the_models(tiny: Tiny) -> None:
    assert context_limit(tiny("llama")) == 64
    assert context_limit(tiny("gpt2")) == 64
    assert context_limit(tiny("bloom")) is None


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4))
def test_positions_count_real_tokens(mask: list[list[bool]]) -> None:
    found = positions_of(torch.tensor(mask))
    for row, positions in zip(mask, found.tolist(), strict=True):
        assert [p for p, real in zip(positions, row, strict=True) if real] == list(range(sum(row)))
        assert min(positions) >= 0
