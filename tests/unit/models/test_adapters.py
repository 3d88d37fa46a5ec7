"""Adapters: what they compute, what they share, what they leave alone, and the way out to plain weights."""

import json
import sys

import pytest
import torch
from tests.unit.train import tiny
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel

from heedlm.errors import BadInput
from heedlm.models import calibrate, load_model, new_reward, parameters, save_model, weights_hash
from heedlm.models.adapters import Adapted, Lora, base_hash, critic_on, reward_on, scalar_on
from heedlm.models.compute import Compute
from heedlm.models.forward import packs, sequence_logps, sequence_scores, sequence_statistics
from heedlm.train.batching import Row, lay_out
from heedlm.train.language import language_terms
from heedlm.train.learner import Learner
from heedlm.train.optim import Optim

ROWS = [Row([5, 6, 7, 8, 9], [True] * 5), Row([10, 11, 12], [True] * 3)]
PACKED, TARGETS = lay_out(ROWS)
SHAPES = {"q_proj": (32, 32), "k_proj": (16, 32), "v_proj": (16, 32), "o_proj": (32, 32)}
SHAPES |= {"gate_proj": (48, 32), "up_proj": (48, 32), "down_proj": (32, 48)}


def exact(seed: int = 3):
    return tiny.model(seed, vocabulary=40, spread=0.3, dtype=torch.float64)


def gpt2():
    shape = GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=32, resid_pdrop=0, attn_pdrop=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return GPT2LMHeadModel(shape).double().eval()


def moved(adapted: Adapted, seed: int = 0) -> Adapted:
    """The adapter with weights that do something: at the start B is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapted.adapter.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64) * 0.2)
    return adapted


def logps(model) -> torch.Tensor:
    return sequence_logps(model, PACKED, TARGETS)


def equal(one, two, close=1e-9):
    torch.testing.assert_close(one, two, rtol=close, atol=close)


# ---------------------------------------------------------------- what is computed


@pytest.mark.parametrize("make", [exact, gpt2])
def test_the_merged_model_is_the_adapted_one_and_off_it_is_the_base(make):
    model = make()
    before, weights = logps(model), weights_hash(model)
    adapted = Lora(rank=4).on(model)
    assert torch.equal(logps(adapted), before)  # B is zero
    moved(adapted)
    found = logps(adapted)
    assert (found - before).abs().max() > 1e-2
    assert torch.equal(logps(model), before)
    with adapted.merged() as merged:
        equal(logps(merged), found)
        assert {type(module).__module__.split(".")[0] for module in merged.modules()} <= {"torch", "transformers"}
    assert torch.equal(logps(model), before)
    assert weights_hash(model) == weights


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["layers.1.mlp.down_proj"]])
def test_gradients_are_those_of_the_formula_written_out(targets):
    """W + s · B · A as a weight of its own, against peft's layer."""
    lora = Lora(rank=3, alpha=12, targets=targets)
    adapted = moved(lora.on(exact()))
    logps(adapted).sum().backward()
    plain = exact().requires_grad_(False)
    parts = {}
    for name, pair in adapted.adapter.items():
        a, b = (pair[part].weight.detach().clone().requires_grad_(True) for part in ("lora_A", "lora_B"))
        parts[name] = a, b
        linear = plain.base_model.get_submodule(name.replace("/", "."))
        weight = linear.weight
        del linear.weight
        linear.weight = weight + 12 / 3 * b @ a
    logps(plain).sum().backward()
    assert (
        len(parts)
        == {"all-linear": 14, "q_proj": 4, "layers.1.mlp.down_proj": 1}[
            targets if isinstance(targets, str) else targets[0]
        ]
    )
    for name, (a, b) in parts.items():
        equal(adapted.adapter[name]["lora_A"].weight.grad, a.grad)
        equal(adapted.adapter[name]["lora_B"].weight.grad, b.grad)
    assert all(p.grad is None for p in adapted.model.parameters())


def test_recomputed_layers_see_the_adapter_in_the_backward_pass():
    """Layers run again during backward, where no forward pass of the adapted model is under way."""
    ends = []
    for recompute in (False, True):
        model = exact()
        Compute(recompute=recompute).apply(model)
        adapted = moved(Lora(rank=4).on(model)).train()
        learner = Learner(adapted, Optim(lr=1e-2), 1)
        logps(adapted)  # the first pass also tries what the model can do
        calls: list[int] = []
        model.model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        learner.update(language_terms(adapted, [ROWS], budget=100))
        assert len(calls) == 1 + recompute
        assert not model.training
        ends.append(torch.cat([p.detach().flatten() for p in adapted.parameters()]))
    equal(ends[0], ends[1], 1e-12)


def test_bfloat16_products_agree_with_wide_ones_to_its_precision():
    model = tiny.model(3, vocabulary=40, spread=0.3)
    adapted = moved(Lora(rank=4).on(model))
    wide = logps(adapted)
    Compute(precision="bfloat16").apply(model)
    narrow = logps(adapted)
    assert not torch.equal(wide, narrow)
    torch.testing.assert_close(narrow, wide, rtol=0.05, atol=0.05)


def test_dropout_of_the_adapter_is_for_training_only():
    adapted = moved(Lora(rank=4, dropout=0.5).on(exact()))
    calm = logps(adapted)
    assert torch.equal(calm, logps(adapted))
    adapted.train()
    assert not torch.equal(calm, logps(adapted))
    adapted.eval()
    assert torch.equal(calm, logps(adapted))


# ---------------------------------------------------------------- what is shared


def test_one_base_carries_policy_critic_and_reward():
    model = exact()
    base = weights_hash(model)
    policy = moved(Lora(rank=2).on(model), 1)
    reward = moved(Lora(rank=4, targets=["q_proj"]).on(scalar_on(model, seed=5)), 2)
    calibrate(reward, gain=2.0, bias=-1.0)
    critic = critic_on(policy, Lora(rank=2), reward)
    alone = logps(policy)
    scores = sequence_scores(reward, PACKED, PACKED.last)
    equal(sequence_scores(critic, PACKED, PACKED.last), scores)
    places = {p.data_ptr() for p in model.parameters()}
    for one in (reward, critic):
        assert policy.shares_base(one)
        assert {p.data_ptr() for p in one.model.base_model.parameters()} <= places
        assert not {p.data_ptr() for p in one.parameters()} & places
    assert not {p.data_ptr() for p in critic.parameters()} & {p.data_ptr() for p in reward.parameters()}
    with torch.no_grad():
        for weight in critic.parameters():
            weight.add_(0.1)
    assert torch.equal(logps(policy), alone)
    assert torch.equal(sequence_scores(reward, PACKED, PACKED.last), scores)
    assert weights_hash(model) == base
    with policy.on():
        # Another adapter in between: also where the policy's covers matrices that the reward's does not.
        assert torch.equal(sequence_scores(reward, PACKED, PACKED.last), scores)
        assert torch.equal(logps(model), alone)


def test_all_models_on_the_base_keep_the_packed_path():
    model = exact()
    policy = Lora(rank=2).on(model)
    critic = critic_on(policy, Lora(rank=2))
    assert packs(model)
    assert packs(policy)
    assert packs(critic)


def test_a_critic_is_new_where_the_reward_model_has_weights_of_its_own():
    model = exact()
    policy = Lora(rank=2).on(model)
    other = moved(Lora(rank=2).on(new_reward(exact(4), seed=1)))
    critic = critic_on(policy, Lora(rank=2), other, seed=7)
    fresh = new_reward(exact(), seed=7)
    # The copy's norms compute in float32 whatever they are given.
    equal(sequence_scores(critic, PACKED, PACKED.last), sequence_scores(fresh, PACKED, PACKED.last), 1e-5)


def test_the_number_of_trained_parameters():
    rank = 4
    adapters = 2 * sum(rank * (rows + columns) for rows, columns in SHAPES.values())
    policy = Lora(rank=rank).on(tiny.model(vocabulary=40))
    assert parameters(policy) == adapters == 2 * rank * (64 + 48 + 48 + 64 + 80 + 80 + 80)
    assert parameters(critic_on(policy, Lora(rank=rank))) == adapters + 32
    learner = Learner(policy, Optim(), 1)
    assert sum(p.numel() for group in learner.optimizer.param_groups for p in group["params"]) == adapters
    assert sum(x.numel() for x in learner.state_dict()["model"].values()) == adapters


def fail_within(context, model):
    with context as held:
        assert held is model
        assert held.base_model.training
        raise RuntimeError("stop")


def test_the_base_is_plain_again_after_an_error():
    model = exact()
    before = logps(model)
    adapted = moved(Lora(rank=2).on(model))
    adapted.train()
    for context in (adapted.on, adapted.merged):
        with pytest.raises(RuntimeError, match="stop"):
            fail_within(context(), model)
        assert not model.base_model.training
        assert torch.equal(logps(model), before)


def test_statistics_and_plain_forward_passes_know_the_adapter():
    adapted = moved(Lora(rank=2).on(exact()))
    found, spread = sequence_statistics(adapted, PACKED, TARGETS)
    equal(found, logps(adapted).detach())
    assert (spread > 0).all()
    out = adapted(input_ids=torch.tensor([ROWS[0].ids]), use_cache=False).logits[0].log_softmax(-1)
    equal(out[torch.arange(4), torch.tensor(ROWS[0].ids[1:])], logps(adapted)[:4])


# ---------------------------------------------------------------- files


@pytest.mark.filterwarnings("ignore")  # peft calls transformers by old names
def test_peft_reads_what_is_saved(tmp_path):
    from peft import PeftModel

    save_model(tiny.model(3, vocabulary=40), tiny.tokenizer(), tmp_path / "base")
    model = load_model(tmp_path / "base", dtype="float64")
    policy = moved(Lora(rank=4, alpha=8).on(model), 1)
    reward = moved(Lora(rank=4, alpha=8).on(scalar_on(model, seed=5)), 2)
    policy.save_adapter(tmp_path / "policy")
    reward.save_adapter(tmp_path / "reward")
    settings = json.loads((tmp_path / "policy" / "adapter_config.json").read_text())
    assert settings["target_modules"] == sorted(SHAPES)
    assert settings["base_model_name_or_path"] == str(tmp_path / "base")
    rows = torch.tensor([ROWS[0].ids])
    options = {"dtype": torch.float64}
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base", **options)
    theirs = PeftModel.from_pretrained(plain, str(tmp_path / "policy"), autocast_adapter_dtype=False)
    equal(theirs(input_ids=rows).logits, policy(input_ids=rows).logits, 1e-6)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1, **options)
    theirs = PeftModel.from_pretrained(plain, str(tmp_path / "reward"), autocast_adapter_dtype=False)
    score = sequence_scores(reward, PACKED, PACKED.last)[:1]
    equal(theirs(input_ids=rows).logits[0], score, 1e-6)


def test_an_adapter_comes_back_on_its_own_base_and_on_no_other(tmp_path):
    model = exact()
    reward = moved(Lora(rank=4, alpha=8).on(scalar_on(model, seed=5)), 2)
    calibrate(reward, gain=2.0, bias=1.0)
    scores = sequence_scores(reward, PACKED, PACKED.last)
    reward.save_adapter(tmp_path)
    again = exact()
    found = reward_on(again, tmp_path)
    assert found is not None
    equal(sequence_scores(found, PACKED, PACKED.last), scores)
    assert base_hash(again) == base_hash(model)
    assert reward_on(exact(4), tmp_path) is None
    assert reward_on(tiny.model(3, vocabulary=40, spread=0.3), tmp_path) is None  # the same weights, rounded
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(BadInput, match="this adapter does not fit"):
        reward_on(again, tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="this adapter cannot be read"):
        reward_on(again, tmp_path)


def test_a_state_of_another_shape_is_refused(tmp_path):
    moved(Lora(rank=4).on(exact())).save_adapter(tmp_path)
    with pytest.raises(BadInput, match="this adapter does not fit"):
        Lora(rank=2).on(exact()).load_adapter(tmp_path)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (Lora(rank=2, targets=["query"]), r"lora\.targets: LlamaForCausalLM has no matrix 'query' in its blocks;"),
        (Lora(rank=2, targets=["q_proj", "lm_head"]), r"no matrix 'lm_head' .* there are: down_proj, gate_proj, k_p"),
        (Lora(rank=2, targets=[]), r"lora\.targets: is empty"),
        (Lora(rank=17), r"lora\.rank=17: layers\.0\.self_attn\.k_proj is only 16 wide; give a rank of at most 16"),
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_the_model_as_it_was(lora, said):
    model = exact()
    with pytest.raises(BadInput, match=said) as error:
        lora.on(model)
    assert "\n" not in str(error.value)
    assert all(p.requires_grad for p in model.parameters())


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BadInput, match=r"pip install heedlm\[lora\]"):
        Lora(rank=2).on(exact())
