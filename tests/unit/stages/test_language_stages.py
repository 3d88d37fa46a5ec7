"""Pretraining and fine-tuning: which tokens are learned, which rows are used, which weights are kept."""

import json

import pytest
import torch
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.models import Chat, load_model, load_with_tokenizer, save_model, weights_hash
from heedlm.models.forward import logits
from heedlm.records import Message
from heedlm.records.splitting import split_by_prompt
from heedlm.runs import Run
from heedlm.stages import pretrain, sft
from heedlm.train.batching import Row, lay_out
from heedlm.train.language import language_terms, mean_nll


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.demonstrations(folder / "demonstrations.jsonl")
    tiny.documents(folder / "corpus.jsonl")
    return folder


def settings(material, **more):
    return {
        "model": material / "model",
        "data": material / "demonstrations.jsonl",
        "length": 64,
        "batch": 4,
        "steps": 4,
        "held_out_share": 0.25,
        "optim__lr": 1e-2,
    } | more


# ---------------------------------------------------------------- what is learned


def test_the_loss_touches_assistant_tokens_and_their_ends_only():
    """Gradient with respect to the last states: none where a user's token or a header is predicted."""
    model, chat = tiny.model(1), Chat(tiny.tokenizer())
    talk = [Message(**m) for m in tiny.talk("Where is Ann?", "At home.", "And Bob?", "In the red house.")]
    ids, mask = chat.conversation(talk)
    other = [Message(**m) for m in tiny.talk("Hi", "Hello")]
    groups = [[Row(ids, mask)], [Row(*chat.conversation(other))] * 2]
    states = []

    def keep(module, args, out):
        if out.requires_grad:
            out.retain_grad()
            states.append(out)

    model.model.norm.register_forward_hook(keep)
    (term,) = language_terms(model, groups, budget=10_000)
    term.loss().values.sum().backward()
    order = sorted((0, 1), key=lambda i: -sum(map(len, groups[i])))
    packed, targets = lay_out([row for i in order for row in groups[i]])
    moved = (states[-1].grad[0].abs().sum(-1) > 0).nonzero().squeeze(1)
    assert torch.equal(moved, packed.before[targets])  # the state before a token predicts it
    learned = [token for token, m in zip(ids, mask, strict=True) if m]
    assert learned == chat.response_ids("At home.") + chat.response_ids("In the red house.")


def test_every_turn_of_a_conversation_is_learned(material, tmp_path):
    """After training on two-turn talks both the first and the second answer are likely."""
    rows = [{"messages": tiny.talk(tiny.question(i), "At home.", "Are you sure?", "Yes, I am.")} for i in range(16)]
    data = tiny.jsonl(tmp_path / "talks.jsonl", rows)
    run = tiny.run(sft, tmp_path, **settings(material, data=data, steps=60, length=64))
    model, tokenizer = load_with_tokenizer(run.output("model"))
    chat = Chat(tokenizer)
    ids, mask = chat.conversation([Message(**m) for m in rows[3]["messages"]])
    logps = logits(model, torch.tensor([ids])).log_softmax(-1)[0].detach()
    chances = [float(logps[t - 1, ids[t]].exp()) for t in range(1, len(ids)) if mask[t]]
    assert min(chances) > 0.5
    users = [float(logps[t - 1, ids[t]].exp()) for t in range(1, len(ids)) if not mask[t]]
    assert sum(users) / len(users) < 0.3  # the user's words were never a target


def test_a_demonstration_too_long_is_put_aside_and_an_old_turn_left_out(material, tmp_path):
    rows = [{"messages": tiny.talk(tiny.question(i), "At home.")} for i in range(12)]
    rows[2] = {"messages": tiny.talk("word " * 60, "At home.")}
    rows[4] = {"messages": tiny.talk("Where?", "word " * 60)}
    rows[6] = {"messages": tiny.talk("word " * 30, "yes", "Where?", "At home.")}
    data = tiny.jsonl(tmp_path / "long.jsonl", rows)
    run = tiny.run(sft, tmp_path, **settings(material, data=data, held_out_share=0, max_bad_rows=0.2))
    assert run.info.results["quarantined/demonstrations"] == 2
    assert run.info.results["demonstrations"] == 10
    aside = [json.loads(line) for line in (run.path / "quarantine-demonstrations.jsonl").read_text().splitlines()]
    assert [row["line"] for row in aside] == [3, 5]
    assert all("tokens" in row["reason"] for row in aside)
    with pytest.raises(BadInput, match=r"2 of 12 rows are bad \(line 3: .*max_bad_rows=0.167"):
        tiny.run(sft, tmp_path, **settings(material, data=data))


# ---------------------------------------------------------------- held-out data


def test_held_out_rows_are_split_off_and_choose_the_weights(material, tmp_path):
    steps = {"steps": 8, "cadence__evaluate": 1, "optim__lr": 1.0, "optim__schedule": "constant"}
    run = tiny.run(sft, tmp_path, **settings(material, **steps))
    rows = [json.loads(line) for line in (material / "demonstrations.jsonl").read_text().splitlines()]
    asked = [[Message(**message) for message in row["messages"][:-1]] for row in rows]
    kept, held = split_by_prompt(rows, asked, 0.25)
    assert run.info.results["demonstrations"] == len(kept) < 24
    losses = {row["step"]: row["loss/held_out"] for row in run.read_metrics()}
    best = min(losses, key=losses.get)
    assert best != 8  # such a rate breaks the model
    assert (run.info.results["best_step"], run.info.results["held_out_loss"]) == (best, losses[best])
    model, tokenizer = load_with_tokenizer(run.output("model"))
    chat = Chat(tokenizer)
    rows = [Row(*chat.conversation([Message(**m) for m in row["messages"]])) for row in held]
    assert mean_nll(model, [[row] for row in rows]) == pytest.approx(losses[best], rel=1e-5)


def test_a_held_out_file_takes_nothing_from_the_training_rows(material, tmp_path):
    run = tiny.run(sft, tmp_path, **settings(material, held_out=material / "demonstrations.jsonl"))
    assert run.info.results["demonstrations"] == 24
    assert {item.role for item in run.info.inputs} == {"model", "demonstrations", "demonstrations_dev"}


def test_without_held_out_rows_the_last_weights_are_kept(material, tmp_path):
    run = tiny.run(sft, tmp_path, **settings(material, held_out_share=0))
    assert "held_out_loss" not in run.info.results
    assert weights_hash(load_model(run.output("model"))) != weights_hash(load_model(material / "model"))


def test_nothing_left_to_train_on(material, tmp_path):
    one = tiny.demonstrations(tmp_path / "one.jsonl", 1)
    with pytest.raises(BadInput, match="no demonstrations left to train on after the held-out split"):
        tiny.run(sft, tmp_path, **settings(material, data=one, held_out_share=0.9))


def test_epochs_and_steps(material, tmp_path):
    one = tiny.run(sft, tmp_path / "a", **settings(material, steps=None, epochs=2, batch=2, held_out_share=0))
    assert len(one.read_metrics()) == one.info.results["steps"]
    tokens = sum(row["tokens"] for row in one.read_metrics())
    whole = sum(len(row) for row in demonstration_rows(material))
    assert tokens == pytest.approx(2 * whole, rel=0.15)


def demonstration_rows(material):
    chat = Chat(tiny.tokenizer())
    for line in (material / "demonstrations.jsonl").read_text().splitlines():
        yield chat.conversation([Message(**m) for m in json.loads(line)["messages"]])[0]


# ---------------------------------------------------------------- pretraining


def test_a_new_model_of_a_named_size_learns_the_text(material, tmp_path):
    words = {"data": material / "corpus.jsonl", "held_out": material / "corpus.jsonl", "vocabulary": 280}
    words |= {"steps": 12, "batch": 4, "length": 32, "context": 48, "optim__lr": 1e-2, "cadence__evaluate": 4}
    run = tiny.run(pretrain, tmp_path, **words)
    held_out = [row["loss/held_out"] for row in run.read_metrics() if "loss/held_out" in row]
    assert len(held_out) == 3
    assert held_out[-1] < held_out[0] - 0.3
    model, tokenizer = load_with_tokenizer(run.output("model"))
    assert model.config.max_position_embeddings == 48
    assert len(tokenizer) == 280
    assert run.info.results["parameters"] == sum(p.numel() for p in model.parameters())
    again = tiny.run(pretrain, tmp_path / "again", **words)
    assert weights_hash(load_model(again.output("model"))) == weights_hash(model)


def test_pretraining_goes_on_from_a_model_and_may_borrow_a_tokenizer(material, tmp_path):
    common = {"data": material / "corpus.jsonl", "steps": 1, "batch": 1, "length": 32}
    on = tiny.run(pretrain, tmp_path, **common, model=material / "model", optim__lr=1e-9)
    before, after = load_model(material / "model"), load_model(on.output("model"))
    torch.testing.assert_close(after.state_dict(), before.state_dict(), atol=1e-6, rtol=0)
    new = tiny.run(pretrain, tmp_path, **common, tokenizer=material / "model")
    _, tokenizer = load_with_tokenizer(new.output("model"))
    assert tokenizer.get_vocab() == tiny.tokenizer().get_vocab()


def test_rows_never_outgrow_the_models_context(material, tmp_path):
    """A model with learned positions has nothing to say beyond them; `length` gives way."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=24, bos_token_id=1, eos_token_id=2)
    save_model(GPT2LMHeadModel(shape).eval(), tiny.tokenizer(), tmp_path / "gpt2")
    data = tiny.jsonl(tmp_path / "long.jsonl", [{"text": " ".join(tiny.TEXTS)}])
    run = tiny.run(pretrain, tmp_path, data=data, model=tmp_path / "gpt2", length=128, steps=2, batch=2)
    assert run.info.status == "complete"


def test_a_run_is_described_where_it_lies(material, tmp_path):
    run = Run.open(tiny.run(sft, tmp_path, **settings(material)).path)
    assert run.info.stage == "sft"
    assert run.info.outputs[0].role == "model"
    card = (run.path / "model" / "README.md").read_text()
    assert "fine-tuned on demonstrations" in card
    assert (run.path / "config.toml").read_text().count("length = 64") == 1
