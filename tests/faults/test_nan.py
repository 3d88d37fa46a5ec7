"""NaN and infinity never look like success: planted anywhere in PPO they stop it within a step, the batch named."""

import json

import pytest
import torch
from tests.unit.train import tiny

from heedlm.cli import main
from heedlm.models import new_reward, save_model
from heedlm.rewards.rules import Pattern
from heedlm.rewards.types import Reward
from heedlm.runs import checkpoints
from heedlm.stages import rl
from heedlm.train.learner import Learner

PLANTED = 2  # index of the step


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The command line of a small PPO run with a rule as its reward."""
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.prompts(folder / "prompts.jsonl")
    return [
        *("ppo", f"model={folder / 'model'}", f"prompts={folder / 'prompts.jsonl'}", "reward.name=pattern"),
        *("reward.regex=[aeiou]", "steps=6", "rollouts=8", "minibatch=4", "sampling.max_new_tokens=6", "watch=2"),
        *("critic.pretrain=1", "cadence.evaluate=0", "cadence.checkpoint=1", "--quiet", "--json"),
    ]


def in_weights(patch):
    real = rl.Reinforcement.step

    def step(self, index):
        if index == PLANTED:
            with torch.no_grad():
                next(p for p in self.policy.parameters() if p.ndim == 1).view(-1)[0] = float("nan")
        return real(self, index)

    patch.setattr(rl.Reinforcement, "step", step)


def in_reward(patch):
    real, seen = Pattern.score, []

    def score(self, episodes):
        found = real(self, episodes).total
        seen.append(1)
        if len(seen) == 1 + PLANTED + 1:  # a buffer of critic pretraining, then one a step
            found[5] = float("inf")
        return Reward(found)

    patch.setattr(Pattern, "score", score)


def in_gradient(patch):
    real, seen = Learner.update, []

    def update(self, terms):
        if any(term.group == "policy" for term in terms):
            seen.append(1)
            if len(seen) == 2 * PLANTED + 2:  # the second of two minibatches
                parameter = next(p for p in self.model.parameters() if p.ndim == 2)
                handle = parameter.register_hook(lambda gradient: gradient * float("nan"))
                try:
                    return real(self, terms)
                finally:
                    handle.remove()
        return real(self, terms)

    patch.setattr(Learner, "update", update)


def in_critic(patch):
    real = rl.Reinforcement.step

    def step(self, index):
        if index == PLANTED:
            with torch.no_grad():
                self.critic.model.score.weight.view(-1)[0] = float("inf")
        return real(self, index)

    patch.setattr(rl.Reinforcement, "step", step)


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (in_weights, f"buffer of step {PLANTED + 1}: "),
        (in_reward, f"buffer of step {PLANTED + 1}: the reward of answer 6 of 8 in the buffer is inf"),
        (in_gradient, f"minibatch 2 of step {PLANTED + 1}"),
        (in_critic, f"minibatch 1 of step {PLANTED + 1}"),
    ],
)
def test_what_is_not_finite_stops_the_run_within_a_step(words, tmp_path, monkeypatch, capsys, plant, says):
    plant(monkeypatch)
    assert main([*words, f"out={tmp_path}"]) == 4
    shown = capsys.readouterr()
    last = shown.err.strip().splitlines()[-1]
    assert says in last, last
    (path,) = (file.parent for file in tmp_path.glob("ppo/*/run.json"))
    assert json.loads((path / "run.json").read_text())["status"] == "failed"
    assert len((path / "metrics.jsonl").read_text().splitlines()) == PLANTED
    assert checkpoints.step_of(checkpoints.newest(path)) == PLANTED
    assert not (path / "model").exists()


def test_after_the_cause_is_gone_the_run_goes_on_from_its_checkpoint(words, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        in_reward(patch)
        assert main([*words, f"out={tmp_path}"]) == 4
    (path,) = (file.parent for file in tmp_path.glob("ppo/*/run.json"))
    assert main(["resume", str(path), "--quiet"]) == 0
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 6
