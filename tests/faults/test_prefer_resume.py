"""Preference training that is stopped and resumed ends as if nothing had happened, bit for bit."""

import pytest
import torch
from tests.unit.train import tiny

from heedlm import runs
from heedlm.cli import main
from heedlm.errors import Interrupted
from heedlm.runs import Run, checkpoints
from heedlm.stages import prefer

RANKED = [("In the red house.", "red", "no"), ("Blue.", "I do not know."), ("white", "who?", "小猫", "yes")] * 4


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.comparisons(folder / "comparisons.jsonl", RANKED)
    return folder


def job(material, **more):
    return {
        "model": material / "model", "data": material / "comparisons.jsonl", "test": material / "comparisons.jsonl",
        "held_out_share": 0.2, "batch": 3, "epochs": 1.6, "budget": 60, "optim__lr": 1e-2,
        "cadence__evaluate": 2, "cadence__checkpoint": 1,
    } | more  # fmt: skip


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "seconds" and not k.startswith("memory/")} for row in rows]


@pytest.mark.parametrize(
    ("more", "after"),
    [
        ({}, 3),
        ({"objective__name": "kto", "lora__rank": 4}, 4),
        ({"objective__name": "orpo"}, 1),
        ({"precompute": False}, 5),
    ],
    ids=["dpo", "kto with adapters", "orpo", "reference in every step"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(material, tmp_path, monkeypatch, more, after):
    settings = job(material, **more)
    whole = tiny.run(prefer, tmp_path / "whole", **settings)
    steps = len(whole.read_metrics())
    assert steps > after
    polls = []

    def stop_requested():
        polls.append(1)
        return len(polls) == after

    with monkeypatch.context() as patch:
        patch.setattr(runs, "stop_requested", stop_requested)
        with pytest.raises(Interrupted, match=f"after step {after} of {steps}; go on with: heed resume"):
            tiny.run(prefer, tmp_path / "part", **settings)
    (path,) = (file.parent for file in tmp_path.glob("part/*/*/run.json"))
    assert checkpoints.step_of(checkpoints.newest(path)) == after
    torch.manual_seed(12345)  # as in another process
    assert main(["resume", str(path), "--quiet"]) == 0
    resumed = Run.open(path)
    assert without_times(resumed.read_metrics()) == without_times(whole.read_metrics())
    assert resumed.info.results == whole.info.results
    for item in whole.info.outputs:
        for file in sorted((whole.path / item.path).glob("*.safetensors")):
            assert file.read_bytes() == (path / item.path / file.name).read_bytes(), item.role
