"""A small tokenizer and random models that answer in a few tokens."""

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
    Qwen3Config,
    Qwen3ForCausalLM,
)

from heedlm.models import train_tokenizer


@pytest.fixture(scope="session")
def trained() -> PreTrainedTokenizerFast:
    """Heed's own tokenizer on a little text."""
    return train_tokenizer(["Ann lives in the red house.", "小猫在哪里？"] * 50, 300)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., PreTrainedModel]:
    """`tiny("llama", vocab=40)`: a random causal model in float64, whose context holds 48 tokens.

    Further arguments go to the model's config, before those that all kinds have.
    """

    def make(kind: str, vocab: int = 40, **extra: object) -> PreTrainedModel:
        common = {"vocab_size": vocab, "eos_token_id": 2, "bos_token_id": 1, "initializer_range": 0.3}
        shape = {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 48,
            **extra,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            model: PreTrainedModel
            match kind:
                case "llama":
                    model = LlamaForCausalLM(LlamaConfig(**common, **shape))
                case "mistral":  # its window is shorter than the tests' rows
                    model = MistralForCausalLM(MistralConfig(**common, **{"sliding_window": 8, **shape}))
                case "qwen2":  # has biases
                    model = Qwen2ForCausalLM(Qwen2Config(**common, **shape))
                    for block in model.model.layers:
                        for part in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj):
                            torch.nn.init.normal_(part.bias)
                case "qwen3":  # normalises queries and keys
                    model = Qwen3ForCausalLM(Qwen3Config(**common, **{"head_dim": 12, **shape}))
                    for block in model.model.layers:
                        torch.nn.init.normal_(block.self_attn.q_norm.weight)
                        torch.nn.init.normal_(block.self_attn.k_norm.weight)
                case "bloom":  # no position ids
                    model = BloomForCausalLM(BloomConfig(**common, hidden_size=32, n_layer=2, n_head=4))
                case _:
                    model = GPT2LMHeadModel(
                        GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=48, **extra)
                    )
        return model.double().eval()

    return make
