"""Stages with lora.rank: what trains, what is shared, what is saved, and how such a run is taken up again."""

import pytest
import torch
from safetensors.torch import load_file
from tests.unit.train import tiny

from heedlm import config, runs
from heedlm.cli import main
from heedlm.errors import BadInput, Interrupted
from heedlm.models import Chat, load_model, load_reward, weights_hash
from heedlm.models.adapters import Adapted, base_hash
from heedlm.ops.types import Rollouts
from heedlm.records import Comparison, read
from heedlm.rewards import Learned
from heedlm.rollout import Native, Sampling
from heedlm.rollout.transformers import TransformersEngine
from heedlm.runs import Run, checkpoints
from heedlm.stages import evaluate, reward, rl, score, sft
from heedlm.stages.rl.learning import Pending
from heedlm.train.experience import AdaptedEngine, rollout_logps, rollout_scores
from heedlm.train.ranking import ranking_scores, rankings_of
from heedlm.train.state import load_state

RANKED = [("In the red house.", "red", "no"), ("Blue.", "I do not know."), ("white", "who?", "yes")] * 4
ADAPTERS = 2 * 4 * (64 + 48 + 48 + 64 + 80 + 80 + 80)  # layers · rank · (rows + columns) of seven matrices


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A model, its files, and a reward model trained on it with adapters."""
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.demonstrations(folder / "demonstrations.jsonl")
    tiny.documents(folder / "corpus.jsonl")
    tiny.prompts(folder / "prompts.jsonl")
    tiny.comparisons(folder / "comparisons.jsonl", RANKED)
    return folder


@pytest.fixture(scope="module")
def judge(material):
    """A finished reward run with adapters."""
    return tiny.run(reward, material / "runs", **jobs(material)["reward"][1])


def jobs(material):
    common = {"model": material / "model", "lora__rank": 4, "optim__lr": 1e-2, "cadence__evaluate": 2}
    return {
        "sft": (
            sft,
            common
            | {"data": material / "demonstrations.jsonl", "held_out_share": 0.2, "steps": 4, "batch": 2}
            | {"length": 64, "budget": 100, "lora__dropout": 0.1},
        ),
        "reward": (
            reward,
            common
            | {"data": material / "comparisons.jsonl", "held_out_share": 0.2, "imitation": 0.1, "batch": 3}
            | {"epochs": 1.2, "budget": 150},
        ),
        "ppo": (
            rl,
            common
            | {"reward": {"name": "pattern", "regex": "[aeiou]"}, "prompts": material / "prompts.jsonl", "steps": 4}
            | {"rollouts": 4, "minibatch": 2, "passes": 2, "sampling__max_new_tokens": 6, "watch": 3}
            | {"critic__pretrain": 1, "mix__data": material / "corpus.jsonl", "mix__batch": 2},
        ),
    }


def ppo(material, out, **more):
    return tiny.run(rl, out, **(jobs(material)["ppo"][1] | more))


@pytest.fixture
def watched(monkeypatch):
    """Keeps the Reinforcement object of a run, with hashes of all that it holds at the start."""
    kept = {}
    real = rl.Reinforcement.__init__

    def remember(self, *args):
        real(self, *args)
        kept["method"], kept["before"] = self, hashes(self)

    monkeypatch.setattr(rl.Reinforcement, "__init__", remember)
    return kept


def hashes(method):
    models = {"policy": method.policy, "critic": method.critic.model, "reference": method.reference}
    if hasattr(method.reward, "model"):
        models["reward"] = method.reward.model
    return {name: weights_hash(model) for name, model in models.items()}


# ---------------------------------------------------------------- fine-tuning and reward models


def test_fine_tuning_moves_the_adapter_alone_and_saves_it_twice(material, tmp_path):
    stage, settings = jobs(material)["sft"]
    run = tiny.run(stage, tmp_path, **settings)
    assert [item.role for item in run.info.outputs] == ["model", "adapter"]
    assert run.info.results["trained_parameters"] == ADAPTERS
    assert run.info.results["parameters"] == sum(p.numel() for p in load_model(material / "model").parameters())
    base, merged = load_model(material / "model").state_dict(), load_model(run.output("model")).state_dict()
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}
    adapter = load_file(run.output("adapter") / "adapter_model.safetensors")
    for name in changed:
        key = f"base_model.model.{name.removesuffix('.weight')}"
        a, b = (adapter[f"{key}.lora_{part}.weight"] for part in "AB")
        torch.testing.assert_close(merged[name], base[name] + 16 / 4 * b @ a)
    assert sum(x.numel() for x in adapter.values()) == ADAPTERS


def test_a_reward_model_scores_the_same_merged_and_as_an_adapter(material, judge):
    """Head, calibration and adapter come back, be it as one model or on the base."""
    merged = load_reward(judge.output("model"))
    assert judge.info.results["trained_parameters"] == ADAPTERS + 32
    base = load_model(material / "model")
    _, rankings = rankings_of(Chat(tiny.tokenizer()), read(material / "comparisons.jsonl", Comparison), 64)
    source = Learned(path=str(judge.path)).open(Chat(tiny.tokenizer()), base=base)
    assert isinstance(source.model, Adapted)
    found = [
        torch.tensor([x for row in ranking_scores(model, rankings) for x in row]) for model in (merged, source.model)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert found[0].std() > 1e-2
    assert base_hash(base) == base_hash(load_model(material / "model"))
    assert not isinstance(Learned(path=str(judge.path)).open(Chat(tiny.tokenizer())).model, Adapted)
    trunk, plain = merged.base_model.state_dict(), base.base_model.state_dict()
    assert {name for name in plain if not torch.equal(plain[name], trunk[name])} == {
        name for name in plain if name.endswith("_proj.weight")
    }


def test_a_reward_model_on_random_weights_takes_no_adapter(material, tmp_path):
    stage, settings = jobs(material)["reward"]
    with pytest.raises(BadInput, match=r"lora\.rank: .* use init=model or rank=0"):
        tiny.run(stage, tmp_path, **settings, init="random")


# ---------------------------------------------------------------- reinforcement learning


def test_four_models_are_one_base_and_only_adapters_move(material, judge, tmp_path, watched):
    run = ppo(material, tmp_path, reward=judge.path)
    method, before = watched["method"], watched["before"]
    after = hashes(method)
    assert before["critic"] == before["reward"]  # adapter and head of the reward model
    assert after["reference"] == before["reference"] == weights_hash(load_model(material / "model"))
    assert after["reward"] == before["reward"]
    assert after["policy"] != before["policy"]
    assert after["critic"] != before["critic"]
    place = {id(p) for p in method.reference.base_model.parameters()}
    for model in (method.policy, method.critic.model, method.reward.model):
        assert {id(p) for p in model.model.base_model.parameters()} == place
    assert sum(p.numel() for p in method.policy.parameters()) == ADAPTERS
    assert run.info.results["trained_parameters_critic"] == ADAPTERS + 32
    assert run.info.results["on_the_policys_base"] == ["reference", "critic", "reward"]
    assert [item.role for item in run.info.outputs] == ["model", "adapter", "critic", "critic_adapter"]
    assert {item.role for item in run.info.inputs} == {"model", "prompts", "reward_model", "mix"}


def test_the_first_step_is_on_policy_and_its_kl_is_zero(material, judge, tmp_path):
    for precision in ("float32", "bfloat16"):
        run = ppo(material, tmp_path, reward=judge.path, compute__precision=precision, compute__recompute=True)
        rows = run.read_metrics()
        assert rows[0]["kl/mean_nats"] == 0
        assert abs(rows[0]["first/ratio"] - 1) < 1e-6
        assert rows[0]["first/clip_fraction"] == 0
        assert rows[3]["kl/k3_token_nats"] > 1e-5
        assert rows[0]["gap/engine_trainer"] < (1e-4 if precision == "float32" else 0.1)


def test_the_references_log_probs_are_the_bases_when_the_policy_has_moved(material, tmp_path, watched):
    run = ppo(material, tmp_path)
    method = watched["method"]
    rollouts = method.engine.generate([[5, 6, 7], [8, 9]], Sampling(max_new_tokens=5), seed=1)
    options = {"temperature": 1.0, "budget": 1000}
    base, merged = (load_model(path) for path in (material / "model", run.output("model")))
    reference = rollout_logps(method.reference, rollouts, **options)
    policy = rollout_logps(method.policy, rollouts, **options)
    assert torch.equal(reference, rollout_logps(base, rollouts, **options))
    torch.testing.assert_close(policy, rollout_logps(merged, rollouts, **options), rtol=1e-4, atol=1e-5)
    assert (policy - reference).abs().max() > 1e-3
    torch.testing.assert_close(policy, rollouts.logps, rtol=1e-4, atol=1e-5)  # the engine sampled from the policy
    assert not method.reference.base_model.training


def test_recomputation_runs_every_layer_twice_with_adapters_and_without(material, tmp_path, watched):
    for rank in (0, 4):
        counts = []
        for recompute in (False, True):
            calls: list[int] = []
            settings = {"lora__rank": rank, "compute__recompute": recompute, "cadence__evaluate": 0, "name": "n"}
            ppo(material, tmp_path / f"{rank}{recompute}", steps=1, critic__pretrain=0, **settings)
            method = watched["method"]
            trunk = method.policy.base_model if rank == 0 else method.reference.base_model
            trunk.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
            experience, _ = method._collect(method.prompts[:4], 5, "buffer")
            calls.clear()
            method._learn(Pending(experience, {}), 0)
            counts.append(len(calls))
        assert counts[1] == 2 * counts[0]


@pytest.mark.parametrize("name", ["native", "transformers"])
def test_every_engine_sees_the_adapter_as_it_is_now(material, name, watched, tmp_path):
    ppo(material, tmp_path, steps=1, engine__name=name)
    method = watched["method"]
    assert isinstance(method.engine, AdaptedEngine)
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12]]
    for _ in range(2):
        with torch.no_grad():
            for weight in method.policy.parameters():
                weight.add_(torch.randn(weight.shape) * 0.1)
        found = method.engine.generate(prompts, Sampling(max_new_tokens=6), seed=3)
        with method.policy.merged() as model:
            plain = TransformersEngine(model, frozenset({2})).generate(prompts, Sampling(max_new_tokens=6), seed=3)
            assert type(Native().bind(model, tiny.tokenizer())).__name__ == "NativeEngine"
        assert torch.equal(found.tokens, plain.tokens)
        torch.testing.assert_close(found.logps, plain.logps, rtol=1e-4, atol=1e-5)


def test_a_reward_model_of_another_base_or_without_adapters_stays_one_of_its_own(material, judge, tmp_path, watched):
    other = tiny.folder(tmp_path / "other", seed=9)
    ppo(material, tmp_path, reward=judge.path, model=other, steps=1)
    assert not isinstance(watched["method"].reward.model, Adapted)
    plain = tiny.run(reward, tmp_path, **(jobs(material)["reward"][1] | {"lora__rank": 0}))
    run = ppo(material, tmp_path, reward=plain.path, steps=1)
    method = watched["method"]
    assert not isinstance(method.reward.model, Adapted)
    assert isinstance(method.critic.model, Adapted)
    assert method.policy.shares_base(method.critic.model)
    assert run.info.results["on_the_policys_base"] == ["reference", "critic"]
    assert run.info.results["trained_parameters_critic"] == ADAPTERS + 32


def test_saved_models_are_ordinary_ones(material, judge, tmp_path, watched):
    """The merged policy and critic load, score and carry on as any others do."""
    run = ppo(material, tmp_path, reward=judge.path)
    method = watched["method"]
    critic = load_reward(run.output("critic"))
    rollouts = method.engine.generate([[5, 6, 7], [8, 9]], Sampling(max_new_tokens=5), seed=1)
    assert isinstance(rollouts, Rollouts)
    one, two = (rollout_scores(model, rollouts, budget=100) for model in (critic, method.critic.model))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    again = ppo(material, tmp_path / "again", model=run.path, steps=1, lora__rank=0)
    assert again.info.results["parameters"] == run.info.results["parameters"]
    words = [judge.path, "prompt=Where?", 'text=["In the house.", "Nowhere."]']
    assert len(score.run(config.load(score.Config, [str(word) for word in words], stage="score"))["scores"]) == 2
    settings = {"prompts": material / "prompts.jsonl", "judge": str(judge.path), "limit": 8, "temperatures": [1.0]}
    compared = tiny.run(
        evaluate, tmp_path, model=run.path, against=material / "model", sampling__max_new_tokens=6, **settings
    )
    assert compared.info.results["kl_nats"] != 0


def test_a_reference_of_its_own_is_a_model_of_its_own(material, tmp_path, watched):
    other = tiny.folder(tmp_path / "other", seed=9)
    ppo(material, tmp_path, reference=other, steps=1)
    method = watched["method"]
    assert not method.policy.shares_base(method.reference)
    assert watched["before"]["reference"] == weights_hash(load_model(other))


def test_dropout_in_ppo_is_refused(material, tmp_path):
    with pytest.raises(BadInput, match=r"lora\.dropout: PPO compares log-probs .* leave it at 0"):
        ppo(material, tmp_path, lora__dropout=0.1)
    assert not any(tmp_path.iterdir())


def test_a_wrong_target_is_one_line(material, tmp_path, capsys):
    words = [f"model={material / 'model'}", f"data={material / 'demonstrations.jsonl'}", f"out={tmp_path}"]
    assert main(["sft", *words, "lora.rank=2", "lora.targets=q_proj,query"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "no matrix 'query' in its blocks; there are: down_proj, gate_proj" in said
    assert main(["sft", *words, "lora.rank=-1"]) == 2
    assert "lora.rank" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo"])
def test_a_resumed_run_equals_an_uninterrupted_one(material, tmp_path, monkeypatch, kind):
    stage, settings = jobs(material)[kind]
    whole = tiny.run(stage, tmp_path / "whole", cadence__checkpoint=1, **settings)
    # PPO asks after each buffer of critic pretraining, after the rollouts and between minibatches too.
    at = 1 + 2 * (1 + 3 + 1) if kind == "ppo" else 2
    polls = []

    def stop_requested():
        polls.append(1)
        return len(polls) == at

    with monkeypatch.context() as patch:
        patch.setattr(runs, "stop_requested", stop_requested)
        with pytest.raises(Interrupted, match="after step 2 of"):
            tiny.run(stage, tmp_path / "part", cadence__checkpoint=1, **settings)
    (path,) = (file.parent for file in tmp_path.glob("part/*/*/run.json"))
    state = load_state(checkpoints.newest(path))["method"]
    kept = state["actor" if kind == "ppo" else "learner"]
    heads = 32 if kind == "reward" else 0
    assert sum(x.numel() for x in kept["model"].values()) == ADAPTERS + heads
    assert sum(x["exp_avg"].numel() for x in kept["optimizer"]["state"].values()) == ADAPTERS + heads
    torch.manual_seed(12345)  # as in another process
    assert main(["resume", str(path), "--quiet"]) == 0
    resumed = Run.open(path)
    assert resumed.info.results == whole.info.results
    assert [item.role for item in resumed.info.outputs] == [item.role for item in whole.info.outputs]
    for item in whole.info.outputs:
        for file in sorted((whole.path / item.path).glob("*.safetensors")):
            assert file.read_bytes() == (path / item.path / file.name).read_bytes(), item.role
    times = ("seconds", "time/", "memory/")
    one, two = (
        [{k: v for k, v in row.items() if not k.startswith(times)} for row in run.read_metrics()]
        for run in (whole, resumed)
    )
    assert one == two
