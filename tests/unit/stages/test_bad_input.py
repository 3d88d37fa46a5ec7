"""What a user can get wrong before training: one line that says what, where and what to do, and exit code 2."""

import json
import shutil

import pytest
from tests.unit.train import tiny

from heedlm.cli import main
from heedlm.models import new_reward, save_model, train_tokenizer


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.documents(folder / "corpus.jsonl")
    tiny.demonstrations(folder / "demonstrations.jsonl")
    tiny.prompts(folder / "prompts.jsonl")
    tiny.comparisons(folder / "comparisons.jsonl", [("yes", "no")] * 8)
    return folder


COMMANDS = {
    "pretrain": {"data": "corpus.jsonl", "model": "model", "steps": 1, "length": 32},
    "sft": {"data": "demonstrations.jsonl", "model": "model", "steps": 1, "length": 64},
    "sample": {"prompts": "prompts.jsonl", "model": "model", "answers": 2, "sampling.max_new_tokens": 4},
    "reward": {"data": "comparisons.jsonl", "model": "model", "batch": 4},
    "ppo": {
        "prompts": "prompts.jsonl",
        "model": "model",
        "reward": "reward",
        "steps": 1,
        "rollouts": 4,
        "sampling.max_new_tokens": 4,
        "critic.pretrain": 0,
    },
    "evaluate": {
        "prompts": "prompts.jsonl",
        "model": "model",
        "against": "model",
        "judge": "reward",
        "sampling.max_new_tokens": 4,
    },
}
DATA = {command: "prompts" if "prompts" in words else "data" for command, words in COMMANDS.items()}


@pytest.fixture
def heed(material, tmp_path, capsys, monkeypatch):
    """`heed("sft", data=…)`: exit code and what was said, of a command that is right but for what is changed."""
    monkeypatch.chdir(tmp_path)

    def call(command, **changed):
        words = {key: material / value if isinstance(value, str) else value for key, value in COMMANDS[command].items()}
        words |= {key.replace("__", "."): value for key, value in changed.items()}
        given = [f"{key}={value}" for key, value in words.items() if value is not None]
        code = main([command, *given, f"out={tmp_path / 'runs'}", "threads=1", "--quiet"])
        return code, capsys.readouterr().err

    return call


def refused(found, *parts):
    """Exit 2 with one line that holds these parts."""
    code, said = found
    assert code == 2, said
    lines = said.strip().splitlines()
    assert len(lines) == 1, said
    for part in parts:
        assert part in lines[0]


def no_run_began(tmp_path):
    assert not any((tmp_path / "runs").glob("*/*/run.json"))


@pytest.mark.parametrize("command", COMMANDS)
def test_sound_input_is_taken_and_the_same_again_is_refused(heed, command):
    code, said = heed(command)
    assert code == 0, said
    refused(heed(command), "the same settings and inputs have been run", "give another name= or remove it")
    assert heed(command, name="again")[0] == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_file(heed, tmp_path, command):
    refused(heed(command, **{DATA[command]: tmp_path / "nowhere.jsonl"}), "nowhere.jsonl: no such file")
    no_run_began(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_without_a_model(heed, tmp_path, command):
    (tmp_path / "empty").mkdir()
    refused(heed(command, model=tmp_path / "empty"), "empty: holds no model", "config.json")
    refused(heed(command, model=tmp_path / "gone" / "deep"), "no such model")
    no_run_began(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_tokenizer_without_an_end(heed, material, tmp_path, command):
    folder = shutil.copytree(material / "model", tmp_path / "endless")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("eos_token")
    path.write_text(json.dumps(settings))
    special = folder / "special_tokens_map.json"
    if special.exists():
        special.unlink()
    refused(heed(command, model=folder), "the tokenizer has no EOS token", '"eos_token" in tokenizer_config.json')
    no_run_began(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_setting_names_its_neighbour(heed, tmp_path, command):
    refused(heed(command, sed=3), "sed", "seed")
    refused(heed(command, max_bad_row=0.5), "max_bad_row", "max_bad_rows")
    refused(heed(command, seed="often"), "seed", "integer", "often")
    refused(heed(command, seed=2**40), "seed", "4294967296")
    no_run_began(tmp_path)


def test_a_setting_that_is_missing_is_described(heed, tmp_path):
    refused(heed("sft", model=None), "model", "model to fine-tune")
    refused(heed("ppo", reward=None), "reward", "a reward run; a rule")
    no_run_began(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_torn_lines_beyond_the_limit_stop_and_within_it_are_put_aside(heed, material, tmp_path, command):
    key = DATA[command]
    lines = (material / COMMANDS[command][key]).read_text().splitlines()
    torn = tmp_path / "torn.jsonl"
    torn.write_text("\n".join([lines[0], lines[1][: len(lines[1]) // 2], *lines[2:]]) + "\n")
    refused(
        heed(command, **{key: torn}), f"torn.jsonl: 1 of {len(lines)} rows are bad (line 2: not JSON", "max_bad_rows="
    )
    no_run_began(tmp_path)
    code, said = heed(command, **{key: torn}, max_bad_rows=0.2)
    assert code == 0, said
    (run,) = (path.parent for path in (tmp_path / "runs").glob("*/*/run.json"))
    counts = json.loads((run / "run.json").read_text())["results"]
    assert [value for name, value in counts.items() if name.startswith("quarantined/")] == [1]
    (aside,) = run.glob("quarantine-*.jsonl")
    assert json.loads(aside.read_text())["line"] == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_file_and_one_of_another_kind(heed, tmp_path, command):
    key = DATA[command]
    (tmp_path / "empty.jsonl").write_text("")
    refused(heed(command, **{key: tmp_path / "empty.jsonl"}), "empty.jsonl")
    tiny.jsonl(tmp_path / "odd.jsonl", [{"weight": 3, "height": 4}] * 5)
    refused(heed(command, **{key: tmp_path / "odd.jsonl"}), "odd.jsonl", "heed check")
    no_run_began(tmp_path)


def test_a_reward_model_of_another_vocabulary(heed, tmp_path):
    tokenizer = train_tokenizer(["Quite other words make quite other tokens."] * 20, 280)
    policy = tiny.model(4, vocabulary=len(tokenizer))
    save_model(new_reward(policy), tokenizer, tmp_path / "foreign")
    for command, key in (("ppo", "reward"), ("evaluate", "judge"), ("evaluate", "reward")):
        refused(heed(command, **{key: tmp_path / "foreign"}), "have different vocabularies, first at id", "foreign")
    no_run_began(tmp_path)


def test_models_in_each_others_place(heed, material, tmp_path):
    refused(heed("ppo", reward=material / "model"), "is a language model, not a reward model", "heed reward")
    refused(heed("sft", model=material / "reward"), "is a reward model", "not a language model")
    refused(heed("ppo", model=material / "reward"), "is a reward model", "not a language model")
    no_run_began(tmp_path)


def test_a_broken_model_folder(heed, material, tmp_path):
    cut = shutil.copytree(material / "model", tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(heed("sft", model=cut), "cut", "safetensors")
    pickled = shutil.copytree(material / "model", tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    refused(heed("sft", model=pickled), "pickled weights only")
    no_run_began(tmp_path)


def test_a_regular_expression_and_a_rule_without_its_setting(heed, tmp_path):
    refused(
        heed("ppo", reward=None, reward__name="pattern", reward__regex="("), "reward.regex", "no regular expression"
    )
    refused(heed("ppo", reward=None, reward__name="pattern"), "reward.regex", "regular expression looked for")
    refused(heed("ppo", reward=None, reward__name="patern"), "reward", "pattern")
    no_run_began(tmp_path)


def test_gold_without_ground_truth_is_told_in_one_line(heed):
    refused(heed("ppo", reward="gold"), "no ground truth (meta.task)")


def test_a_failed_run_says_how_to_go_on(heed, tmp_path):
    refused(heed("ppo", reward="gold"), "no ground truth")
    (run,) = (path.parent for path in (tmp_path / "runs").glob("*/*/run.json"))
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    refused(heed("ppo", reward="gold"), "this run failed", f"heed resume {run}", "or remove it")
