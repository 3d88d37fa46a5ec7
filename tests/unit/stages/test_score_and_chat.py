"""Scoring against numbers worked out from the model itself, and a conversation line by line."""

import io
import json
import math

import pytest
import torch
from tests.unit.train import tiny

from heedlm import config
from heedlm.cli import main
from heedlm.feedback.selection import read_scores
from heedlm.models import Chat, load_model, load_reward, new_reward, save_model
from heedlm.records import Message
from heedlm.runs import Run
from heedlm.stages import chat as chat_stage
from heedlm.stages import score
from heedlm.train.steps import say_reads_steps


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1, spread=0.3)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    return folder


def loaded(words):
    return config.load(score.Config, [str(word) for word in words], stage="score")


# ---------------------------------------------------------------- score


def test_a_texts_log_probability_is_the_chain_rules_product(material):
    texts = ["Ann lives in the red house.", "小猫在房子里。"]
    rows = score.run(loaded([material / "model", f"text={json.dumps(texts)}"]))["scores"]
    model = load_model(material / "model")
    for text, row in zip(texts, rows, strict=True):
        ids = Chat(tiny.tokenizer()).document_ids(text)
        assert ids[0] == tiny.tokenizer().bos_token_id
        assert ids[-1] == tiny.tokenizer().eos_token_id
        with torch.no_grad():
            chances = model(input_ids=torch.tensor([ids])).logits[0].double().softmax(-1)
        product = math.prod(float(chances[t - 1, ids[t]]) for t in range(1, len(ids)))
        assert row["text"] == text
        assert row["tokens"] == len(ids) - 1
        assert row["logp"] == pytest.approx(math.log(product), rel=1e-5)
        assert row["per_token"] == pytest.approx(math.log(product) / (len(ids) - 1), rel=1e-5)
        assert row["perplexity"] == pytest.approx(math.exp(-row["per_token"]), rel=1e-6)


def test_a_file_of_texts_and_a_reward(material, tmp_path):
    data = tiny.documents(tmp_path / "texts.jsonl", 3)
    assert len(score.run(loaded([material / "model", f"data={data}"]))["scores"]) == 3
    rows = score.run(loaded([material / "reward", "prompt=Where?", 'text=["In the house.", "Nowhere."]']))["scores"]
    chat, model = Chat(tiny.tokenizer()), load_reward(material / "reward")
    for row in rows:
        ids = chat.prompt_ids([Message(role="user", content="Where?")]) + chat.response_ids(row["text"])
        with torch.no_grad():
            hidden = model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            assert row["reward"] == pytest.approx(float(model.score(hidden)[0]), rel=1e-4, abs=1e-6)
    assert [row["text"] for row in rows] == ["In the house.", "Nowhere."]


def test_the_answers_of_a_projects_items_are_scored_into_a_file_that_its_page_reads(material, tmp_path):
    questions = {"item-b": "Where?", "item-a": "Who lives there?"}
    texts = {"item-b": ["In the house.", "Nowhere.", "no"], "item-a": ["Ann.", "Bob lives in the red house."]}
    rows = [
        {"id": key, "prompt": [{"role": "user", "content": asked}], "answers": [{"text": text} for text in texts[key]]}
        for key, asked in questions.items()
    ]
    answers, to = tiny.jsonl(tmp_path / "answers.jsonl", rows), tmp_path / "scores.jsonl"
    words = ["score", str(material / "reward"), f"answers={answers}", f"to={to}"]
    assert main(words) == 0
    found = read_scores(to)
    assert list(found) == ["item-b", "item-a"]
    for key, asked in questions.items():
        single = loaded([material / "reward", f"prompt={asked}", f"text={json.dumps(texts[key])}"])
        assert found[key] == pytest.approx([row["reward"] for row in score.run(single)["scores"]], abs=1e-5)
    assert len({value for values in found.values() for value in values}) == 5
    assert main(words) == 2  # nothing is overwritten


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model", "text=x", "prompt=y"], "is a language model and scores texts alone: leave out prompt="),
        (["reward", "text=x"], "is a reward model: give the prompt="),
        (["model"], "nothing to score: give text="),
        (["model", "answers=a.jsonl", "to=b.jsonl"], "is a language model: answers are scored by a reward model"),
        (["reward", "answers=a.jsonl"], "answers=FILE and to=FILE go together"),
        (["reward", "answers=a.jsonl", "to=b.jsonl", "text=x"], "go together, and without text="),
        (["model", "text=" + "word " * 90], "more than the model's context of 64; split it"),
    ],
)
def test_what_cannot_be_scored_is_told_in_one_line(material, capsys, words, said):
    assert main(["score", str(material / words[0]), *words[1:]]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error


def test_the_command_prints_one_line_a_text(material, capsys):
    assert main(["score", str(material / "model"), 'text=["a cat", "a dog"]', "--quiet"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.rsplit("  ", 1)[1] for line in lines] == ["a cat", "a dog"]
    assert all(line.startswith("log-prob") and "perplexity" in line for line in lines)


# ---------------------------------------------------------------- chat


def conversation(material, **settings):
    words = [f"model={material / 'model'}", *tiny.words_of({"sampling__max_new_tokens": 8, **settings})]
    return chat_stage.Conversation(
        config.load(chat_stage.Config, words, stage="chat"), load_model(material / "model"), Chat(tiny.tokenizer())
    )


ECHO = {"name": "scripted", "answers": ["Yes."]}


def test_turns_are_remembered_and_forgotten(material):
    talk = conversation(material, engine=ECHO, system="Be kind.")
    assert talk.hear("Hello") == "Yes."
    assert talk.hear("And now?") == "Yes."
    assert [message.role for message in talk.messages] == ["system", *["user", "assistant"] * 2]
    assert talk.hear("/again") == "Yes."
    assert len(talk.messages) == 5  # the last answer was given anew, not added
    assert talk.hear("/new") == "(a new conversation)"
    assert [message.content for message in talk.messages] == ["Be kind."]
    assert talk.hear("/again") == "(nothing to answer again)"
    assert talk.hear("  ") == ""
    assert "/new" in talk.hear("/help")
    assert "unknown command /dance" in talk.hear("/dance now")
    assert talk.hear("/quit") is None
    assert [row["prompt"] for row in talk.kept] == ["Hello", "And now?", "And now?"]


def test_the_oldest_turns_leave_when_the_context_is_full(material):
    """64 tokens hold a few turns; after many the answers still come, and the last question is still asked."""
    talk = conversation(material)
    for number in range(8):
        assert isinstance(talk.hear(f"Question {number}?"), str)
    assert talk.kept[-1]["prompt"] == "Question 7?"


def test_answers_differ_from_one_time_to_the_next_and_a_seed_repeats_them(material):
    one, two = conversation(material, seed=4), conversation(material, seed=4)
    said = [one.hear("Hello"), one.hear("/again"), one.hear("/again")]
    assert len(set(said)) > 1
    assert said == [two.hear("Hello"), two.hear("/again"), two.hear("/again")]


def test_a_line_too_long_for_the_context_does_not_end_the_conversation(material):
    talk = conversation(material, engine=ECHO)
    talk.hear("Hello")
    assert "56 fit" in talk.hear("word " * 80)
    assert talk.hear("Still there?") == "Yes."
    assert [message.content for message in talk.messages if message.role == "user"] == ["Hello", "Still there?"]


def test_a_context_shorter_than_the_longest_answer_leaves_room_for_the_question(material):
    """The default of 128 new tokens is more than this model's whole context."""
    talk = conversation(material, sampling__max_new_tokens=128)
    assert isinstance(talk.hear("Hello"), str)
    assert talk.messages[-1].role == "assistant"


def test_the_command_talks_until_the_input_ends(material, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n/again\n"))
    words = [str(material / "model"), f"out={tmp_path}", "engine.name=scripted", 'engine.answers=["Yes."]']
    assert main(["chat", *words, "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("Yes.\nYes.\n")
    (path,) = (file.parent for file in tmp_path.glob("chat/*/run.json"))
    run = Run.open(path)
    assert run.info.results["turns"] == 2
    assert [row["answer"] for row in run.read_samples()] == ["Yes."] * 2


def test_what_a_model_says_cannot_steer_the_terminal(material, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    answer = r'engine.answers=["one\n\u001b[2Jtwo\u009b"]'
    words = [str(material / "model"), f"out={tmp_path}", "engine.name=scripted", answer]
    assert main(["chat", *words, "--quiet"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("one\n")
    assert "two" in said
    assert "\x1b" not in said
    assert "\x9b" not in said


def test_several_reward_models_and_one_that_judges_steps(material, tmp_path):
    save_model(new_reward(tiny.model(4), seed=5), tiny.tokenizer(), tmp_path / "second")
    judge = new_reward(tiny.model(5), seed=6)
    say_reads_steps(judge)
    save_model(judge, tiny.tokenizer(), tmp_path / "steps")
    words = ["prompt=Where?", 'text=["In the house. So red.", "Nowhere."]']
    first, second = (score.run(loaded([path, *words]))["scores"] for path in (material / "reward", tmp_path / "second"))
    both = score.run(loaded([f"{material / 'reward'},{tmp_path / 'second'}", *words]))["scores"]
    for row, one, two in zip(both, first, second, strict=True):
        assert row["reward"] == pytest.approx((one["reward"] + two["reward"]) / 2, rel=1e-4)
        assert (row["member_1"], row["member_2"]) == pytest.approx((one["reward"], two["reward"]), rel=1e-4)
        assert row["spread"] == pytest.approx(abs(one["reward"] - two["reward"]) / 2, rel=1e-3)
    stepped = score.run(loaded([tmp_path / "steps", *words]))["scores"]
    assert [row["steps"] for row in stepped] == [2, 1]
    assert all(0 < row["reward"] <= row["least"] < 1 for row in stepped)
