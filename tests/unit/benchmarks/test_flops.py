"""Operations counted by hand for a decoder small enough to do so, and against torch's own counter."""

import pytest
import torch
from benchmarks.flops import Decoder, causal, training
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

# Width 4, 1 layer, 2 heads of 2, 1 key-value head, hidden 6, vocabulary 10.
SMALL = Decoder(width=4, layers=1, heads=2, kv_heads=1, head=2, hidden=6, vocabulary=10)


def test_weights_by_hand():
    # queries and output 2·4·4, keys and values 2·4·2, feed-forward 3·4·6
    assert SMALL.weights == 32 + 16 + 72


def test_forward_by_hand():
    # Rows of 3 and 1 tokens: 4 tokens, 6 + 1 pairs, logits of 2.
    assert causal(3) == 6
    assert SMALL.rows([3, 1], logits=2) == 2 * 120 * 4 + 4 * 2 * 2 * 7 + 2 * 4 * 10 * 2
    assert training(SMALL.rows([3, 1], logits=2)) == 3 * SMALL.forward(4, 7, 2)


def test_a_shared_prompt_is_read_once():
    # Prompt 3, answers 2 and 1: 6 tokens; pairs 6 in the prompt, 3·2 + 3 and 3·1 + 1 in the answers.
    assert SMALL.shared(3, [2, 1], logits=0) == SMALL.forward(6, 6 + 9 + 4, 0)
    assert SMALL.shared(3, [2], logits=1) == SMALL.rows([5], logits=1)


def test_decoding_never_reads_the_last_token():
    assert SMALL.decoding([3, 2], [4, 1]) == SMALL.forward(6, 21, 4) + SMALL.forward(2, 3, 1)


def test_a_step_of_reinforcement_learning():
    rows, prompts, answers = [5, 6], [3, 2], [2, 4]
    states, logits = SMALL.rows(rows, 0), SMALL.rows(rows, 6)
    plain = SMALL.decoding(prompts, answers) + logits + states + 3 * logits
    assert SMALL.rl_step(prompts, answers, critic=False) == plain
    assert SMALL.rl_step(prompts, answers, critic=True) == plain + 4 * states


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_counts_are_those_of_torch(kv_heads):
    """torch counts what the processor does; attention there is over whole squares, not over causal triangles."""
    config = LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=kv_heads, attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    shape = Decoder.of(config)
    tokens = torch.zeros((3, 7), dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    assert counter.get_total_flops() == shape.forward(21, 3 * 7 * 7, 21)
