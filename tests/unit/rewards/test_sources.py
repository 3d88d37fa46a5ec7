"""Reward sources: rules by hand, a learned model against its own scores, the village's gold."""

import pytest
import torch
from pydantic import TypeAdapter
from tests.unit import devices
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.models import Chat, new_reward, save_model, train_tokenizer, weights_hash
from heedlm.models.forward import calibrate, reward_scores
from heedlm.records import Message, Prompt
from heedlm.rewards import EndsWell, Episodes, GoldReward, Learned, NearLength, Pattern, RewardSource
from heedlm.rollout import Sampling, Scripted
from heedlm.rollout.answering import answer
from heedlm.village import Village, score

SOURCE = TypeAdapter(RewardSource)


def episodes(texts, prompts=None):
    """Answers as they come out of an engine, over the limit of 20 tokens cut."""
    chat = Chat(tiny.tokenizer())
    prompts = prompts or [
        Prompt(messages=(Message(role="user", content=tiny.question(i)),)) for i, _ in enumerate(texts)
    ]
    engine = Scripted(answers=tuple(texts)).bind(None, tiny.tokenizer())
    found, rollouts = answer(engine, chat, prompts, Sampling(max_new_tokens=20), seed=0)
    return Episodes(prompts, found, rollouts)


# ---------------------------------------------------------------- rules


def test_pattern():
    asked = episodes(["red", "blue house", ""])
    assert Pattern(regex="r.d").score(asked).total.tolist() == [1, 0, 0]
    assert Pattern(regex="^$").score(asked).total.tolist() == [0, 0, 1]


def test_a_regular_expression_is_checked_before_anything_runs():
    with pytest.raises(ValueError, match="is no regular expression: missing"):
        Pattern(regex="(red")


def test_near_length():
    rule = NearLength(words=4)
    values = [rule.measure(text, True) for text in ("one two three four", "one two", "", "a b c d e f", "x " * 99)]
    assert values == pytest.approx([1, 0.5, 0, 0.5, -1])
    assert rule.measure("红房子里", True) == 1  # a Chinese character counts as a word
    assert rule.measure("四 words 在一", True) == 1


def test_ends_well():
    rule = EndsWell(min_words=5)
    good = "Ann walked home and slept."
    assert rule.measure(good, True) == 1
    assert rule.measure(good, False) == 0
    assert rule.measure("Ann walked home and slept", True) == 0
    assert rule.measure('"Ann walked home and slept!"', True) == 1
    assert rule.measure("小猫在红房子里。", True) == 1
    assert rule.measure("Ann slept.", True) == -1
    # 8 words, 6 trigrams, of which 2 are repeated
    assert rule.measure("the cat sat the cat sat the cat.", True) == pytest.approx(1 - 3 / 6)


# ---------------------------------------------------------------- learned


@pytest.fixture
def reward_folder(tmp_path):
    model = new_reward(tiny.model(3, spread=0.3), seed=1)
    calibrate(model, gain=2.0, bias=-0.5)
    save_model(model, tiny.tokenizer(), tmp_path / "reward")
    return tmp_path / "reward"


@pytest.mark.parametrize("budget", [1, 16384])
def test_a_learned_reward_is_its_models_score_at_the_last_token(reward_folder, budget, near):
    texts = ["red", "the white house, I should say, though nobody knows for sure where she has gone", "小猫"]
    asked = episodes(texts)
    assert asked.rollouts.ended.tolist() == [True, False, True]  # one is cut, and is scored all the same
    opened = Learned(path=str(reward_folder), budget=budget).open(Chat(tiny.tokenizer()))
    found = opened.score(asked).total
    expected = []
    for row, length in zip(asked.rollouts.tokens, asked.rollouts.lengths, strict=True):
        scores = reward_scores(opened.model, row[None, :length], length[None])
        hidden = opened.model.base_model(input_ids=row[None, :length]).last_hidden_state[0, -1]
        near(scores, opened.model.score(hidden) * 2.0 - 0.5)
        expected.append(float(scores.detach()))
    near(found, expected, tol=1e-5)


def test_scoring_leaves_a_learned_reward_as_it_was(reward_folder):
    opened = Learned(path=str(reward_folder)).open(Chat(tiny.tokenizer()))
    before = weights_hash(opened.model)
    total = opened.score(episodes(["red", "blue"])).total
    assert not total.requires_grad
    assert not any(p.requires_grad for p in opened.model.parameters())
    assert not opened.model.training
    assert weights_hash(opened.model) == before


def test_another_vocabulary_is_refused(reward_folder):
    others = train_tokenizer(["Quite other words make quite other tokens."] * 20, 300)
    with pytest.raises(BadInput, match=r"the policy .* and the reward model .* have different vocabularies"):
        Learned(path=str(reward_folder)).open(Chat(others))


def test_a_language_model_is_no_reward_model(tmp_path):
    with pytest.raises(BadInput, match="is a language model, not a reward model"):
        Learned(path=str(tiny.folder(tmp_path / "model"))).open(Chat(tiny.tokenizer()))


# ---------------------------------------------------------------- gold


def test_gold_is_the_villages_score_with_its_parts():
    prompts = list(Village(0).prompts(4, "test"))
    asked = episodes(["I don't know.", "Yes.", "他在家。", "The sum is 4."], prompts)
    reward = GoldReward().open(Chat(tiny.tokenizer())).score(asked)
    golds = [score(prompt.meta.task, text) for prompt, text in zip(prompts, asked.texts, strict=True)]
    assert reward.total.tolist() == pytest.approx([gold.total for gold in golds])
    assert reward.parts["honest"].tolist() == pytest.approx([gold.honest for gold in golds])
    assert set(reward.parts) == {"helpful", "honest", "harmless", "form", "length"}


def test_gold_needs_ground_truth():
    with pytest.raises(BadInput, match=r"no ground truth \(meta.task\)"):
        GoldReward().score(episodes(["red"]))


# ---------------------------------------------------------------- devices


@pytest.mark.parametrize("source", [GoldReward(), NearLength()], ids=lambda source: source.name)
def test_a_rule_gives_numbers_where_the_answers_are(source, monkeypatch):
    asked = episodes(["I don't know.", "Yes."], list(Village(0).prompts(2, "test")))
    wanted = source.score(asked)
    with devices.pretended(monkeypatch) as device:
        there = Episodes(asked.prompts, asked.texts, asked.rollouts.to(device))
        found = source.open(Chat(tiny.tokenizer()), device).score(there)
        assert {part.device for part in (found.total, *found.parts.values())} == {device}
    assert torch.equal(devices.here(found.total), wanted.total)


def test_a_learned_reward_is_loaded_where_the_answers_are(reward_folder, monkeypatch):
    asked, chat = episodes(["red", "小猫"]), Chat(tiny.tokenizer())
    wanted = Learned(path=str(reward_folder)).open(chat).score(asked).total
    with devices.pretended(monkeypatch) as device:
        there = Episodes(asked.prompts, asked.texts, asked.rollouts.to(device))
        found = Learned(path=str(reward_folder)).open(chat, device).score(there).total
    torch.testing.assert_close(devices.here(found), wanted)


# ---------------------------------------------------------------- names


def test_a_word_names_a_rule_and_anything_else_a_reward_model():
    assert SOURCE.validate_python("gold") == GoldReward()
    assert SOURCE.validate_python("ends_well") == EndsWell()
    assert SOURCE.validate_python("near_length") == NearLength()
    assert SOURCE.validate_python("runs/reward/x") == Learned(path="runs/reward/x")
    assert SOURCE.validate_python({"name": "pattern", "regex": "a"}) == Pattern(regex="a")


def test_totals_have_one_number_an_answer():
    asked = episodes(["red house", "blue"])
    for source in (Pattern(regex="red"), NearLength(), EndsWell()):
        total = source.open(Chat(tiny.tokenizer())).score(asked).total
        assert total.shape == (2,)
        assert total.dtype == asked.rollouts.logps.dtype
        assert torch.isfinite(total).all()
