"""Each format, by small rows in the shapes people have them: what is detected and what is read."""

import json

import pytest

from heedlm.errors import BadInput
from heedlm.records import (
    FORMATS,
    Answers,
    Comparison,
    Demonstration,
    Document,
    Prompt,
    Rating,
    Thumb,
    detect,
    detect_kind,
    read,
)

ASK, OTHER = "Who lives here?", "And there?"
USER = {"role": "user", "content": ASK}
ANN, BO = ({"role": "assistant", "content": text} for text in ("Ann.", "Bo."))
TURN = "\n\nHuman: {}\n\nAssistant: {}"


def file_of(tmp_path, *rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def roles(messages):
    return [message.role for message in messages]


PAIRS = [
    ("hh-rlhf", {"chosen": TURN.format(ASK, " Ann."), "rejected": TURN.format(ASK, "Bo. ")}),
    ("pairs", {"prompt": ASK, "chosen": "Ann.", "rejected": "Bo."}),
    ("pairs", {"prompt": [USER], "chosen": [ANN], "rejected": [BO]}),
    ("pairs", {"prompt": ASK, "chosen": [USER, ANN], "rejected": [USER, BO]}),
    ("pairs", {"chosen": [USER, ANN], "rejected": [USER, BO], "score_chosen": 5.0}),
    ("pairs", {"prompt": f"\n\nHuman: {ASK}\n\nAssistant:", "chosen": "Ann.", "rejected": "Bo."}),
    ("pairs", {"question": ASK, "chosen": "Ann.", "rejected": "Bo."}),
    ("sharegpt", {"conversations": [{"from": "human", "value": ASK}],
                  "chosen": {"from": "gpt", "value": "Ann."}, "rejected": {"from": "gpt", "value": "Bo."}}),
    ("sharegpt", {"conversations": [{"from": "human", "value": ASK}], "chosen": "Ann.", "rejected": "Bo."}),
    ("completions", {"instruction": ASK, "input": "", "output": ["Ann.", "Bo."], "history": []}),
    ("heed", {"prompt": [USER], "answers": [{"text": "Ann."}, {"text": "Bo."}], "ranks": [1, 2]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), PAIRS)
def test_comparisons_in_every_format_say_the_same(tmp_path, name, fields):
    path = file_of(tmp_path, fields)
    assert detect(path) == name
    assert detect_kind(path) is Comparison
    (row,) = read(path, Comparison)
    assert [message.content for message in row.prompt] == [ASK]
    assert [answer.text for answer in row.answers] == ["Ann.", "Bo."]
    assert row.ranks == (1, 2)


DIALOGUES = [
    ("messages", {"messages": [USER, ANN], "dataset": "mine"}),
    ("heed", {"messages": [USER, ANN]}),
    ("sharegpt", {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": "Ann."}]}),
    ("completions", {"prompt": ASK, "completion": "Ann."}),
    ("completions", {"prompt": [USER], "completion": [ANN]}),
    ("completions", {"instruction": ASK, "input": "", "output": "Ann."}),
    ("completions", {"question": ASK, "answer": "Ann."}),
    ("instances", {"instruction": ASK, "instances": [{"input": "", "output": "Ann."}]}),
    ("moss", {"meta_instruction": "", "chat": {"turn_1": {"Human": f"<|Human|>: {ASK}<eoh>\n",
                                                         "MOSS": "<|MOSS|>: Ann.<eom>\n"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), DIALOGUES)
def test_demonstrations_in_every_format_say_the_same(tmp_path, name, fields):
    path = file_of(tmp_path, fields)
    assert detect(path) == name
    assert detect_kind(path) is Demonstration
    (row,) = read(path, Demonstration)
    assert [(message.role, message.content) for message in row.messages] == [
        ("user", ASK),
        ("assistant", "Ann."),
    ]


THUMBS = [
    {"messages": [USER, ANN], "label": False},
    {"prompt": ASK, "completion": "Ann.", "label": 0},
    {"instruction": ASK, "output": "Ann.", "tag": False},
    {"instruction": ASK, "output": "Ann.", "kto_tag": "false"},
    {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": "Ann."}], "kto_tag": False},
    {"prompt": [USER], "answer": {"text": "Ann."}, "up": False},
]


@pytest.mark.parametrize("fields", THUMBS)
def test_thumbs_in_every_format_say_the_same(tmp_path, fields):
    path = file_of(tmp_path, fields)
    assert detect_kind(path) is Thumb
    (row,) = read(path, Thumb)
    assert (row.prompt[-1].content, row.answer.text, row.up) == (ASK, "Ann.", False)


def test_every_format_has_a_row_here_or_below():
    names = {name for name, _ in PAIRS + DIALOGUES} | {"message-tree", "prompts", "text"}
    assert names == {form.name for form in FORMATS}


def test_input_joins_the_instruction_and_history_the_dialogue(tmp_path):
    fields = {
        "instruction": "Add.",
        "input": "2 3",
        "output": "5",
        "history": [["Hi", "Hello"]],
        "system": "Sum.",
    }
    (row,) = read(file_of(tmp_path, fields), Demonstration)
    said = [message.content for message in row.messages]
    assert said == ["Sum.", "Hi", "Hello", "Add.\n2 3", "5"]
    assert roles(row.messages) == ["system", "user", "assistant", "user", "assistant"]


def test_several_instances_are_several_rows(tmp_path):
    instances = [{"input": "", "output": "Ann."}, {"input": "left", "output": "Bo."}]
    rows = read(file_of(tmp_path, {"id": "t1", "instruction": ASK, "instances": instances}), Demonstration)
    assert [row.id for row in rows] == ["t1-0", "t1-1"]
    assert rows[1].messages[0].content == f"{ASK}\nleft"
    assert rows.lines == [1, 1]


def test_a_transcript_keeps_the_turns_both_share_as_prompt(tmp_path):
    shared = TURN.format(ASK, "Ann.") + "\n\nHuman: " + OTHER + "\n\nAssistant: "
    (row,) = read(file_of(tmp_path, {"chosen": shared + "Bo.", "rejected": shared + "Cy."}), Comparison)
    assert [message.content for message in row.prompt] == [ASK, "Ann.", OTHER]
    assert [answer.text for answer in row.answers] == ["Bo.", "Cy."]


def test_a_tree_gives_each_of_the_users_turns_with_its_ranked_replies(tmp_path):
    def node(role, text, *replies, **more):
        return {"role": role, "text": text, "replies": list(replies), "lang": "en", **more}

    more = node("prompter", OTHER, node("assistant", "Cy.", rank=1), node("assistant", "Di.", rank=0))
    tree = node(
        "prompter", ASK, node("assistant", "Ann.", more, rank=0, model_name="m"),
        node("assistant", "Bo.", rank=1), node("assistant", "Gone.", rank=2, deleted=True),
    )  # fmt: skip
    path = file_of(tmp_path, {"message_tree_id": "x", "prompt": tree})
    assert detect(path) == "message-tree"
    first, second = read(path, Comparison)
    assert [(answer.text, answer.model) for answer in first.answers] == [("Ann.", "m"), ("Bo.", None)]
    assert first.ranks == (1, 2)
    assert [message.content for message in second.prompt] == [ASK, "Ann.", OTHER]
    assert second.ranks == (2, 1)
    assert second.meta.lang == "en"
    assert [row.messages[-1].content for row in read(path, Demonstration)] == ["Ann.", "Di."]


def test_moss_turns_lose_their_marks_and_keep_the_system_message(tmp_path):
    turn = {"Human": "<|Human|>: 你好<eoh>\n", "Inner Thoughts": "…", "MOSS": "<|MOSS|>: 你好！<eom>\n"}
    fields = {
        "meta_instruction": "Be kind.\n",
        "chat": {"turn_1": turn, "turn_2": turn},
        "category": "honest",
    }
    (row,) = read(file_of(tmp_path, fields), Demonstration)
    assert [message.content for message in row.messages] == ["Be kind.", "你好", "你好！", "你好", "你好！"]
    assert row.meta.domain == "honest"


def test_text_and_origin_are_read_and_other_columns_left(tmp_path):
    fields = {
        "id": 7,
        "text": "\ufeffOnce.",
        "source": "mine",
        "language": "en",
        "cased": True,
        "author": "Ann",
    }
    path = file_of(tmp_path, fields)
    assert (detect(path), detect_kind(path)) == ("text", Document)
    (row,) = read(path, Document)
    assert (row.id, row.text, row.meta.source, row.meta.lang) == ("7", "Once.", "mine", "en")


@pytest.mark.parametrize("column", ["prompt", "instruction", "question", "goal"])
def test_prompts_alone(tmp_path, column):
    path = file_of(tmp_path, {column: ASK, "note": "x"})
    assert (detect(path), detect_kind(path)) == ("prompts", Prompt)
    (row,) = read(path, Prompt)
    assert row.messages[0].content == ASK


def test_richer_rows_serve_for_poorer_kinds(tmp_path):
    fields = {"id": "c", "prompt": [USER], "answers": [{"text": "Bo."}, {"text": "Ann."}], "ranks": [2, 1]}
    path = file_of(tmp_path, fields)
    (prompt,) = read(path, Prompt)
    (shown,) = read(path, Demonstration)
    (document,) = read(path, Document)
    (answers,) = read(path, Answers)
    assert (prompt.id, prompt.messages[0].content) == ("c", ASK)
    assert shown.messages[-1].content == "Ann."
    assert document.text == f"{ASK}\n\nAnn."
    assert [answer.text for answer in answers.answers] == ["Bo.", "Ann."]


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"prompt": ASK}, Demonstration, "there is no answer"),
        ({"prompt": ASK, "completion": "Ann."}, Comparison, "only one answer, a comparison needs two"),
        ({"prompt": ASK, "completion": "Ann."}, Thumb, "no thumb"),
        ({"prompt": ASK, "completion": "Ann."}, Rating, "no score"),
        ({"prompt": ASK, "completion": "Ann.", "label": False}, Demonstration, "its answer is marked bad"),
        (
            {"prompt": ASK, "completion": "Ann.", "label": "maybe"},
            Thumb,
            "label is 'maybe', expected true or false",
        ),
        ({"text": "Once."}, Prompt, "no prompt, only text"),
        (
            {"prompt": [USER], "answers": [{"text": "Ann."}, {"text": "Bo."}]},
            Demonstration,
            "no ranking: which",
        ),
        (
            {"prompt": [USER], "answers": [{"text": "Ann."}, {"text": "Bo."}], "rankz": [1, 2]},
            Comparison,
            "unknown field 'rankz'",
        ),
        (
            {"prompt": [USER], "answer": {"text": "Ann."}, "score": 9},
            Rating,
            "score: input should be less than or equal to 7",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            Prompt,
            "role: input should be 'system', 'user' or 'assistant'",
        ),
        ({"conversations": [{"from": "observation", "value": "x"}]}, Prompt, "unknown role 'observation'"),
        ({"conversations": "x"}, Prompt, "conversations is a str, expected a list of messages"),
        (
            {"messages": [USER, {"role": "assistant", "content": None}], "x": 1},
            Prompt,
            "content of 'assistant' is missing, expected text",
        ),
        (
            {"chosen": TURN.format(ASK, "Ann."), "rejected": TURN.format(OTHER, "Bo.")},
            Comparison,
            "differ in more than the last answer",
        ),
        (
            {"prompt": ASK, "chosen": {"role": "user", "content": "x"}, "rejected": "y"},
            Comparison,
            "chosen is from 'user'",
        ),
        ({"instruction": ASK, "output": ["a", 3]}, Comparison, "output is a list of something else"),
        (
            {"instruction": ASK, "output": list("abcdefghij")},
            Comparison,
            "10 answers, a comparison has at most 9",
        ),
        ({"height": 3, "width": 4}, Prompt, "no known format has the fields height, width"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, fields, kind, reason):
    with pytest.raises(BadInput, match=r"none of 1 rows can be read as \w+s \(line 1: ") as caught:
        read(file_of(tmp_path, fields), kind)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_fields_are_named(tmp_path):
    with pytest.raises(BadInput, match="its rows have the fields height, width"):
        detect(file_of(tmp_path, {"height": 3, "width": 4}))


def test_rows_of_several_formats_in_one_file(tmp_path):
    path = file_of(tmp_path, *(fields for _, fields in DIALOGUES))
    rows = read(path, Demonstration)
    assert len(rows) == len(DIALOGUES)
    assert rows.formats["completions"] == 4
    assert rows.format == "completions"
    assert len({row.id for row in rows}) == len(DIALOGUES)
