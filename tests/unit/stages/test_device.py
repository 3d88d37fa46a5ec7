"""Every stage on a GPU: nothing is mixed with the CPU, and the figures are those of the CPU."""

import pytest
from tests.unit import devices
from tests.unit.train import tiny

from heedlm import config
from heedlm.errors import BadInput
from heedlm.models import new_reward, save_model
from heedlm.pipelines import demo
from heedlm.stages import chat, evaluate, pretrain, reward, rl, sample, score, sft

RULE = {"name": "pattern", "regex": "[aeiou]"}
RANKED = [("In the red house.", "No.", "Red."), ("In the blue house.", "Blue.")] * 4


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A model, a reward model and data of every kind."""
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", 1)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.prompts(folder / "prompts.jsonl", 12)
    tiny.documents(folder / "corpus.jsonl", 8)
    tiny.demonstrations(folder / "demonstrations.jsonl", 8)
    tiny.comparisons(folder / "comparisons.jsonl", RANKED)
    return folder


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Runs a stage on the CPU and on the pretended device, and gives both runs."""

    def run(stage, **settings):
        first = tiny.run(stage, tmp_path / "cpu", device="cpu", **settings)
        with devices.pretended(monkeypatch):
            second = tiny.run(stage, tmp_path / "there", device="cuda", **settings)
        return first, second

    return run


def same(runs, *names):
    """Whether two runs logged the same numbers, but for the order of sums."""
    first, second = ([{name: row[name] for name in names} for row in run.read_metrics()] for run in runs)
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


def rl_settings(material, **more):
    return {
        "model": material / "model",
        "prompts": material / "prompts.jsonl",
        "prompts_dev": material / "prompts.jsonl",
        "steps": 2,
        "rollouts": 6,
        "minibatch": 3,
        "sampling__max_new_tokens": 5,
        "critic__pretrain": 1,
        "watch": 3,
        "cadence__evaluate": 2,
    } | more


def test_pretrain(both, material):
    same(both(pretrain, data=material / "corpus.jsonl", held_out=material / "corpus.jsonl", steps=3), "loss/train")


@pytest.mark.parametrize("lora", [0, 2])
def test_sft(both, material, lora):
    settings = {"model": material / "model", "data": material / "demonstrations.jsonl", "steps": 3, "lora__rank": lora}
    same(both(sft, **settings, length=64), "loss/train", "grad_norm")


@pytest.mark.parametrize("lora", [0, 2])
def test_reward(both, material, lora):
    settings = {"model": material / "model", "data": material / "comparisons.jsonl", "batch": 4, "epochs": 2}
    more = {"lora__rank": lora, "length": 64, "held_out_share": 0.3, "test": material / "comparisons.jsonl"}
    runs = both(reward, **settings, **more)
    same(runs, "loss/train", "grad_norm")


@pytest.mark.parametrize("engine", ["native", "transformers"])
@pytest.mark.parametrize("source", ["rule", "learned", "adapters"])
def test_rl(both, material, engine, source):
    mixed = {"mix": {"data": material / "corpus.jsonl", "batch": 2, "length": 32}}
    chosen = {"reward": RULE if source == "rule" else material / "reward", "lora__rank": 2 * (source == "adapters")}
    runs = both(rl, **rl_settings(material, **chosen, **mixed), engine__name=engine)
    same(runs, "reward/mean", "reward/p50", "policy/grad_norm", "critic/grad_norm", "loss/mix", "kl/mean_nats")


def test_a_reference_of_its_own(both, material):
    same(both(rl, **rl_settings(material, reward=RULE, reference=material / "model")), "kl/mean_nats")


def test_evaluate(both, material):
    settings = {"model": material / "model", "against": material / "model", "prompts": material / "prompts.jsonl"}
    more = {"judge": material / "reward", "reward": material / "reward", "comparisons": material / "comparisons.jsonl"}
    first, second = both(evaluate, **settings, **more, limit=4, sampling__max_new_tokens=5)
    assert first.info.results["reward"] == pytest.approx(second.info.results["reward"], rel=1e-4)
    assert first.info.results["kl_nats"] == pytest.approx(second.info.results["kl_nats"], abs=1e-5)


def test_sample(both, material):
    runs = both(sample, model=material / "model", prompts=material / "prompts.jsonl", sampling__max_new_tokens=5)
    texts = [(run.path / "answers.jsonl").read_text().replace(run.name, "") for run in runs]
    assert texts[0] == texts[1]


def test_score(material, monkeypatch):
    for settings in ({"model": material / "model"}, {"model": material / "reward", "prompt": "Who?"}):
        words = [*tiny.words_of(settings), 'text=["Ann lives here.", "Red."]']
        wanted = score.run(config.load(score.Config, [*words, "device=cpu"], stage="score"))["scores"]
        with devices.pretended(monkeypatch):
            found = score.run(config.load(score.Config, [*words, "device=cuda"], stage="score"))["scores"]
        for one, other in zip(wanted, found, strict=True):
            assert one.pop("text") == other.pop("text")
            assert one == pytest.approx(other, rel=1e-4)


def test_chat(both, material, monkeypatch):
    lines = iter(["Where does Ann live?", "/quit"] * 2)
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    first, second = (run.read_samples() for run in both(chat, model=material / "model", sampling__max_new_tokens=5))
    assert first == second


@pytest.mark.parametrize("stage", [chat, evaluate, pretrain, reward, rl, sample, score, sft, demo])
def test_a_device_that_is_not_there_is_found_before_anything_is_read(stage, tmp_path):
    required = {name: "missing" for name, info in stage.Config.model_fields.items() if info.is_required()}
    words = [*tiny.words_of(required), "device=cuda:99", *(["text=x"] if stage is score else [f"out={tmp_path}"])]
    with pytest.raises(BadInput, match=r"^device=cuda:99: "):
        stage.run(config.load(stage.Config, words, stage="any"))
    assert not list(tmp_path.iterdir())
