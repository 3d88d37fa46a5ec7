"""Self-rewarding rounds and a constitutional round at toy size: what reads what, what is measured, and resuming."""

from __future__ import annotations

import json

import pytest
from tests.unit.judges.server import Endpoint as Server
from tests.unit.judges.server import serving
from tests.unit.pipelines.test_compare import counted_polls, killed_and_resumed
from tests.unit.train import tiny

from heedlm import runs
from heedlm.cli import main
from heedlm.errors import BadInput, Interrupted
from heedlm.judges import endpoint
from heedlm.judges.constitution import principles
from heedlm.pipelines import constitution, self_reward
from heedlm.pipelines.constitution import WEIGHTS
from heedlm.records import Comparison, Prompt, read, write
from heedlm.runs import Run
from heedlm.stages import label
from heedlm.village import Village

SPOKEN = ("I do not know.", "The garden.", "No, please do not do that.", "Yes.", "1 apple, 2 pears.", "Ann has 3.")
LIMIT = {"sampling": {"max_new_tokens": 6}}
SHORT = {
    "sample": {"engine": {"name": "scripted", "answers": list(SPOKEN)}},
    "evaluate": {"limit": 6, "temperatures": [1.0], "limit_dev": 2} | LIMIT,
}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1, context=512)
    village = Village(0)
    world = folder / "world"
    world.mkdir()
    for role, split, count in (("prompts", "train", 24), ("prompts_test", "test", 6)):
        write(world / f"{role}.jsonl", village.prompts(count, split))
    write(world / "demonstrations.jsonl", village.demonstrations(20, "train"))
    return folder


def read_by(run):
    """What a run read: the name of the run or file behind each role."""
    return {item.role: str(item.locate(run.path)) for item in run.info.inputs}


def within(folder):
    """The runs below a folder, by the place of their stage."""
    paths = [path.parent for path in folder.glob("*/**/run.json") if path.parent != folder]
    return {str(path.relative_to(folder).parent): Run.open(path) for path in paths}


def rewarded(material, out, **more):
    given = {"rounds": 2, "prompts_each": 8, "grader": {"name": "village", "error": 1}}
    files = {"model": material / "model", "prompts": material / "world" / "prompts.jsonl"}
    short = {**SHORT, "label": {"judgements": 2}, "prefer": {"batch": 2}}
    return tiny.run(self_reward, out, **files, **short, **(given | more))


def test_each_round_trains_the_model_of_the_one_before_on_other_prompts(material, tmp_path):
    done = rewarded(material, tmp_path)
    found = {number: within(done.path / f"round-{number}") for number in (1, 2)}
    first, second = found[1]["prefer"], found[2]["prefer"]
    assert read_by(first)["model"] == str(material / "model")
    assert read_by(second)["model"] == str(first.path)
    assert read_by(found[2]["sample"])["model"] == str(first.path)
    assert read_by(found[2]["evaluate"])["against"] == str(material / "model")
    asked = [{p.id for p in read(done.path / f"round-{n}" / "prompts.jsonl", Prompt).rows} for n in (1, 2)]
    assert [len(ids) for ids in asked] == [8, 8]
    assert not asked[0] & asked[1]
    results = done.info.results
    assert results["model"] == str(second.path)
    assert [each["model"] for each in results["rounds"]] == [str(first.path), str(second.path)]
    for each in results["rounds"]:
        assert each["pairs"] + each["ties_dropped"] <= 8
        assert each["pairs"] >= 1
        assert each["unread_grades"] == 0
        assert 0 <= each["gold"] <= 1
        assert 0 <= each["gold_at_start"] <= 1
    assert results["grader"] == {"name": "village", "error": 1.0}
    settings = json.loads((first.path / "config.json").read_text())
    assert (settings["objective"]["name"], settings["objective"]["beta"], settings["pairs"]) == ("dpo", 0.1, "extremes")
    labels = json.loads((found[1]["label"].path / "config.json").read_text())
    assert (labels["judgements"], labels["test_share"]) == (2, 0.0)


def test_self_is_the_model_of_the_round(material, tmp_path):
    """A model without training cannot grade: the chain says so, and the label run shows who was asked."""
    with pytest.raises(BadInput, match="no verdict on any of 8 prompts could be read"):
        rewarded(material, tmp_path, grader={"name": "local", "path": "self"})
    (path,) = tmp_path.glob("self-reward/*/round-1/label/*/config.json")
    assert json.loads(path.read_text())["grader"]["path"] == str(material / "model")


def test_too_few_prompts_are_told_before_anything_runs(material, tmp_path):
    with pytest.raises(BadInput, match="24 prompts are too few for 2 rounds of 20; lower prompts_each to 12"):
        rewarded(material, tmp_path, prompts_each=20)
    assert not list(tmp_path.glob("*"))


def test_answers_that_grow_are_warned_of(material, tmp_path, capsys):
    rewarded(material, tmp_path, rounds=1, longer=0.01)
    assert "times as long as at the start" in capsys.readouterr().err


def test_a_stopped_chain_goes_on_with_the_round_it_was_in(material, tmp_path, monkeypatch):
    whole = rewarded(material, tmp_path / "whole")
    polls = []

    def stop_requested():
        polls.append(1)
        return len(polls) == 2

    with monkeypatch.context() as patch:
        patch.setattr(label.runs, "stop_requested", stop_requested)
        with pytest.raises(Interrupted):
            rewarded(material, tmp_path / "part")
    (path,) = (file.parent for file in tmp_path.glob("part/self-reward/*/run.json"))
    assert main(["resume", str(path), "--quiet"]) == 0
    measured = [{k: v for k, v in each.items() if k != "model"} for each in Run.open(path).info.results["rounds"]]
    assert measured == [{k: v for k, v in each.items() if k != "model"} for each in whole.info.results["rounds"]]
    assert runs.find_model(path)


def constituted(material, out, **more):
    world = material / "world"
    files = {"model": material / "model", "prompts": world / "prompts.jsonl"}
    short = {
        **SHORT, "limit": 16, "critique": {"rounds": 2}, "sft": {"steps": 2, "batch": 2}, "reward": {"batch": 4},
        "label": {"annotators": {"agreement": 0.51}, "test_share": 0.25},
        "ppo": {"steps": 1, "rollouts": 4, "minibatch": 2, "watch": 2, "critic": {"pretrain": 1}} | LIMIT,
    }  # fmt: skip
    return tiny.run(constitution, out, **files, **(short | more))


def test_a_constitutional_round_runs_through_and_measures_gold_before_and_after(material, tmp_path):
    done = constituted(material, tmp_path, demonstrations=material / "world" / "demonstrations.jsonl")
    found = within(done.path)
    assert set(found) == {
        "revision/sample", "revision/critique", "revision/sft", "revision/evaluate",
        "comparison/sample", "comparison/label", "comparison/reward", "ppo", "evaluate",
    }  # fmt: skip
    revised = str(found["revision/sft"].path)
    assert read_by(found["revision/sft"])["demonstrations"] == str(found["revision/critique"].path)
    assert read_by(found["comparison/sample"])["model"] == revised
    assert read_by(found["comparison/reward"])["comparisons"] == str(found["comparison/label"].path)
    assert read_by(found["ppo"])["reward_model"] == str(found["comparison/reward"].path)
    assert read_by(found["evaluate"])["against"] == str(material / "model")
    results = done.info.results
    assert set(results["measured"]) == {"revised", "after PPO"}
    for each in results["measured"].values():
        assert 0 <= each["gold_at_start"] <= 1
        assert 0 <= each["gold"] <= 1
    assert results["critique"]["gold_by_round"][2] > results["critique"]["gold_by_round"][0]
    rows = read(found["comparison/label"].output("comparisons"), Comparison).rows
    assert {each.group for each in rows} <= {each.id for each in principles()}
    assert len({each.group for each in rows}) > 3


@pytest.mark.parametrize("share", [0.2, 0.95])
def test_a_constitutional_round_killed_midway_ends_as_if_it_had_not_been(material, tmp_path, share):
    """While the first model learns from revisions, and while the last one learns from the reward."""
    settings = {"ppo": {"steps": 3, "rollouts": 4, "minibatch": 2, "watch": 2, "critic": {"pretrain": 1}} | LIMIT}

    def start(out):
        return constituted(material, out, **settings)

    with counted_polls() as polls:
        whole = start(tmp_path / "whole")
    again = killed_and_resumed(start, tmp_path / "part", int(share * len(polls)))
    first, second = (done.info.results | {"model": ""} for done in (whole, again))
    assert first == second


def test_the_villages_judges_weigh_what_their_principle_is_about(material):
    config = constitution.Config(model="m", prompts="p")
    groups = constitution._labelling(config)["annotators"]["groups"]
    by_id = {each.id: each for each in principles()}
    assert {group["name"] for group in groups} == set(by_id)
    for group in groups:
        for name, weight in group["weights"].items():
            assert weight == WEIGHTS[name] * (3 if name == by_id[group["name"]].criterion else 1)


def test_an_endpoint_reviews_and_compares(material, tmp_path):
    def reply(question):
        if "CRITIQUE:" in question:
            return "CRITIQUE: too short."
        if "REVISION:" in question:
            return "REVISION: I am not sure, please ask Ann."
        return "A" if len(question) % 2 else "B"

    with serving(Server(reply)) as server:
        judge = {"name": "endpoint", "url": server.url, "model": "m", "replies": str(tmp_path / "replies.jsonl")}
        done = constituted(material, tmp_path, reviewer=judge, ppo_too=False, label={"test_share": 0.25})
    endpoint._client.cache_clear()
    results = done.info.results
    # Each stage tells its own share of what the endpoint was asked.
    stages = ("revision/critique", "comparison/label")
    asked = [within(done.path)[stage].info.results["usage"]["requests"] for stage in stages]
    assert min(asked) > 0
    assert sum(asked) == len(server.bodies)
    assert results["labels"]["unread_verdicts"] == 0
    assert set(results["measured"]) == {"revised"}
    assert results["reviewer"]["url"] == server.url
    told = next(done.path.glob("revision/critique/*/demonstrations.jsonl")).read_text()
    assert "I am not sure, please ask Ann." in told
