"""Training that is stopped: by a signal it leaves a checkpoint, and resumed it ends as if nothing had happened."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from tests.unit.train import tiny

from heedlm import runs
from heedlm.cli import main
from heedlm.errors import Interrupted
from heedlm.models import load_model, new_reward, save_model
from heedlm.runs import Run, checkpoints
from heedlm.stages import pretrain, reward, rl, sft
from heedlm.train.state import load_state

RANKED = [("In the red house.", "red", "no"), ("Blue.", "I do not know."), ("white", "who?", "小猫", "yes")] * 4


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Model, reward model and files that every stage here can be run on."""
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.documents(folder / "corpus.jsonl")
    tiny.demonstrations(folder / "demonstrations.jsonl")
    tiny.prompts(folder / "prompts.jsonl")
    tiny.comparisons(folder / "comparisons.jsonl", RANKED)
    return folder


def jobs(material):
    """Six steps of each kind of training, with all that has a state of its own switched on."""
    model = material / "model"
    common = {"optim__lr": 1e-2, "cadence__evaluate": 2}
    return {
        "pretrain": (
            pretrain,
            common
            | {"data": material / "corpus.jsonl", "held_out": material / "corpus.jsonl", "model": model}
            | {"steps": 6, "batch": 2, "length": 24, "budget": 50},
        ),
        "sft": (
            sft,
            common | {"model": model, "data": material / "demonstrations.jsonl", "held_out_share": 0.2}
            | {"steps": 6, "batch": 2, "length": 64, "budget": 100}
            # A rate that breaks the model, so that the weights to be kept are those from before the stop.
            | {"optim__lr": 1.0, "optim__schedule": "constant", "cadence__evaluate": 1},
        ),
        "reward": (
            reward,
            common | {"model": model, "data": material / "comparisons.jsonl", "held_out_share": 0.2, "imitation": 0.1}
            | {"batch": 3, "epochs": 1.6, "budget": 150},
        ),
        "ppo": (
            rl,
            common
            | {"model": model, "reward": material / "reward", "prompts": material / "prompts.jsonl"}
            | {"prompts_dev": material / "prompts.jsonl", "mix__data": material / "corpus.jsonl", "mix__batch": 2}
            | {"steps": 6, "rollouts": 4, "minibatch": 2, "passes": 2, "sampling__max_new_tokens": 6, "watch": 3}
            | {"critic__pretrain": 2, "kl__target": 2.0, "kl__horizon": 20, "critic__optim__lr": 1e-2},
        ),
    }  # fmt: skip


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "seconds" and not k.startswith(("time/", "memory/"))} for row in rows]


def stopped_after(monkeypatch, steps):
    """From now on the loop is told to stop once it has done so many steps."""
    polls = []

    def requested():
        polls.append(1)
        return len(polls) == steps

    monkeypatch.setattr(runs, "stop_requested", requested)


def same_end(whole, resumed):
    """Everything the two runs left behind, times and names aside."""
    assert resumed.info.status == whole.info.status == "complete"
    assert len(whole.read_metrics()) == 6
    assert without_times(resumed.read_metrics()) == without_times(whole.read_metrics())
    assert resumed.read_samples() == whole.read_samples()
    assert resumed.info.results == whole.info.results
    for role in [output.role for output in whole.info.outputs]:
        one, two = ((run.output(role) / "model.safetensors").read_bytes() for run in (whole, resumed))
        assert one == two, role


@pytest.fixture(scope="module")
def uninterrupted(material, tmp_path_factory):
    """The same jobs run through, each once."""
    done = {}

    def get(kind):
        if kind not in done:
            stage, settings = jobs(material)[kind]
            done[kind] = tiny.run(stage, tmp_path_factory.mktemp("whole"), cadence__checkpoint=1, **settings)
        return done[kind]

    return get


CASES = [("pretrain", 3), ("sft", 5), ("reward", 4)]


@pytest.mark.parametrize(("kind", "after"), CASES)
def test_a_resumed_run_equals_an_uninterrupted_one(material, uninterrupted, tmp_path, monkeypatch, kind, after):
    stage, settings = jobs(material)[kind]
    whole = uninterrupted(kind)
    with monkeypatch.context() as patch:
        stopped_after(patch, after)
        with pytest.raises(Interrupted, match=f"after step {after} of 6; go on with: heed resume"):
            tiny.run(stage, tmp_path, cadence__checkpoint=1, **settings)
    (path,) = (file.parent for file in tmp_path.glob("*/*/run.json"))
    assert Run.open(path).info.status == "interrupted"
    assert checkpoints.step_of(checkpoints.newest(path)) == after
    torch.manual_seed(12345)  # as in another process
    assert main(["resume", str(path), "--quiet"]) == 0
    same_end(whole, Run.open(path))
    if kind == "sft":
        assert whole.info.results["best_step"] < after  # so the best weights came out of the checkpoint


# PPO asks after each of two buffers of critic pretraining; then in each step after its rollouts, between its four
# minibatches (two passes of two), and at its end.
ASKED = [0, 0, *(number for step in range(6) for number in [step] * 4 + [step + 1])]


@pytest.mark.parametrize("asked", range(1, len(ASKED)))
def test_ppo_resumed_at_any_place_equals_an_uninterrupted_run(material, uninterrupted, tmp_path, monkeypatch, asked):
    """Critic pretraining, mid-buffer, mid-pass, at a boundary with and without evaluation."""
    _, settings = jobs(material)["ppo"]
    whole = uninterrupted("ppo")
    with monkeypatch.context() as patch:
        stopped_after(patch, asked)
        with pytest.raises(Interrupted, match="stopped") as stopped:
            tiny.run(rl, tmp_path, cadence__checkpoint=1, **settings)
    (path,) = (file.parent for file in tmp_path.glob("*/*/run.json"))
    finished = ASKED[asked - 1]
    place = f"after step {finished}" if asked > 2 and (asked - 2) % 5 == 0 else f"within step {finished + 1}"
    assert f"stopped {place} of 6; go on with: heed resume" in str(stopped.value)
    assert checkpoints.step_of(checkpoints.newest(path)) == finished
    torch.manual_seed(12345)  # as in another process
    assert main(["resume", str(path), "--quiet"]) == 0
    same_end(whole, Run.open(path))


def test_a_run_killed_between_checkpoints_goes_back_to_the_last_one(material, uninterrupted, tmp_path, monkeypatch):
    """Numbers logged after the checkpoint are dropped, not doubled."""
    _, settings = jobs(material)["ppo"]
    seen = []
    real = rl.Reinforcement.step

    def dies(self, index):
        seen.append(index)
        if index == 3:
            raise RuntimeError("the power fails")
        return real(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(rl.Reinforcement, "step", dies)
        with pytest.raises(RuntimeError, match="the power fails"):
            tiny.run(rl, tmp_path, cadence__checkpoint=2, **settings)
    (path,) = (file.parent for file in tmp_path.glob("ppo/*/run.json"))
    assert len(Run.open(path).read_metrics()) == 3
    assert main(["resume", str(path), "--quiet"]) == 0
    assert Run.open(path).info.resumed == [2]
    same_end(uninterrupted("ppo"), Run.open(path))


def test_a_checkpoint_holds_what_it_says(material, uninterrupted):
    """The state after step 5 with the random generators and the buffers' statistics."""
    state = load_state(checkpoints.newest(uninterrupted("ppo")))
    assert set(state) == {"method", "rng", "overseer"}
    assert set(state["rng"]) >= {"python", "numpy", "torch"}
    method = state["method"]
    assert method["pending"] is None
    assert method["actor"]["step"] == 5 * 2 * 2  # steps × passes × minibatches
    assert method["critic"]["step"] == (5 + 1) * 2 * 2  # and two buffers of pretraining, gone through once
    assert method["shaper"]["count"] == (5 + 2) * 4
    assert method["controller"]["beta"] == method["beta"] != 0.2


def test_a_finished_or_changed_run_is_not_taken_up(material, uninterrupted, tmp_path, monkeypatch, capsys):
    assert main(["resume", str(uninterrupted("sft").path)]) == 2
    assert "is complete already" in capsys.readouterr().err
    data = tiny.demonstrations(tmp_path / "own.jsonl")
    _, settings = jobs(material)["sft"]
    with monkeypatch.context() as patch:
        stopped_after(patch, 1)
        with pytest.raises(Interrupted):
            tiny.run(sft, tmp_path, **(settings | {"data": data}))
    (path,) = (file.parent for file in tmp_path.glob("sft/*/run.json"))
    tiny.demonstrations(data, count=30)
    assert main(["resume", str(path)]) == 2
    assert "own.jsonl: has changed since" in capsys.readouterr().err


# ---------------------------------------------------------------- real signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_the_right_exit_code(material, tmp_path, number, code):
    words = [
        *("sft", f"model={material / 'model'}", f"data={material / 'demonstrations.jsonl'}", f"out={tmp_path}"),
        *("steps=100000", "batch=1", "length=64", "threads=1", "cadence.evaluate=0", "cadence.checkpoint=0"),
    ]
    heed = [sys.executable, "-c", "import sys; from heedlm.cli import main; sys.exit(main())"]
    errors = tmp_path / "stderr"
    with errors.open("w") as file, subprocess.Popen([*heed, *words], stderr=file, stdout=file) as process:
        try:
            deadline = time.monotonic() + 120
            while not any(tmp_path.glob("sft/*/metrics.jsonl")) and time.monotonic() < deadline:
                assert process.poll() is None, errors.read_text()
                time.sleep(0.05)
            process.send_signal(number)
            process.wait(timeout=60)
        finally:
            process.kill()
    said = errors.read_text()
    assert process.returncode == code, said
    (path,) = (file.parent for file in tmp_path.glob("sft/*/run.json"))
    info = json.loads((path / "run.json").read_text())
    assert info["status"] == "interrupted"
    last = said.strip().splitlines()[-1]
    assert last == f"heed sft: {info['reason']}"
    assert last.endswith(f"go on with: heed resume {path}")
    saved = checkpoints.newest(path)
    step = checkpoints.step_of(saved)
    assert len(Run.open(path).read_metrics()) == step > 0
    model = load_model(material / "model")
    model.load_state_dict(load_state(saved)["method"]["learner"]["model"])
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
