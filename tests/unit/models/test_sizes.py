from __future__ import annotations

import math

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from heedlm.errors import BadInput
from heedlm.models import SIZES, create, logits, parameters, train_tokenizer, weights_hash

MILLIONS = {"tiny": 0.3, "small": 1.0, "base": 3.0, "large": 8.0}


@pytest.fixture(scope="module")
def thousand() -> PreTrainedTokenizerFast:
    """A tokenizer of exactly 1,024 tokens."""
    words = [f"{a}{b}{c}{d}" for a in "bcdfghklmn" for b in "aeiou" for c in "prstvwxz" for d in "aeiou"]
    tokenizer = train_tokenizer([" ".join(words)] * 3, 1024)
    assert len(tokenizer) == 1024
    return tokenizer


@pytest.mark.parametrize("size", SIZES)
def test_sizes_hold_what_their_names_promise(size: str, thousand: PreTrainedTokenizerFast) -> None:
    model = create(size, thousand)
    assert abs(parameters(model) / (MILLIONS[size] * 1e6) - 1) < 0.15
    config = model.config
    assert config.num_key_value_heads == config.num_attention_heads
    assert config.head_dim >= 16
    assert config.head_dim % 8 == 0
    assert config.max_position_embeddings == 256
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 0)
    tokens = torch.randint(6, 1024, (4, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(logits(model, tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(loss.item() - math.log(1024)) < 0.3


def test_weights_depend_on_the_seed_alone(thousand: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    one = weights_hash(create("tiny", thousand, seed=5))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    assert one == weights_hash(create("tiny", thousand, seed=5))
    assert one != weights_hash(create("tiny", thousand, seed=6))


def test_a_tiny_model_learns_at_the_usual_rate(thousand: PreTrainedTokenizerFast) -> None:
    model = create("tiny", thousand).train()
    rows = torch.randint(6, 1024, (8, 24), generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(logits(model, rows)[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1.0


@pytest.mark.parametrize(("size", "context", "says"), [("huge", 256, "huge"), ("tiny", 4, "context=4")])
def test_wrong_sizes_are_one_line(size: str, context: int, says: str, thousand: PreTrainedTokenizerFast) -> None:
    with pytest.raises(BadInput, match=says):
        create(size, thousand, context=context)
