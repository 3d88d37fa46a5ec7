"""One suite for every reward source, one for every judge, one for every rollout engine.

A new member needs one line here that says with which settings it is tried, or its test fails.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.judges.server import Endpoint, serving
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedlm import judges, rewards, rollout
from heedlm.config.base import member_configs
from heedlm.judges import both_orders
from heedlm.models import Chat, create, new_reward, save_model, train_tokenizer
from heedlm.ops.types import Rollouts
from heedlm.records import Message, Prompt
from heedlm.rewards import Episodes, game
from heedlm.rollout import Sampling
from heedlm.train.steps import say_reads_steps
from heedlm.village import Village


@dataclass(frozen=True)
class Home:
    """A policy and a reward model with random weights, saved in two folders, and prompts of the village."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    policy: Path
    reward: Path
    safety: Path
    steps: Path
    function: Path
    prompts: list[Prompt]
    url: str

    @property
    def chat(self) -> Chat:
        return Chat(self.tokenizer)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    texts = [document.text for document in Village().documents(200, "train")]
    tokenizer = train_tokenizer(texts, 400)
    model = create("tiny", tokenizer, context=1024)
    folder = tmp_path_factory.mktemp("models")
    save_model(model, tokenizer, folder / "policy", "a random policy")
    save_model(new_reward(model), tokenizer, folder / "reward", "a random reward model")
    save_model(new_reward(model, seed=1), tokenizer, folder / "safety", "another")
    judge = new_reward(model, seed=2)
    say_reads_steps(judge)
    save_model(judge, tokenizer, folder / "steps", "one that judges steps")
    function = folder / "mine.py"
    function.write_text("def score(p, r, m):\n    return [len(t) for t in m['tokens'][:-1]] + [len(r) / (1 + len(p))]")
    models = (folder / name for name in ("policy", "reward", "safety", "steps"))
    prompts = list(Village().prompts(6, "dev"))
    with serving(Endpoint(lambda question: "AB"["> Bo" in question], logprobs=True)) as server:
        yield Home(tokenizer, model, *models, function, prompts, server.url)


def names(union: Any) -> list[str]:
    return [member.model_fields["name"].default for member in member_configs(union)]


def build(union: Any, name: str, settings: dict[str, Any]) -> Any:
    (member,) = (m for m in member_configs(union) if m.model_fields["name"].default == name)
    return member(**settings)


# ---------------------------------------------------------------- rewards

REWARDS = {
    "learned": lambda home: {"path": str(home.reward)},
    "gold": lambda home: {},
    "judged": lambda home: {"judge": {"name": "local", "path": str(home.policy)}},
    "ends_well": lambda home: {"min_words": 3},
    "near_length": lambda home: {"words": 5.0},
    "pattern": lambda home: {"regex": "Ann|小"},
    "function": lambda home: {"path": str(home.function)},
    "walk": lambda home: {"cost": 0.5},
    "ensemble": lambda home: {"paths": (str(home.reward), str(home.safety)), "combine": "penalised"},
    "two_model": lambda home: {"helpful": str(home.reward), "safety": str(home.safety), "threshold": 0.5},
    "process": lambda home: {"path": str(home.steps), "dense": 0.5},
    "sums": lambda home: {},
    "verse": lambda home: {"lines": 1, "characters": 4},
    "layout": lambda home: {"characters": 40},
}
# A game is played from prompts of its own, and sums are asked for.
PLAYED = {
    "walk": [" right" * 9, "left left", "", "右右右右右", "左 左 左", "home"],
    "sums": ["2 + 3 = 5", "5", "", "所以是 5。", "2 + 3 = 6", "six"],
}
ASKED = {
    "walk": lambda: list(game.prompts("test"))[:6],
    "sums": lambda: [Prompt(messages=(Message(role="user", content=f"What is 2 + {k}?"),)) for k in range(3, 9)],
}
TEXTS = ["Ann is in the mill.", "", "I don't know.", "小猫在家。", "no " * 40, "Ann has 3 apples, and 4 pears"]


def episodes(home, name, order=None):
    """Answers to the village's prompts (a game's own, for a game), as a policy would have made them."""
    chat, texts = home.chat, PLAYED.get(name, TEXTS)
    prompts = ASKED[name]() if name in PLAYED else home.prompts
    rows = [(chat.prompt_ids(p.messages), chat.response_ids(t)) for p, t in zip(prompts, texts, strict=True)]
    width = max(len(p) + len(a) for p, a in rows)
    tokens = torch.tensor([[*p, *a] + [0] * (width - len(p) - len(a)) for p, a in rows])
    whole = Rollouts(
        tokens=tokens,
        prompt_lengths=torch.tensor([len(p) for p, _ in rows]),
        lengths=torch.tensor([len(p) + len(a) for p, a in rows]),
        logps=torch.zeros(tokens.shape),
        ended=torch.ones(len(rows), dtype=torch.bool),
    )
    order = list(range(len(rows))) if order is None else order
    return Episodes([prompts[i] for i in order], [texts[i] for i in order], whole.select(order))


def test_every_reward_source_is_tried():
    assert sorted(REWARDS) == sorted(names(rewards.RewardSource))


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_reward_is_a_finite_number_for_each_answer(name, home):
    source = build(rewards.RewardSource, name, REWARDS[name](home)).open(home.chat)
    reward = source.score(episodes(home, name))
    assert reward.total.shape == (6,)
    assert reward.total.isfinite().all()
    assert not reward.total.requires_grad
    assert reward.total.unique().numel() > 1, "it tells no answers apart"
    assert all(part.shape == (6,) and part.isfinite().all() for part in reward.parts.values())
    assert source.score(episodes(home, name)).total.equal(reward.total)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_reward_does_not_see_padding_order_or_the_other_answers(name, home):
    source = build(rewards.RewardSource, name, REWARDS[name](home)).open(home.chat)
    whole = source.score(episodes(home, name)).total
    assert float(whole.max() - whole.min()) > 1e-3, "of rewards as close as the tolerance no order could be told"
    order = [4, 2, 0, 5, 1, 3]
    torch.testing.assert_close(source.score(episodes(home, name, order)).total, whole[order], atol=1e-5, rtol=1e-5)
    for row in range(6):
        alone = source.score(episodes(home, name, [row])).total
        torch.testing.assert_close(alone, whole[[row]], atol=1e-5, rtol=1e-5)
    given = episodes(home, name)
    rows = given.rollouts
    wide = replace(
        rows,
        tokens=torch.nn.functional.pad(rows.tokens.where(rows.mask, torch.tensor(7)), (0, 5), value=9),
        logps=torch.nn.functional.pad(rows.logps, (0, 5)),
    )
    padded = source.score(replace(given, rollouts=wide)).total
    torch.testing.assert_close(padded, whole, atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------- judges

JUDGES = {
    "local": lambda home: {"path": str(home.policy)},
    "endpoint": lambda home: {"url": home.url, "model": "m", "replies": home.policy / "replies.jsonl"},
    "scripted": lambda home: {},
}
ANSWERS = [("Ann is at home.", "Bo is."), ("", "yes"), ("小猫在家。", "I don't know."), ("no " * 2000, "no")]


def test_every_judge_is_tried():
    assert sorted(JUDGES) == sorted(names(judges.Judge))


@pytest.mark.parametrize("name", sorted(JUDGES))
@pytest.mark.parametrize(("a", "b"), ANSWERS, ids=["usual", "empty", "chinese", "long"])
def test_a_verdict_is_a_probability_or_openly_none_and_always_the_same(name, a, b, home):
    judge = build(judges.Judge, name, JUDGES[name](home))
    prompt = home.prompts[0].messages
    verdict = judge.compare(prompt, a, b)
    assert verdict.preference is None or 0 <= verdict.preference <= 1
    assert verdict.reason
    assert judge.compare(prompt, a, b) == verdict


@pytest.mark.parametrize("name", sorted(JUDGES))
def test_in_both_orders_no_side_is_favoured(name, home):
    judge = build(judges.Judge, name, JUDGES[name](home))
    prompt = home.prompts[0].messages
    assert both_orders(judge, prompt, "Ann is.", "Ann is.").preference == pytest.approx(0.5)
    forth, back = both_orders(judge, prompt, "Ann is.", "Bo"), both_orders(judge, prompt, "Bo", "Ann is.")
    assert forth.preference == pytest.approx(1 - back.preference)


# ---------------------------------------------------------------- engines

ENGINES = {
    "native": lambda home: {},
    "transformers": lambda home: {},
    "scripted": lambda home: {"answers": ("yes", "Ann is in the mill, and Bo is not.")},
}


@pytest.fixture
def prompts(home):
    return [home.chat.prompt_ids(p.messages) for p in home.prompts]


def test_every_engine_is_tried():
    assert sorted(ENGINES) == sorted(names(rollout.Engine))


@pytest.mark.parametrize("name", sorted(ENGINES))
@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=8), Sampling(max_new_tokens=5, temperature=0.0)])
def test_rollouts_keep_their_prompts_and_their_promises(name, sampling, home, prompts):
    engine = build(rollout.Engine, name, ENGINES[name](home)).bind(home.model, home.tokenizer)
    made = engine.generate(prompts, sampling, seed=0)
    assert len(made) == len(prompts)
    for row, prompt in enumerate(prompts):
        assert made.tokens[row, : len(prompt)].tolist() == list(prompt)
    assert made.prompt_lengths.tolist() == [len(prompt) for prompt in prompts]
    assert (made.response_lengths >= 1).all()
    assert (made.response_lengths <= sampling.max_new_tokens).all()
    assert (made.response_lengths[~made.ended] == sampling.max_new_tokens).all()
    last = made.tokens.gather(1, made.lengths[:, None] - 1)[:, 0]
    assert (last[made.ended] == home.tokenizer.eos_token_id).all()
    assert made.logps[~made.response_mask].eq(0).all()
    assert (made.logps <= 0).all()
    assert made.logps.isfinite().all()
    assert not made.logps.requires_grad


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_the_same_seed_gives_the_same_answers_also_after_a_sync(name, home, prompts):
    engine = build(rollout.Engine, name, ENGINES[name](home)).bind(home.model, home.tokenizer)
    first = engine.generate(prompts, Sampling(max_new_tokens=8), seed=3)
    again = engine.generate(prompts, Sampling(max_new_tokens=8), seed=3)
    assert first.responses() == again.responses()
    assert first.logps.equal(again.logps)
    engine.sync({key: value.clone() for key, value in home.model.state_dict().items()})
    assert engine.generate(prompts, Sampling(max_new_tokens=8), seed=3).responses() == first.responses()


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_no_prompts_give_no_rollouts(name, home):
    engine = build(rollout.Engine, name, ENGINES[name](home)).bind(home.model, home.tokenizer)
    assert len(engine.generate([], Sampling(), seed=0)) == 0
