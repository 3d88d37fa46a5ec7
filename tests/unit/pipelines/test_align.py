"""Aligning a model of one's own: every stage that has input is run, the others are skipped and named."""

import json
from types import SimpleNamespace

import pytest
from pydantic import Field
from tests.unit.train import tiny

from heedlm import config, runs
from heedlm.cli import main
from heedlm.errors import BadInput, Interrupted
from heedlm.models import load_model, load_with_tokenizer, weights_hash
from heedlm.pipelines import align
from heedlm.pipelines.chain import Chain, as_words
from heedlm.records import Prompt, read
from heedlm.runs import Run
from heedlm.stages import label, sft

SHORT = {
    "sft": {"steps": 2, "length": 64, "batch": 2},
    "reward_model": {"batch": 4, "held_out_share": 0.2},
    "ppo": {"steps": 2, "rollouts": 4, "minibatch": 2, "critic": {"pretrain": 1}, "watch": 2}
    | {"sampling": {"max_new_tokens": 6}},
    "evaluate": {"sampling": {"max_new_tokens": 6}, "temperatures": [0.0, 1.0]},
}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.demonstrations(folder / "demonstrations.jsonl")
    tiny.prompts(folder / "prompts.jsonl", 40)
    tiny.comparisons(folder / "comparisons.jsonl", [("In the red house.", "no")] * 12)
    return folder


def run(material, out, **given):
    files = {key: material / value if value.endswith(".jsonl") else value for key, value in given.items()}
    return tiny.run(align, out, model=material / "model", **files, **SHORT)


def read_by(run):
    """What a run read: the path behind each role."""
    return {item.role: str(item.locate(run.path)) for item in run.info.inputs}


def stages(out):
    return sorted(path.parent.parent.name for path in out.glob("align/*/*/*/run.json"))


EVERYTHING = {
    "demonstrations": "demonstrations.jsonl",
    "comparisons": "comparisons.jsonl",
    "prompts": "prompts.jsonl",
}


def test_with_everything_given_every_stage_runs_and_hands_on(material, tmp_path):
    done = run(material, tmp_path, **EVERYTHING)
    assert stages(tmp_path) == ["evaluate", "ppo", "reward", "sft"]
    results = done.info.results
    assert results["skipped"] == []
    paths = results["stages"]
    inputs = {name: read_by(Run.open(path)) for name, path in paths.items()}
    assert inputs["reward"]["model"] == inputs["ppo"]["model"] == inputs["evaluate"]["against"] == paths["sft"]
    assert inputs["ppo"]["reward_model"] == inputs["evaluate"]["judge"] == paths["reward"]
    assert inputs["evaluate"]["model"] == paths["ppo"] == results["model"]
    assert results["win_rate"]["n"] == 4  # one prompt in ten of 40 is kept for evaluation
    model, _ = load_with_tokenizer(done.output("model"))
    assert weights_hash(model) == weights_hash(load_model(Run.open(paths["ppo"]).output("model")))
    for path in (done.path, *paths.values()):
        page = (runs.Run.open(path).path / "report.html").read_text(encoding="utf-8")
        assert page.lower().startswith("<!doctype html>")


def test_the_prompts_are_split_without_loss_or_overlap(material, tmp_path):
    done = run(material, tmp_path, prompts="prompts.jsonl", reward="ends_well")
    parts = [{p.id for p in read(done.output(role), Prompt).rows} for role in ("prompts", "prompts_test")]
    assert [len(part) for part in parts] == [36, 4]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {p.id for p in read(material / "prompts.jsonl", Prompt).rows}


@pytest.mark.parametrize(
    ("given", "ran"),
    [
        ({"demonstrations": "demonstrations.jsonl"}, ["sft"]),
        ({"comparisons": "comparisons.jsonl"}, ["reward"]),
        ({"prompts": "prompts.jsonl", "reward": "ends_well"}, ["evaluate", "ppo"]),
        ({"demonstrations": "demonstrations.jsonl", "comparisons": "comparisons.jsonl"}, ["reward", "sft"]),
    ],
)
def test_a_stage_without_input_is_skipped_and_named(material, tmp_path, given, ran):
    done = run(material, tmp_path, **given)
    assert stages(tmp_path) == ran
    assert sorted(done.info.results["stages"]) == ran
    assert set(done.info.results["skipped"]) == {"sft", "reward", "ppo", "evaluate"} - set(ran)
    assert (done.output("model") is not None) == ("sft" in ran or "ppo" in ran)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing to do: give demonstrations="),
        ({"prompts": "prompts.jsonl"}, "nothing to score answers with: add comparisons= or reward="),
        ({"comparisons": "comparisons.jsonl", "reward": "ends_well"}, "not both"),
    ],
)
def test_what_cannot_work_is_told_before_anything_runs(material, tmp_path, given, said):
    with pytest.raises(BadInput, match=said):
        run(material, tmp_path, **given)
    assert not any(tmp_path.iterdir())


def test_a_missing_file_of_a_later_stage_is_found_before_the_first_one_runs(material, tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.jsonl: no such file"):
        run(material, tmp_path, **(EVERYTHING | {"comparisons": "nowhere.jsonl"}))
    assert stages(tmp_path) == []


def test_a_wrong_setting_of_a_later_stage_is_found_before_the_first_one_runs(material, tmp_path):
    with pytest.raises(BadInput, match=r"settings of ppo: stepz: no such setting \(nearest: steps\)"):
        tiny.run(align, tmp_path, model=material / "model", demonstrations=material / "demonstrations.jsonl",
                 prompts=material / "prompts.jsonl", reward="ends_well", ppo={"stepz": 3})  # fmt: skip
    with pytest.raises(BadInput, match=r"settings of sft: .*huge"):
        tiny.run(align, tmp_path, model=material / "model", demonstrations=material / "demonstrations.jsonl",
                 preset="huge")  # fmt: skip
    assert not any(tmp_path.iterdir())


def test_a_chain_goes_on_where_it_stopped(material, tmp_path, monkeypatch):
    """Interrupted in PPO: fine-tuning and the reward model are not done again, PPO goes on from its checkpoint."""
    whole = run(material, tmp_path / "whole", **EVERYTHING)
    polls = []

    def requested():
        polls.append(1)
        return len(polls) == stop_at

    steps = {name: len(Run.open(path).read_metrics()) for name, path in whole.info.results["stages"].items()}
    stop_at = steps["sft"] + steps["reward"] + 1
    with monkeypatch.context() as patch:
        patch.setattr(runs, "stop_requested", requested)
        with pytest.raises(Interrupted, match="within step 1 of 2"):
            run(material, tmp_path / "cut", **EVERYTHING)
    (path,) = (file.parent for file in (tmp_path / "cut").glob("align/*/run.json"))
    assert Run.open(path).info.status == "interrupted"
    monkeypatch.setattr(sft, "run", lambda *args, **more: pytest.fail("fine-tuning was done again"))
    assert main(["resume", str(path), "--quiet"]) == 0
    again = Run.open(path)
    assert again.info.results["win_rate"] == whole.info.results["win_rate"]
    one, two = (weights_hash(load_model(done.output("model"))) for done in (whole, again))
    assert one == two
    assert Run.open(again.info.results["stages"]["ppo"]).info.resumed == [0]


# ---------------------------------------------------------------- words of a command line


def test_nested_settings_come_back_from_their_words():
    class Inner(config.Config):
        rate: float = 0.5
        names: tuple[str, ...] = ()

    class Outer(config.StageConfig):
        inner: Inner = Inner()
        text: str = ""
        limit: int | None = 3
        keep: bool = True
        flat: dict[str, int] = Field({})

    given = Outer(
        inner=Inner(rate=1e-7, names=("a, b", "none", "3")),
        text='say "no", then = go',
        limit=None,
        keep=False,
        flat={"x": 1},
        name="n",
    )
    words = as_words(given.model_dump())
    assert config.load(Outer, words, stage="align") == given
    assert as_words({"a": {"b": {"c": 1}}, "d": None}) == ["a.b.c=1", "d=none"]


@pytest.mark.parametrize(
    "text", ["none", "true", "3", "1e-5", "a,b", "[x]", "{y}", " spaced ", "it's", 'q"q', "多", "a\nb"]
)
def test_any_text_comes_back_as_the_same_text(text):
    class Stage(config.StageConfig):
        text: str = "default"

    assert config.load(Stage, as_words({"text": text}), stage="align").text == text


def test_settings_of_the_user_win_over_the_chains(material, tmp_path):
    done = run(material, tmp_path, demonstrations="demonstrations.jsonl")
    made = json.loads((Run.open(done.info.results["stages"]["sft"]).path / "config.json").read_text())
    assert (made["steps"], made["batch"], made["threads"]) == (2, 2, 1)


def test_a_stage_gets_the_settings_of_all_that_it_has(tmp_path):
    made = Chain(SimpleNamespace(path=tmp_path), None, {"seed": 3, "device": "cpu"}, {})
    assert made.configure(label, "label", {"answers": "x"}).seed == 3
    assert made.configure(sft, "sft", {"model": "m", "data": "d"}).device == "cpu"


def test_a_device_that_is_not_there_is_found_before_the_first_stage(material, tmp_path):
    with pytest.raises(BadInput, match=r"^device=cuda:99: "):
        run(material, tmp_path, demonstrations="demonstrations.jsonl", device="cuda:99")
    assert not (tmp_path / "runs").exists()
