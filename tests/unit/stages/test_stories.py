"""A real pretrained model without padding token and chat template (stories260K) goes through every stage as it is."""

import json
from pathlib import Path

import pytest
import torch
from tests.unit.train import tiny

from heedlm import config
from heedlm.models import Chat, load_with_tokenizer, weights_hash
from heedlm.records import Answers, read
from heedlm.stages import evaluate, reward, rl, sample, score, sft
from heedlm.train.batching import Row, pack
from heedlm.train.language import mean_nll

STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
SCRAMBLED = "Lily park play upon girl the. There named little loved a was outside she time in to once a."


@pytest.fixture(scope="module")
def stories(shared):
    folder = Path(shared) / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"no model at {folder}")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = [{"messages": tiny.talk(f"Tell me of a cat and {n} dogs.", f"{STORY} The end.")} for n in range(12)]
    tiny.jsonl(folder / "demonstrations.jsonl", rows)
    tiny.jsonl(folder / "prompts.jsonl", [{"messages": row["messages"][:1]} for row in rows])
    tiny.comparisons(folder / "comparisons.jsonl", [(STORY, SCRAMBLED)] * 8)
    return folder


def test_it_has_no_padding_token_and_no_template_of_its_own(stories):
    _, tokenizer = load_with_tokenizer(stories)
    assert tokenizer.pad_token_id is None
    assert not tokenizer.chat_template
    before = tokenizer.get_vocab()
    Chat(tokenizer)
    assert tokenizer.pad_token_id is None  # none is made up, for nothing needs one
    assert tokenizer.get_vocab() == before


def test_it_prefers_a_story_to_the_same_words_scrambled(stories):
    words = [str(stories), f"text={json.dumps([STORY, SCRAMBLED])}"]
    told, scrambled = score.run(config.load(score.Config, words, stage="score"))["scores"]
    assert told["perplexity"] < 6
    assert scrambled["per_token"] < told["per_token"] - 1


def test_it_samples_stories_of_different_lengths_in_one_batch(stories, data, tmp_path):
    words = {"model": stories, "prompts": data / "prompts.jsonl", "answers": 3, "sampling__max_new_tokens": 24}
    run = tiny.run(sample, tmp_path, **words)
    rows = read(run.output("answers"), Answers).rows
    assert len(rows) == 12
    texts = [a.text for row in rows for a in row.answers]
    assert len(set(texts)) > 30
    assert sum(text.isascii() for text in texts) > 30


def test_three_steps_of_fine_tuning_teach_it_something(stories, data, tmp_path):
    words = {"model": stories, "data": data / "demonstrations.jsonl", "length": 200, "batch": 2, "steps": 3}
    run = tiny.run(sft, tmp_path, **words, optim__lr=3e-3, held_out_share=0.25)
    losses = [row["loss/train"] for row in run.read_metrics()]
    assert losses[2] < losses[0] - 0.2
    model, tokenizer = load_with_tokenizer(run.output("model"))
    assert tokenizer.chat_template  # saved with the model, so that it goes on being talked to in the same way
    assert weights_hash(model) != weights_hash(load_with_tokenizer(stories)[0])


def test_packing_it_equals_single_rows(stories):
    model, tokenizer = load_with_tokenizer(stories)
    chat = Chat(tokenizer)
    ids = [chat.document_ids(text) for text in (STORY, SCRAMBLED, "The end.", "Tom had a red ball.")]
    rows = [Row(i, [True] * len(i)) for i in ids]
    with torch.no_grad():
        assert mean_nll(model, pack(rows, 128)) == pytest.approx(mean_nll(model, [[row] for row in rows]), rel=1e-5)


def test_it_becomes_a_reward_model_a_policy_and_a_contestant(stories, data, tmp_path):
    scorer = tiny.run(reward, tmp_path, model=stories, data=data / "comparisons.jsonl", batch=4, epochs=2)
    common = {"prompts": data / "prompts.jsonl", "sampling__max_new_tokens": 12}
    ppo = {"rollouts": 4, "minibatch": 2, "steps": 2, "critic__pretrain": 1, "watch": 2}
    policy = tiny.run(rl, tmp_path, model=stories, reward=scorer.path, **common, **ppo)
    for row in policy.read_metrics():
        assert abs(row["first/ratio"] - 1) < 1e-6
        assert row["gap/engine_trainer"] < 1e-4
    words = {"model": policy.path, "against": stories, "judge": str(scorer.path), "limit": 6}
    measured = tiny.run(evaluate, tmp_path, **words, **common)
    assert -1 < measured.info.results["kl_nats"] < 10
    assert measured.info.results["win_rate"]["n"] == 6
