"""Rewards made of several models: ensembles, helpful and safe, and processes, each against numbers by hand."""

import itertools
import math

import pytest
import torch
from tests.unit.rewards.test_sources import episodes
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.models import Chat, new_reward, save_model
from heedlm.ops.masked import masked_whiten
from heedlm.ops.moments import RunningMoments
from heedlm.records import Message, Meta, Prompt
from heedlm.rewards import Ensemble, Learned, ProcessReward, TwoModel, files_of, is_learned, source_from_text
from heedlm.rewards.ensemble import joined
from heedlm.rewards.process import running_scores
from heedlm.rewards.shaping import Shaper, Shaping
from heedlm.rewards.two_model import LagrangianReward, threshold_rule
from heedlm.rewards.types import Reward
from heedlm.seams import AdaptiveScorer
from heedlm.train.steps import say_reads_steps, split_steps, step_ends

TEXTS = ["red", "In the red house. So red.", "", "小猫在white房子里。green"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewards")
    for name in ("one", "two", "three", "steps"):
        model = new_reward(tiny.model(len(name), spread=0.3), seed=len(name))
        if name == "steps":
            say_reads_steps(model)
        save_model(model, tiny.tokenizer(), folder / name)
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture
def chat():
    return Chat(tiny.tokenizer())


# ---------------------------------------------------------------- ensembles


def test_scores_of_members_are_joined(f64, near):
    scores = f64([1.0, -2.0], [2.0, 0.0], [6.0, 5.0])
    near(joined(scores, "mean"), [3, 1])
    near(joined(scores, "min"), [1, -2])
    near(joined(scores, "penalised", 0.5), [3 - 0.5 * math.sqrt(14 / 3), 1 - 0.5 * math.sqrt(26 / 3)])


def test_an_ensemble_is_its_members(folders, chat, near):
    asked, paths = episodes(TEXTS), (folders["one"], folders["two"], folders["three"])
    alone = torch.stack([Learned(path=path).open(chat).score(asked).total for path in paths])
    for combine in ("mean", "min", "penalised"):
        reward = Ensemble(paths=paths, combine=combine, penalty=2.0).open(chat).score(asked)
        near(reward.total, joined(alone, combine, 2.0))
    near(reward.parts["spread"], alone.std(0, correction=0))
    near(reward.parts["member_2"], alone[1])


def test_an_ensemble_is_named_by_its_paths_with_commas():
    assert source_from_text("a/b, c/d") == {"name": "ensemble", "paths": ["a/b", "c/d"]}
    assert source_from_text("a/b") == {"name": "learned", "path": "a/b"}
    assert source_from_text("verse") == {"name": "verse"}
    with pytest.raises(ValueError, match="at least 2"):
        Ensemble(paths=("one",))


def test_the_files_of_a_source_are_a_runs_inputs():
    assert files_of(Ensemble(paths=("a", "b"))) == {"reward_model_1": "a", "reward_model_2": "b"}
    assert files_of(TwoModel(helpful="h", safety="s")) == {"reward_helpful": "h", "reward_safety": "s"}
    assert files_of(ProcessReward(path="p")) == {"reward_model": "p"}
    assert files_of(None) == {}
    assert is_learned(TwoModel(helpful="h", safety="s"))
    assert not is_learned(source_from_text("gold"))


# ---------------------------------------------------------------- two models


def test_n18(f64, near):
    safety, helpful = f64(0.1, 0.8, 0.6, 0.95), f64(0.9, 0.7, 0.2, 0.5)
    tagged = torch.tensor([False, False, True, False])
    chosen = threshold_rule(helpful, safety, tagged, 0.15)
    near(chosen, [0.1, 0.7, 0.6, 0.5])
    odds = chosen.logit(eps=1e-6)
    near(masked_whiten(odds, torch.ones(4, dtype=torch.bool)), [-1.674403, 0.925023, 0.547784, 0.201596])
    # Training whitens with running moments, whose deviation is the unbiased one.
    shaped = Shaper(Shaping(scale="normalise", clip=None))(odds, torch.ones(4, dtype=torch.bool))
    near(shaped, [each * math.sqrt(3 / 4) for each in (-1.674403, 0.925023, 0.547784, 0.201596)])
    moments = RunningMoments()
    moments.update(odds[:2])
    moments.update(odds[2:])
    near(moments.normalise(odds), shaped)


def test_a_tagged_prompt_is_judged_by_safety_alone(folders, chat, near):
    """Whatever the threshold; and with a threshold of 1 all are, with 0 none."""
    prompts = [
        Prompt(messages=(Message(role="user", content=tiny.question(i)),), meta=Meta(family=family))
        for i, family in enumerate(("harm", None, "verse", "safety"))
    ]
    asked = episodes(TEXTS, prompts)
    helpful, safety = (Learned(path=folders[name]).open(chat).score(asked).total for name in ("one", "two"))

    def found(**settings):
        return TwoModel(helpful=folders["one"], safety=folders["two"], **settings).open(chat).score(asked)

    near(found(threshold=1.0).total, safety.sigmoid().logit(), tol=1e-4)
    near(found(threshold=0.0, tags=()).total, helpful.sigmoid().logit(), tol=1e-4)
    tagged = found(threshold=0.0, tags=("harm", "safety"))
    assert tagged.parts["by_safety"].tolist() == [1, 0, 0, 1]
    near(tagged.total[[0, 3]], safety[[0, 3]], tol=1e-4)
    near(tagged.total[[1, 2]], helpful[[1, 2]], tol=1e-4)
    near(found(rule="mix", weight=0.25).total, 0.75 * helpful + 0.25 * safety)


def test_certain_probabilities_keep_finite_odds():
    chosen = threshold_rule(*torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([False, False]), 0.5)
    assert chosen.logit(eps=1e-6).isfinite().all()


def test_a_multiplier_weighs_the_cost_and_follows_it(folders, chat, near):
    settings = TwoModel(
        helpful=folders["one"], safety=folders["two"], rule="lagrangian", multiplier=2.0, rate=0.5, limit=0.1
    )
    opened, asked = settings.open(chat), episodes(TEXTS)
    assert isinstance(opened, LagrangianReward)
    assert isinstance(opened, AdaptiveScorer)
    reward = opened.score(asked)
    helpful, safety = (Learned(path=folders[name]).open(chat).score(asked).total for name in ("one", "two"))
    near(reward.total, (helpful - 2 * -safety) / 3)
    near(reward.parts["cost"], -safety)

    def after(cost):
        opened.load_state_dict({"multiplier": 2.0})
        opened.observe(Reward(torch.zeros(2), {"cost": torch.tensor([cost, cost])}))
        return opened.multiplier

    near(after(0.1), 2.0)
    near(after(0.4), 2.0 * math.exp(0.5 * 2.0 * 0.3))
    near(after(-0.3), 2.0 * math.exp(0.5 * 2.0 * -0.4))
    assert after(-1e6) == 1e-6  # from which it can rise again
    assert after(1e6) == 20.0
    assert opened.state_dict() == {"multiplier": 20.0}
    assert not isinstance(Learned(path=folders["one"]).open(chat), AdaptiveScorer)


# ---------------------------------------------------------------- processes


def test_n17(f64, near):
    right = f64(0.95, 0.88, 0.72, 0.91)
    near(running_scores(right, "product")[-1], 0.547747)
    near(running_scores(right, "min")[-1], 0.72)
    near(running_scores(right, "min"), [0.95, 0.88, 0.72, 0.72])


def test_a_process_is_judged_at_the_last_token_of_each_step(folders, chat, near):
    asked = episodes(TEXTS)
    opened = ProcessReward(path=folders["steps"], dense=0.5).open(chat)
    reward = opened.score(asked)
    for row, text in enumerate(asked.texts):
        length, start = int(asked.rollouts.lengths[row]), int(asked.rollouts.prompt_lengths[row])
        ids = asked.rollouts.tokens[row, :length]
        ends = [start + place for place in step_ends(chat, ids[start:].tolist(), split_steps(text))]
        hidden = opened.model.base_model(input_ids=ids[None]).last_hidden_state[0]
        right = opened.model.score(hidden)[ends, 0].detach().double().sigmoid()
        near(reward.total[row], right.prod(), tol=1e-5)
        near(reward.parts["steps"][row], len(ends))
        near(reward.parts["least"][row], right.min(), tol=1e-5)
        changes = torch.zeros(asked.rollouts.tokens.shape[1], dtype=torch.float64)
        running = [1.0, *right.cumprod(0).tolist()]
        for place, (before, after) in zip(ends, itertools.pairwise(running), strict=True):
            changes[place] += 0.5 * (after - before)
        near(reward.steps[row], changes, tol=1e-5)
        near(reward.steps[row].sum(), 0.5 * (right.prod() - 1), tol=1e-5)
    assert ProcessReward(path=folders["steps"]).open(chat).score(asked).steps is None
    least = ProcessReward(path=folders["steps"], combine="min").open(chat).score(asked)
    near(least.total, reward.parts["least"], tol=1e-5)


def test_models_of_steps_and_of_answers_are_not_mistaken_for_each_other(folders, chat):
    with pytest.raises(BadInput, match="judges the steps of answers: say name=process"):
        Learned(path=folders["steps"]).open(chat)
    with pytest.raises(BadInput, match="judges whole answers, not steps"):
        ProcessReward(path=folders["one"]).open(chat)
