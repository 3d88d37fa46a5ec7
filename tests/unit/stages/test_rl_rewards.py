"""PPO against joined rewards: two models with a multiplier, whose state survives a stop, an ensemble, a process."""

import pytest
from tests.unit.stages.test_rl import settings
from tests.unit.train import tiny

from heedlm import config
from heedlm.errors import Interrupted
from heedlm.models import new_reward, save_model, weights_hash
from heedlm.models.load import load_model
from heedlm.stages import rl
from heedlm.train.steps import say_reads_steps


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    for seed, name in enumerate(("helpful", "safety", "steps")):
        model = new_reward(tiny.model(2, spread=0.3), seed=seed)
        if name == "steps":
            say_reads_steps(model)
        save_model(model, tiny.tokenizer(), folder / name)
    tiny.prompts(folder / "prompts.jsonl")
    return folder


def lagrangian(material):
    paths = {"helpful": str(material / "helpful"), "safety": str(material / "safety")}
    return {"name": "two_model", **paths, "rule": "lagrangian", "rate": 0.5, "limit": -1.0, "multiplier": 1.0}


def test_a_multiplier_moves_with_the_policys_steps_alone_and_survives_a_stop(material, tmp_path, monkeypatch):
    words = settings(material, reward=lagrangian(material), steps=3, cadence__checkpoint=0)
    whole = tiny.run(rl, tmp_path / "whole", **words)
    rows = whole.read_metrics()
    used = [row["reward/part_multiplier"] for row in rows]
    assert used[0] == pytest.approx(1.0)  # critic pretraining left it alone
    assert used[1] > used[0]  # the cost is above −1
    expected = used[0]
    for row, multiplier in zip(rows, used, strict=True):
        assert multiplier == pytest.approx(expected, rel=1e-5)
        excess = row["reward/part_cost"] + 1.0
        expected = min(20.0, multiplier * 2.718281828459045 ** (0.5 * multiplier * excess))

    step = rl.Reinforcement.step
    monkeypatch.setattr(rl.Reinforcement, "step", _stopping(step, monkeypatch, after=2))
    with pytest.raises(Interrupted):
        tiny.run(rl, tmp_path / "cut", **words)
    monkeypatch.setattr(rl.Reinforcement, "step", step)
    monkeypatch.setattr("heedlm.runs.stop_requested", lambda: None)
    (path,) = (tmp_path / "cut" / "ppo").iterdir()
    loaded = config.load(rl.Config, [f"out={tmp_path / 'cut'}", "threads=1", *tiny.words_of(words)], stage="ppo")
    resumed = rl.run(loaded, resume=path)
    assert [row["reward/part_multiplier"] for row in resumed.read_metrics()] == used
    assert weights_hash(load_model(resumed.output("model"))) == weights_hash(load_model(whole.output("model")))


def _stopping(step, monkeypatch, after):
    """A step that asks to stop once so many are done."""

    def stopping(self, index):
        values = step(self, index)
        if index + 1 == after:
            monkeypatch.setattr("heedlm.runs.stop_requested", lambda: 15)
        return values

    return stopping


def test_an_ensemble_starts_the_critic_and_its_files_are_inputs(material, tmp_path):
    paths = [str(material / "helpful"), str(material / "safety")]
    run = tiny.run(rl, tmp_path, **settings(material, reward=",".join(paths)))
    roles = {item.role: item.path for item in run.info.inputs}
    assert [roles["reward_model_1"], roles["reward_model_2"]] == paths
    assert all(row["reward/part_spread"] > 0 for row in run.read_metrics())


def test_a_process_pays_where_a_step_ends(material, tmp_path):
    reward = {"name": "process", "path": str(material / "steps"), "dense": 1.0}
    rows = tiny.run(rl, tmp_path, **settings(material, reward=reward)).read_metrics()
    assert all(0 < row["reward/part_least"] < 1 for row in rows)
    assert all(row["reward/part_steps"] >= 1 for row in rows)
