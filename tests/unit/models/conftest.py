"""A small tokenizer and small random models of several architectures, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from heedlm.models import train_tokenizer

VOCABULARY = 50
TEXTS = [
    "Ann lives in the red house. She has 12 dogs.",
    "小猫在哪里？小猫在红房子里。",
    "Tell me a story, please!",
] * 50


def _build(kind: str) -> PreTrainedModel:
    common = {"vocab_size": VOCABULARY, "eos_token_id": 2, "bos_token_id": 1}
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
    }
    match kind:
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**common, **shape, num_key_value_heads=2))
        case "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**common, **shape, num_key_value_heads=2))
        case "mistral":  # with a window so short that the tests' rows outgrow it
            return MistralForCausalLM(MistralConfig(**common, **shape, num_key_value_heads=2, sliding_window=6))
        case "bloom":  # takes no position ids and cannot keep packed examples apart
            return BloomForCausalLM(BloomConfig(**common, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3))
        case _:
            return GPT2LMHeadModel(
                GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3)
            )


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], PreTrainedModel]:
    """`tiny("llama")`: a random causal model in float64 and eval mode, the same weights each time."""

    def make(kind: str) -> PreTrainedModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            model = _build(kind)
        return model.double().eval()

    return make


@pytest.fixture(scope="session")
def trained() -> PreTrainedTokenizerFast:
    """Heed's own tokenizer on a little Chinese and English; do not change its template."""
    return train_tokenizer(TEXTS, 320)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the test's own, to change as it likes."""
    return train_tokenizer(TEXTS, 320)
