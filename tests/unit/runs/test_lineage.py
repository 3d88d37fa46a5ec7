import json

import pytest

from heedlm import runs
from heedlm.config import StageConfig
from heedlm.errors import BadInput
from heedlm.runs import Input, Run
from heedlm.stages import lineage as stage


@pytest.fixture
def path(tmp_path, monkeypatch):
    """corpus and demonstrations → pretrain → sft → reward (from comparisons) → ppo."""
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", "demonstrations", "comparisons", "prompts", "unseen"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name}"}}\n')
    made = {}
    made["pretrain"] = make("pretrain", {"corpus": "corpus.jsonl"})
    made["sft"] = make("sft", {"model": made["pretrain"], "demonstrations": "demonstrations.jsonl"})
    made["reward"] = make("reward", {"model": f"{made['sft']}/model", "comparisons": "comparisons.jsonl"})
    made["ppo"] = make("ppo", {"model": made["sft"], "reward": made["reward"], "prompts": "prompts.jsonl"})
    return made


def make(stage, inputs):
    with Run.create(stage, StageConfig(), [Input(role, at) for role, at in inputs.items()]) as run:
        (run.path / "model").mkdir()
        (run.path / "model" / "config.json").write_text(json.dumps({"made_by": run.name}))
        run.add_output("model", run.path / "model")
    return str(run.path)


def leaves(node):
    if not node.sources:
        yield node
    for source in node.sources:
        yield from leaves(source)


def test_it_walks_back_to_the_corpora(path):
    tree = runs.lineage(path["ppo"], check=True)
    assert tree.stage == "ppo"
    assert [source.role for source in tree.sources] == ["model", "reward", "prompts"]
    assert {leaf.path for leaf in leaves(tree)} == {
        "corpus.jsonl",
        "demonstrations.jsonl",
        "comparisons.jsonl",
        "prompts.jsonl",
    }
    assert {leaf.state for leaf in leaves(tree)} == {"as read"}
    text = runs.as_text(tree)
    assert text.splitlines()[0] == path["ppo"]
    assert text.count("corpus.jsonl") == 1, "a run that comes up twice is spelt out once"


def test_it_tells_what_has_changed_or_gone(path, tmp_path):
    (tmp_path / "corpus.jsonl").write_text("other")
    (tmp_path / "prompts.jsonl").unlink()
    result = stage.run(stage.Config(run=path["ppo"]))
    assert result["problems"] == ["corpus.jsonl: changed"] * 2 + ["prompts.jsonl: gone"]
    assert "corpus.jsonl  (changed" in result["text"]


def test_a_tree_of_runs_may_be_moved_as_a_whole(path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name in ("corpus.jsonl", "demonstrations.jsonl", "comparisons.jsonl", "prompts.jsonl", "runs"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    tree = runs.lineage(f"elsewhere/{path['ppo']}", check=True)
    assert {leaf.state for leaf in leaves(tree)} == {"as read"}
    assert {leaf.path for leaf in leaves(tree)} >= {"elsewhere/corpus.jsonl"}


@pytest.mark.parametrize(
    ("dataset", "stages"),
    [
        ("corpus.jsonl", ["pretrain", "sft", "reward", "ppo"]),
        ("demonstrations.jsonl", ["sft", "reward", "ppo"]),
        ("comparisons.jsonl", ["reward", "ppo"]),
        ("prompts.jsonl", ["ppo"]),
        ("unseen.jsonl", []),
    ],
)
def test_everything_that_saw_a_data_set_is_found(path, dataset, stages):
    seen = runs.models_that_saw(dataset)
    assert sorted(item.stage for item in seen) == sorted(stages)
    assert all(item.makes_model for item in seen)
    direct = [item.stage for item in seen if item.through is None]
    assert direct == stages[:1]


def test_a_data_set_is_known_by_content_path_or_fingerprint(path, tmp_path):
    print_ = runs.fingerprint("demonstrations.jsonl")
    (tmp_path / "copy.jsonl").write_bytes((tmp_path / "demonstrations.jsonl").read_bytes())
    assert len(runs.models_that_saw("copy.jsonl")) == 3
    assert len(runs.models_that_saw(print_)) == 3
    (tmp_path / "demonstrations.jsonl").write_text("erased")
    assert len(runs.models_that_saw("demonstrations.jsonl")) == 3
    (tmp_path / "demonstrations.jsonl").unlink()
    assert len(runs.models_that_saw("demonstrations.jsonl")) == 3
    with pytest.raises(BadInput, match="no such file, and no run has read it"):
        runs.models_that_saw("gone.jsonl")


def test_one_output_of_a_run_does_not_taint_users_of_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Run.create("village", StageConfig()) as world:
        for role in ("corpus", "demonstrations"):
            (world.path / f"{role}.jsonl").write_text(role)
            world.add_output(role, world.path / f"{role}.jsonl")
    base = make("pretrain", {"corpus": world.path})
    make("sft", {"model": base, "demonstrations": world.path})
    assert [item.stage for item in runs.models_that_saw(world.path / "demonstrations.jsonl")] == ["sft"]
    assert sorted(item.stage for item in runs.models_that_saw(world.path / "corpus.jsonl")) == ["pretrain", "sft"]


def test_the_command_lists_who_saw_a_file(path):
    result = stage.run(stage.Config(of="comparisons.jsonl"))
    assert result["text"].splitlines()[0] == "comparisons.jsonl was seen by 2 runs, 2 of which made a model:"
    assert "as comparisons" in result["text"]
    assert stage.run(stage.Config(of="unseen.jsonl"))["text"] == "nothing has seen unseen.jsonl"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give a run to walk back from"),
        ({"run": "a", "of": "b"}, "give a run to walk back from"),
        ({"run": "corpus.jsonl"}, "belongs to no run"),
        ({"of": "corpus.jsonl", "roots": ["nowhere"]}, "no folder nowhere"),
    ],
)
def test_a_wrong_question_is_told_in_one_line(path, settings, message):
    with pytest.raises(BadInput, match=message):
        stage.run(stage.Config(**settings))
