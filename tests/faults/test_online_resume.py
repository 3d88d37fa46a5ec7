"""Training without a critic that is stopped, anywhere, and resumed ends as if nothing had happened, bit for bit."""

import pytest
import torch
from tests.unit.train import tiny

from heedlm import runs
from heedlm.cli import main
from heedlm.errors import Interrupted, NotFinite
from heedlm.models import new_reward, save_model
from heedlm.rewards.rules import Pattern
from heedlm.rewards.types import Reward
from heedlm.runs import Run, checkpoints
from heedlm.stages import rl

STEPS = 3


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.prompts(folder / "prompts.jsonl")
    tiny.documents(folder / "corpus.jsonl")
    return folder


def job(material, **more):
    return {
        "model": material / "model", "reward": material / "reward", "prompts": material / "prompts.jsonl",
        "prompts_dev": material / "prompts.jsonl", "mix__data": material / "corpus.jsonl", "mix__batch": 2,
        "steps": STEPS, "rollouts": 8, "minibatch": 4, "sampling__max_new_tokens": 6, "watch": 3, "optim__lr": 1e-2,
        "cadence__evaluate": 2, "cadence__checkpoint": 1, "guard": "off",
    } | more  # fmt: skip


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "seconds" and not k.startswith(("time/", "memory/"))} for row in rows]


@pytest.mark.parametrize(
    ("more", "poll"),
    [
        ({"objective": "grpo", "group": 4}, 2),  # after the first minibatch
        ({"objective": "rloo", "passes": 2, "kl__target": 2.0, "kl__horizon": 20}, 7),
        # A rule that most answers pass or fail together: groups are left out and others sampled.
        ({"objective": "dapo", "group": 2, "reward": {"name": "pattern", "regex": "[a-e]"}}, 5),
        ({"objective": "reinforce_pp", "lora__rank": 4}, 4),
        ({"objective": "online_dpo", "kl__coef": 0.0}, 3),
    ],
    ids=["grpo", "rloo", "dapo", "reinforce_pp with adapters", "online_dpo"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(material, tmp_path, monkeypatch, more, poll):
    settings = job(material, **more)
    whole = tiny.run(rl, tmp_path / "whole", **settings)
    polls = []

    def stop_requested():
        polls.append(1)
        return len(polls) == poll

    with monkeypatch.context() as patch:
        patch.setattr(runs, "stop_requested", stop_requested)
        with pytest.raises(Interrupted):
            tiny.run(rl, tmp_path / "part", **settings)
    (path,) = (file.parent for file in tmp_path.glob("part/*/*/run.json"))
    torch.manual_seed(12345)  # as in another process
    assert main(["resume", str(path), "--quiet"]) == 0
    resumed = Run.open(path)
    assert len(whole.read_metrics()) == STEPS
    assert without_times(resumed.read_metrics()) == without_times(whole.read_metrics())
    assert resumed.read_samples() == whole.read_samples()
    assert resumed.info.results == whole.info.results
    assert {item.role for item in whole.info.outputs} <= {"model", "adapter"}
    for item in whole.info.outputs:
        for file in sorted((whole.path / item.path).glob("*.safetensors")):
            assert file.read_bytes() == (path / item.path / file.name).read_bytes(), item.role
    assert checkpoints.newest(path) is not None


def test_an_infinite_reward_is_named_with_its_buffer(material, tmp_path, monkeypatch):
    real, seen = Pattern.score, []

    def score(self, episodes):
        found = real(self, episodes).total
        seen.append(1)
        if len(seen) == 2:
            found[5] = float("inf")
        return Reward(found)

    monkeypatch.setattr(Pattern, "score", score)
    rule = {"name": "pattern", "regex": "[aeiou]"}
    with pytest.raises(NotFinite, match="buffer of step 2: the reward of answer 6 of 8"):
        tiny.run(rl, tmp_path, **job(material, objective="grpo", group=4, reward=rule, cadence__evaluate=0))
