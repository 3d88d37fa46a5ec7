"""Perplexity: worked number N25, sums over texts, and a model's losses whatever the batch."""

from __future__ import annotations

import math

import pytest

from heedlm.errors import HeedError, NotFinite
from heedlm.evals.perplexity import corpus_loss, moss_perplexity, perplexity, token_nlls


def test_n25() -> None:
    assert perplexity(2.0) == pytest.approx(7.389056, abs=1e-6)
    assert moss_perplexity([2.0], [100]) == pytest.approx(1.020201, abs=1e-6)


def test_tokens_weigh_the_same_across_texts() -> None:
    """(1 + 3 + 2)/3 = 2 nats a token, not the mean of the texts' means (2 + 2)/2 by luck of equal lengths."""
    loss = corpus_loss([[1.0], [3.0, 2.0]])
    assert loss.tokens == 3
    assert (loss.per_token, loss.logp) == pytest.approx((2.0, -6.0))
    assert loss.perplexity == pytest.approx(math.exp(2.0))
    assert loss.to_dict()["nll_per_token"] == pytest.approx(2.0)


def test_refusals() -> None:
    with pytest.raises(HeedError, match="no token"):
        corpus_loss([[], []])
    with pytest.raises(NotFinite):
        corpus_loss([[1.0, math.nan]])
    assert perplexity(1e6) == math.inf


def test_losses_do_not_depend_on_the_batch() -> None:
    """A uniform model over 8 tokens loses ln 8 on each; a random one the same alone as padded in a batch."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(config).double()
    model.train(True)
    rows = [[1, 2, 3, 4, 5], [1, 6], [1], [1, 7, 7]]
    together = token_nlls(model, rows)
    alone = [token_nlls(model, [row], batch=1)[0] for row in rows]
    assert [len(row) for row in together] == [4, 1, 0, 2]
    for one, two in zip(together, alone, strict=True):
        assert one == pytest.approx(two, rel=1e-9)
    assert model.training
    assert token_nlls(model, rows, from_token=[3, 1, 1, 2])[0] == pytest.approx(together[0][2:])
    torch.nn.init.zeros_(model.lm_head.weight)
    assert corpus_loss(token_nlls(model, rows)).perplexity == pytest.approx(8.0)
