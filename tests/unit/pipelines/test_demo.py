"""The whole path on a village of a few dozen rows: every stage, every figure, and the last line as JSON."""

import json
import math

import pytest
from tests.unit.train import tiny

from heedlm.cli import main
from heedlm.pipelines import demo
from heedlm.runs import Run

FIGURES = {
    *("win_rate", "win_rate_low", "win_rate_high", "win_rate_length_matched", "kl_nats", "gold_sft", "gold_policy"),
    *("reward_model_accuracy", "seconds", "peak_mib", "report"),
}
LIMIT = {"sampling": {"max_new_tokens": 12}}
SMALL = {
    "village": {"corpus": 80, "corpus_dev": 10, "demonstrations": 60, "demonstrations_dev": 10}
    | {"prompts": 60, "prompts_dev": 6, "prompts_test": 12},
    "pretrain": {"steps": 6, "batch": 2, "length": 48, "vocabulary": 320, "cadence": {"evaluate": 3}},
    "sft": {"steps": 3, "batch": 2, "cadence": {"evaluate": 0}},
    "sample": {"limit": 40, "answers": 3} | LIMIT,
    "label": {"annotators": {"agreement": 0.52}, "test_share": 0.3},
    "reward": {"batch": 8, "epochs": 1},
    "ppo": {"steps": 2, "rollouts": 4, "minibatch": 2, "watch": 4, "critic": {"pretrain": 1}} | LIMIT,
    "evaluate": {"limit": 12, "limit_dev": 6, "temperatures": [0.0, 1.0]} | LIMIT,
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return tiny.run(demo, tmp_path_factory.mktemp("demo"), seed=3, **SMALL)


def test_every_stage_has_run_and_read_from_the_one_before(done):
    runs = {path.parent.parent.name: Run.open(path.parent) for path in done.path.glob("*/*/run.json")}
    assert set(runs) == {"village", "pretrain", "sft", "sample", "label", "reward", "ppo", "evaluate"}
    assert {run.info.status for run in runs.values()} == {"complete"}
    assert {run.info.seed for run in runs.values()} == {3}

    def reads(stage, role):
        run = runs[stage]
        return next(item.locate(run.path).parent.name for item in run.info.inputs if item.role == role)

    read = [
        *(("pretrain", "corpus"), ("sft", "model"), ("sft", "demonstrations"), ("sample", "model")),
        *(("label", "answers"), ("reward", "comparisons"), ("reward", "model"), ("ppo", "model")),
        *(("ppo", "reward_model"), ("ppo", "mix"), ("evaluate", "model"), ("evaluate", "against")),
    ]
    assert [reads(*each) for each in read] == [
        *("village", "pretrain", "village", "sft", "sample", "label", "sft", "sft", "reward", "village", "ppo", "sft")
    ]


def test_the_last_line_holds_the_figures(done):
    lines = demo.describe(done).splitlines()
    figures = json.loads(lines[-1])
    assert set(figures) == FIGURES
    for name in FIGURES - {"report", "win_rate_length_matched"}:
        assert math.isfinite(figures[name]), name
    assert 0 <= figures["win_rate_low"] <= figures["win_rate"] <= figures["win_rate_high"] <= 1
    assert 0 <= figures["gold_sft"] <= 1 >= figures["gold_policy"] >= 0
    assert figures["report"] == str(done.path / "report.html")
    assert (done.path / "report.html").stat().st_size > 10_000
    assert "temperature 1" in "\n".join(lines)
    assert "greedy" in "\n".join(lines)
    assert "each at its best development temperature" in "\n".join(lines)


def test_the_figure_that_counts_is_the_one_at_the_best_development_temperatures(done):
    results = done.info.results
    counted = [row for row in results["settings"] if row["counts"]]
    assert [row["name"] for row in counted] == ["each at its best development temperature"]
    assert counted[0]["win_rate"]["rate"] == results["win_rate"]
    assert counted[0]["win_rate"]["n"] == 12
    (measured,) = done.path.glob("evaluate/*/run.json")
    inside = Run.open(measured.parent).info.results
    assert inside["win_rate"]["rate"] == results["win_rate"]
    assert inside["kl_nats"] == results["kl_nats"]
    (judge,) = done.path.glob("reward/*/run.json")
    accuracy = Run.open(judge.parent).info.results["accuracy"]["accuracy"]["estimate"]
    assert accuracy == results["reward_model_accuracy"]


def test_the_command_prints_it_and_a_second_one_gets_a_name_of_its_own(done, capsys, monkeypatch):
    """The stages are stood in for by the finished run; what is tried is the command around them."""
    out = done.path.parents[1]
    words = [f"out={out}", "seed=3", "threads=1", *tiny.words_of(SMALL)]
    made = []

    def take(self, stage, name, settings):
        (path,) = done.path.glob(f"{name}/*/run.json")
        made.append(name)
        self.seconds[name] = 0.0
        return Run.open(path.parent)

    monkeypatch.setattr(demo.Chain, "do", take)
    assert main(["demo", *words, "--quiet"]) == 0
    figures = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(figures) == FIGURES
    assert figures["win_rate"] == done.info.results["win_rate"]
    assert figures["report"] != str(done.path / "report.html")
    assert len(list(out.glob("demo/*/run.json"))) == 2
    assert made == list(demo.STAGES)
