"""Heed's forward passes, decoding and reward heads against transformers' own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from heedlm.models import Chat, load_with_tokenizer, logits, new_reward, reward_scores, save_model
from heedlm.ops.logprobs import token_logps
from heedlm.rollout import Sampling, Transformers
from heedlm.rollout.transformers import TransformersEngine

PROMPTS = [[3, 4, 5, 6], [7], [8, 9, 10, 11, 12, 13], [14, 15]]


def build(kind: str) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        common = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.4}
        model: PreTrainedModel
        if kind == "gpt2":
            model = GPT2LMHeadModel(GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=64))
        else:
            config = LlamaConfig(
                **common,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=64,
            )
            model = LlamaForCausalLM(config)
    return model.double().eval()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_greedy_decoding_is_generates(kind: str) -> None:
    model = build(kind)
    greedy = Sampling(temperature=0, max_new_tokens=40)
    free = TransformersEngine(model, frozenset({99})).generate(PROMPTS, greedy, seed=0).responses()
    ends = [free[0][20], free[2][9]]
    ours = TransformersEngine(model, frozenset(ends)).generate(PROMPTS, greedy, seed=0)
    lengths = set()
    for prompt, answer in zip(PROMPTS, ours.responses(), strict=True):
        theirs = model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=40, pad_token_id=0, eos_token_id=ends
        )
        assert answer == theirs[0, len(prompt) :].tolist()
        lengths.add(len(answer))
    assert len(lengths) > 1  # rows that end at different times, or compaction is not tested
    assert bool((ours.logps == 0).all())


def test_greedy_stories_are_generates(shared: Path) -> None:
    model, tokenizer = load_with_tokenizer(shared / "models" / "stories260K")
    theirs = AutoModelForCausalLM.from_pretrained(shared / "models" / "stories260K").eval()
    chat = Chat(tokenizer)
    prompts = [chat.document_ids(text)[:-1] for text in ("Once upon a time", "Tom had a red ball.", "The end of")]
    ours = Transformers().bind(model, tokenizer).generate(prompts, Sampling(temperature=0, max_new_tokens=60), seed=0)
    for prompt, answer in zip(prompts, ours.responses(), strict=True):
        made = theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=60, pad_token_id=0)
        assert answer == made[0, len(prompt) :].tolist()
    assert chat.decode(ours.responses()[0]).startswith(", there was a")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_mean_log_probability_is_the_models_own_loss(kind: str) -> None:
    model = build(kind)
    tokens = torch.tensor(PROMPTS[2:3])
    with torch.no_grad():
        logps = token_logps(logits(model, tokens), tokens)[:, 1:]
        loss = model(input_ids=tokens, labels=tokens).loss
    torch.testing.assert_close(-logps.mean(), loss.double(), rtol=1e-6, atol=1e-6)  # its loss is float32


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rewards_are_the_sequence_classifiers(kind: str, tmp_path: Path, shared: Path) -> None:
    """Where padding has an id of its own, transformers' pooling finds the same token."""
    reward = new_reward(build(kind))
    save_model(reward, AutoTokenizer.from_pretrained(shared / "models" / "stories260K"), tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float64).eval()
    theirs.config.pad_token_id = 59
    lengths = torch.tensor([len(p) for p in PROMPTS])
    tokens = torch.tensor([p + [59] * (6 - len(p)) for p in PROMPTS])
    with torch.no_grad():
        expected = theirs(input_ids=tokens, attention_mask=(tokens != 59).long()).logits[:, 0]
        torch.testing.assert_close(reward_scores(reward, tokens, lengths), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_padding_on_the_left_is_transformers_with_mask_and_positions(kind: str) -> None:
    model = build(kind)
    tokens = torch.tensor([[0] * (6 - len(p)) + p for p in PROMPTS])
    mask = torch.arange(6)[None, :] >= torch.tensor([[6 - len(p)] for p in PROMPTS])
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        theirs = model(input_ids=tokens, attention_mask=mask.long(), position_ids=positions, use_cache=False).logits
        torch.testing.assert_close(logits(model, tokens, mask)[mask], theirs[mask], rtol=1e-9, atol=1e-9)
