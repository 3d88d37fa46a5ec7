"""The loop around all training: what it logs, when it looks up, how it stops and goes on, and what NaN does."""

import math

import pytest
import torch

from heedlm import runs
from heedlm.config import StageConfig
from heedlm.errors import Interrupted, NotFinite
from heedlm.runs import Run, checkpoints
from heedlm.train.loop import Cadence, train


class Counter:
    """A method whose state is a sum of random draws, so that a lost state or generator shows."""

    def __init__(self, bad_step=None, bad_evaluation=None):
        self.total = torch.zeros(())
        self.steps = []
        self.evaluations = []
        self.bad_step, self.bad_evaluation = bad_step, bad_evaluation

    def step(self, index):
        self.steps.append(index)
        self.total = self.total + torch.rand(())
        return {"loss": math.nan if index == self.bad_step else float(self.total), "tokens": 3}

    def evaluate(self, index):
        self.evaluations.append(index)
        return {"loss/held_out": math.inf if index == self.bad_evaluation else float(self.total) / 2}

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    return Run.create("sft", StageConfig(out=tmp_path))


def rows(run):
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "memory/mib")} for row in run.read_metrics()
    ]


def saved(run):
    return sorted(path.name for path in (run.path / "checkpoints").glob("0*"))


def test_every_step_is_logged_and_held_out_data_looked_at_on_time(run):
    method = Counter()
    train(run, method, steps=7, cadence=Cadence(evaluate=3, checkpoint=2, keep=2), title="sft")
    assert method.steps == list(range(7))
    assert method.evaluations == [3, 6, 7]
    assert [row["step"] for row in run.read_metrics()] == list(range(1, 8))
    assert ["loss/held_out" in row for row in run.read_metrics()] == [False, False, True, False, False, True, True]
    assert saved(run) == ["000004", "000006"]
    seconds = [row["seconds"] for row in run.read_metrics()]
    assert seconds == sorted(seconds)


def test_zero_means_only_at_the_end_and_never(run):
    method = Counter()
    train(run, method, steps=4, cadence=Cadence(evaluate=0, checkpoint=0), title="sft")
    assert method.evaluations == [4]
    assert saved(run) == []


@pytest.mark.parametrize("after", range(1, 6))
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch, after):
    cadence = Cadence(evaluate=2, checkpoint=0)
    torch.manual_seed(0)
    whole = Run.create("sft", StageConfig(out=tmp_path, name="whole"))
    one = Counter()
    train(whole, one, steps=6, cadence=cadence, title="sft")

    torch.manual_seed(0)
    stopped = Run.create("sft", StageConfig(out=tmp_path, name="stopped"))
    first = Counter()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "stop_requested", lambda: len(first.steps) == after)
        with pytest.raises(Interrupted, match=f"after step {after} of 6; go on with: heed resume"), stopped:
            train(stopped, first, steps=6, cadence=cadence, title="sft")
    assert stopped.info.status == "interrupted"
    assert saved(stopped) == [f"{after:06d}"]
    torch.manual_seed(99)  # another process has its generators elsewhere
    again, second = Run.resume(stopped.path), Counter()
    train(again, second, steps=6, cadence=cadence, title="sft")
    assert second.steps == list(range(after, 6))
    assert torch.equal(one.total, second.total)
    assert rows(again) == rows(whole)
    seconds = [row["seconds"] for row in again.read_metrics()]
    assert seconds == sorted(seconds)


def test_a_stop_at_the_last_step_completes_the_run(run, monkeypatch):
    monkeypatch.setattr(runs, "stop_requested", lambda: len(method.steps) == 3)
    method = Counter()
    train(run, method, steps=3, cadence=Cadence(), title="sft")
    assert method.evaluations == [3]
    assert checkpoints.newest(run) is None


def test_nan_stops_within_one_step_and_names_it(run):
    method = Counter(bad_step=2)
    with pytest.raises(NotFinite, match="loss became nan in step 3"), run:
        train(run, method, steps=6, cadence=Cadence(checkpoint=1), title="sft")
    assert method.steps == [0, 1, 2]
    assert run.info.status == "failed"
    assert "loss became nan in step 3" in run.info.reason
    assert saved(run) == ["000001", "000002"]  # none of them has seen the NaN


@pytest.mark.parametrize("at", [2, 4])
def test_nan_on_held_out_data_is_no_success_either(run, at):
    """The weights after the last step show only there: a run with such weights must not end as complete."""
    with pytest.raises(NotFinite, match=f"loss/held_out became inf in step {at}"), run:
        train(run, Counter(bad_evaluation=at), steps=4, cadence=Cadence(evaluate=2, checkpoint=1), title="sft")
    assert run.info.status == "failed"
    assert saved(run)[-1] == f"{at - 1:06d}"
