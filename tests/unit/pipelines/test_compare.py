"""Comparing methods, and going round the loop, on a village of a few dozen rows."""

import json
import math
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.pipelines.test_demo import LIMIT, SMALL
from tests.unit.train import tiny

from heedlm import runs
from heedlm.cli import main
from heedlm.errors import BadInput, Interrupted, NotFinite
from heedlm.evals.student import quantile_975
from heedlm.pipelines import compare, demo, loop
from heedlm.pipelines.chain import merged
from heedlm.pipelines.compare import Measured, summary
from heedlm.records import Comparison, read
from heedlm.report import forest
from heedlm.runs import Run

ONLINE = {"steps": 2, "rollouts": 8, "minibatch": 8, "watch": 4, "critic": {"pretrain": 1}} | LIMIT
SHORT = {
    "prefer": {"batch": 8, "epochs": 1},
    "ppo": ONLINE,
    "best_of_n": {"limit": 60, "n": 3, "sampling": {"max_new_tokens": 96}},
    "sft": SMALL["sft"],
    "evaluate": SMALL["evaluate"],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small demo, whose stages the methods start from."""
    done = tiny.run(demo, tmp_path_factory.mktemp("world"), seed=3, **SMALL)
    found = {path.parent.parent.name: str(path.parent) for path in done.path.glob("*/*/run.json")}
    return {"model": found["sft"], "data": found["label"], "reward": found["reward"], "prompts": found["village"]}


@pytest.fixture(scope="module")
def compared(world, tmp_path_factory):
    methods = "dpo,ppo,rloo,rejection"
    given = {**world, **SHORT, "methods": methods, "seeds": 2, "tries": 2}
    return tiny.run(compare, tmp_path_factory.mktemp("compare"), **given)


def test_every_method_is_tuned_on_development_prompts_and_measured_over_the_seeds(compared):
    table = compared.info.results["methods"]
    assert list(table) == ["dpo", "ppo", "rloo", "rejection"]
    for name, row in table.items():
        assert len(row["tried"]) == 2, name
        assert f"{row['rate']:g}" in row["tried"]
        best = max(value for value in row["tried"].values() if value is not None)
        assert row["tried"][f"{row['rate']:g}"] == best
        assert [one["seed"] for one in row["runs"]] == [0, 1]
        assert row["win_rate"] == pytest.approx(sum(one["win_rate"] for one in row["runs"]) / 2)
        assert row["low"] <= row["win_rate"] <= row["high"]
        assert row["seconds"] > 0
        assert row["tokens"] > 0
        for one in row["runs"]:
            trained = Run.open(one["run"])
            assert trained.info.seed == one["seed"]
            assert json.loads((trained.path / "config.json").read_text())["optim"]["lr"] == row["rate"]
    roles = [Run.open(path.parent).info for path in compared.path.glob("*/dev-*/evaluate/*/run.json")]
    assert len(roles) == 8
    assert {item.role for info in roles for item in info.inputs} >= {"model"}


def test_the_cost_counts_all_that_was_sampled_and_learned_from(compared):
    """Of rejection: the answers that were thrown away too. Of PPO: those that its critic started on too."""
    table = compared.info.results["methods"]

    def learned(one):
        return sum(row["tokens"] for row in Run.open(one["run"]).read_metrics())

    for one in table["rejection"]["runs"]:
        (kept,) = compared.path.glob(f"rejection/seed-{one['seed']}/best_of_n/*/run.json")
        sampled = Run.open(kept.parent).info.results
        assert sampled["tokens"] >= sampled["answers"] > sampled["prompts"]
        assert one["tokens"] == learned(one) + sampled["tokens"]
        assert one["seconds"] == Run.open(one["run"]).info.seconds + Run.open(kept.parent).info.seconds
    for one in table["ppo"]["runs"]:
        trained = Run.open(one["run"])
        first, second = trained.read_metrics()
        sampled = 8 * (first["length/mean"] + second["length/mean"])
        assert len(trained.info.results["critic_pretraining_losses"]) == 1
        assert sampled < one["tokens"] == learned(one) <= sampled + 8 * ONLINE["sampling"]["max_new_tokens"]
    assert all(row["proxy"] is not None for row in table.values())


def test_a_method_that_fails_with_every_seed_is_told_and_does_not_end_the_comparison(world, tmp_path, monkeypatch):
    real = compare.prefer.run

    def run(config, resume=None):
        if config.objective.name == "ipo":
            raise NotFinite("loss/train became nan in step 1")
        return real(config, resume)

    monkeypatch.setattr(compare.prefer, "run", run)
    given = SHORT | {"evaluate": SHORT["evaluate"] | {"judge": {"name": "scripted"}}}
    done = tiny.run(compare, tmp_path, **world, **given, methods="ipo,dpo", seeds=1, tries=2)
    row = done.info.results["methods"]["ipo"]
    assert (row["win_rate"], row["runs"]) == (None, [])
    assert row["failed"] == ["seed 0: loss/train became nan in step 1"]
    assert set(row["tried"].values()) == {None}
    decided = {Run.open(path.parent).info.results["decided_by"] for path in done.path.glob("dpo/*/evaluate/*/run.json")}
    assert decided == {"scripted"}, "a judge given for the evaluation decides in place of gold"
    lines = compare.describe(done).splitlines()
    assert lines[1].startswith("dpo ")
    assert lines[2].startswith("ipo ")
    assert "failed  seed 0: loss/train became nan" in lines[2]
    assert "dpo" in (done.path / "comparison.svg").read_text()


def test_the_table_and_the_picture_name_every_method(compared):
    text = compare.describe(compared)
    picture = (compared.path / "comparison.svg").read_text()
    for name in ("dpo", "ppo", "rloo", "rejection"):
        assert name in text
        assert name in picture


def test_a_comparison_that_was_stopped_goes_on_without_training_anew(compared, world, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(compared.path, folder)
    info = json.loads((folder / "run.json").read_text())
    info["status"] = "interrupted"
    (folder / "run.json").write_text(json.dumps(info))
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/seed-*/**/run.json")}
    assert before
    config = compare.Config.model_validate(json.loads((folder / "config.json").read_text()))
    again = compare.run(config, resume=folder)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/seed-*/**/run.json")} == before
    first, second = (json.dumps(done.info.results["methods"]) for done in (compared, again))
    assert second.replace(str(folder), "") == first.replace(str(compared.path), "")


def test_what_a_method_lacks_is_told_before_anything_is_trained(world, tmp_path):
    for missing, method, told in (("data", "dpo", "data= is missing"), ("reward", "grpo", "reward= is missing")):
        given = {key: value for key, value in world.items() if key != missing}
        with pytest.raises(BadInput, match=told):
            tiny.run(compare, tmp_path, **given, methods=method)
    with pytest.raises(BadInput, match="none of dpo"):
        tiny.run(compare, tmp_path, **world, methods="dpq")
    with pytest.raises(BadInput, match="settings of ppo"):
        tiny.run(compare, tmp_path, **world, methods="ppo", ppo={"stesp": 3})
    absent = str(tmp_path / "absent")
    for name, value, told in (
        ("model", absent, "no such model"), ("data", absent, "absent"), ("reward", absent, "no such model"),
        ("reward", f"{world['reward']},{absent}", "no such model"), ("reward", f"{absent}.py", "no such Python file"),
        ("judge", absent, "no such model"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=told):
            tiny.run(compare, tmp_path, **world | {name: value}, methods="dpo,ppo")
    assert not list(tmp_path.iterdir())


def test_an_interval_adds_what_seeds_and_what_prompts_leave_open():
    rates = [0.6, 0.7, 0.8]
    found = [Measured(n, rate, 0.02, None, None, 1.0, 9.0, 2.0, 5.0, "x") for n, rate in enumerate(rates)]
    row = summary(found)
    between = quantile_975(2) * 0.1 / math.sqrt(3)
    half = math.hypot(between, 1.959964 * 0.02)
    assert row["win_rate"] == pytest.approx(0.7)
    assert (row["low"], row["high"]) == (pytest.approx(0.7 - half), pytest.approx(0.7 + half))
    assert row["gold"] is None
    one = summary(found[:1])
    assert one["high"] - one["low"] == pytest.approx(2 * 1.959964 * 0.02)
    assert summary([])["win_rate"] is None


def test_quantiles_of_student():
    known = {1: 12.7062, 2: 4.3027, 4: 2.7764, 5: 2.5706, 30: 2.0423}
    for freedom, value in known.items():
        assert quantile_975(freedom) == pytest.approx(value, abs=5e-5)
    with pytest.raises(ValueError, match="one degree"):
        quantile_975(0)


def test_later_settings_win_and_the_rest_of_a_table_stays():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}


def test_hostile_names_stay_text_in_the_picture():
    picture = forest.draw([forest.Row("<script>alert(1)</script>", 0.6, 0.5, 0.7)], "a & b")
    assert "<script>" not in picture
    assert "a &amp; b" in picture


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_comparison_killed_while_a_method_trains_ends_as_if_it_had_not_been(world, tmp_path, share):
    given = {**world, **SHORT, "methods": "dpo,rloo", "seeds": 1, "tries": 2}

    def start(out):
        return tiny.run(compare, out, **given)

    with counted_polls() as polls:
        whole = start(tmp_path / "whole")
    again = killed_and_resumed(start, tmp_path / "part", int(share * len(polls)))
    timeless = [json.loads(json.dumps(done.info.results["methods"])) for done in (whole, again)]
    for table in timeless:
        for row in table.values():
            for figures in (row, *row["runs"]):
                del figures["seconds"]
                figures.pop("run", None)
    assert timeless[0] == timeless[1]


@contextmanager
def counted_polls():
    """How often it is asked whether to stop."""
    polls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "stop_requested", lambda: polls.append(1))
        yield polls


def killed_and_resumed(start, out, at):
    """Stop from the so-manieth time on that it is asked, leave the files as a kill does, and go on."""
    polls = []

    def stop_requested():
        polls.append(1)
        return len(polls) >= at

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "stop_requested", stop_requested)
        with pytest.raises(Interrupted):
            start(out)
    stopped = [path for path in out.rglob("run.json") if Run.open(path.parent).info.status == "interrupted"]
    assert len(stopped) == 2, "the chain, and the stage that it was in"
    for path in stopped:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running", "finished": None}))
    path = min(stopped, key=lambda each: len(each.parts)).parent
    assert main(["resume", str(path), "--quiet"]) == 0
    return Run.open(path)


def rounds_of(world):
    return {
        **{key: world[key] for key in ("model", "prompts")},
        **{key: SMALL[key] for key in ("label", "reward", "evaluate")},
        "sample": {"answers": 3} | LIMIT,
        "ppo": ONLINE,
        "rounds": 2,
        "fresh": 25,
    }


@pytest.fixture(scope="module")
def looped(world, tmp_path_factory):
    with counted_polls() as polls:
        done = tiny.run(loop, tmp_path_factory.mktemp("loop"), **rounds_of(world))
    done.polls = len(polls)
    return done


@pytest.mark.parametrize("share", [0.55, 0.95])
def test_a_loop_killed_within_a_round_ends_as_if_it_had_not_been(looped, world, tmp_path, share):
    """In the second round, while its reward model or its policy trains."""
    again = killed_and_resumed(lambda out: tiny.run(loop, out, **rounds_of(world)), tmp_path, int(share * looped.polls))
    rows = [[{**row, "model": ""} for row in done.info.results["rounds"]] for done in (looped, again)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 2
    resumed = [path for path in again.path.glob("round-*/*/*/run.json") if Run.open(path.parent).info.resumed]
    assert [path.relative_to(again.path).parts[0] for path in resumed] == ["round-2"]
    for role in ("comparisons", "comparisons_test"):
        one, two = (done.path / "round-2" / f"{role}.jsonl" for done in (looped, again))
        assert [row.ranks for row in read(one, Comparison)] == [row.ranks for row in read(two, Comparison)]


def inputs(run: Run) -> dict[str, Path]:
    return {item.role: item.locate(run.path) for item in run.info.inputs}


def test_each_round_samples_from_the_last_policy_and_learns_from_all_comparisons(looped):
    rows = looped.info.results["rounds"]
    assert [row["round"] for row in rows] == [1, 2]
    first, second = (read(looped.path / f"round-{n}" / "comparisons.jsonl", Comparison).rows for n in (1, 2))
    assert rows[1]["comparisons"] == len(second) > len(first) == rows[0]["comparisons"]
    assert second[: len(first)] == first
    asked = [{row.prompt for row in rows} for rows in (first, second[len(first) :])]
    assert not asked[0] & asked[1]
    (sampled,) = (Run.open(path.parent) for path in looped.path.glob("round-2/sample/*/run.json"))
    assert str(inputs(sampled)["model"]).startswith(rows[0]["model"])
    assert runs.find_model(str(looped.path)).exists()
    assert "round 2" in (looped.path / "rounds.svg").read_text()
    assert str(looped.path) in loop.describe(looped)


def test_a_loop_can_train_straight_on_the_comparisons(world, tmp_path):
    given = {
        **{key: world[key] for key in ("model", "prompts")},
        **{key: SMALL[key] for key in ("label", "evaluate")},
        "sample": {"answers": 3} | LIMIT,
        "prefer": SHORT["prefer"],
    }
    done = tiny.run(loop, tmp_path, rounds=2, fresh=25, train="prefer", restart=True, **given)
    (second,) = (Run.open(path.parent) for path in done.path.glob("round-2/prefer/*/run.json"))
    assert str(inputs(second)["model"]).startswith(world["model"])
    assert not list(done.path.glob("*/reward"))


def test_too_few_prompts_and_what_is_missing_are_told_at_once(world, tmp_path):
    with pytest.raises(BadInput, match="try fresh=30"):
        tiny.run(loop, tmp_path, model=world["model"], prompts=world["prompts"], rounds=2, fresh=100)
    absent = str(tmp_path / "absent")
    for more in ({"model": absent}, {"judge": absent}, {"judge": f"{world['reward']},{absent}"}):
        with pytest.raises(BadInput, match="absent: no such model"):
            tiny.run(loop, tmp_path, **{"model": world["model"], "prompts": world["prompts"], "fresh": 20} | more)
    assert not list(tmp_path.iterdir())
