"""Real files: each is read as what it is, with few rows set aside and the right ones."""

import pytest

from heedlm.records import Comparison, Demonstration, Document, Prompt, Thumb, detect, detect_kind, read

# file, kind, format, sound rows, rows set aside
FILES = [
    ("corpora/tinystories-7k.jsonl.gz", Document, "text", 7144, 0),
    ("corpora/children-classics.jsonl.gz", Document, "text", 48, 0),
    ("corpora/classic-books-40mb.jsonl.gz", Document, "text", 86, 0),
    ("corpora/onestop-english.jsonl.gz", Document, "text", 567, 0),
    ("corpora/tang-poems-20k.jsonl.gz", Document, "text", 20000, 0),
    ("corpora/tinyshakespeare.txt", Document, "plain text", 7222, 0),
    ("preferences/hh-rlhf/harmless-base.jsonl.gz", Comparison, "hh-rlhf", 2299, 13),
    ("preferences/hh-rlhf/helpful-base.jsonl.gz", Comparison, "hh-rlhf", 2333, 21),
    ("preferences/oasst-rankings-zh.json.gz", Comparison, "completions", 768, 7),
    ("preferences/dpo-zh-500.jsonl.gz", Comparison, "sharegpt", 500, 0),
    ("preferences/dpo-en-demo.json.gz", Comparison, "sharegpt", 300, 0),
    ("preferences/dpo-zh-demo.json.gz", Comparison, "sharegpt", 300, 0),
    ("preferences/kto-en-demo.json.gz", Thumb, "messages", 300, 0),
    ("preferences/kto-mix.json.gz", Thumb, "completions", 1092, 0),
    ("instructions/alpaca-52k.jsonl.gz", Demonstration, "completions", 51974, 28),
    ("instructions/moss-conversations.jsonl.gz", Demonstration, "moss", 620, 0),
    ("instructions/sharegpt-zh-1k.jsonl.gz", Demonstration, "sharegpt", 992, 8),
    ("instructions/open-assistant-trees-100.jsonl.gz", Comparison, "message-tree", 211, 0),
    ("instructions/self-instruct-seed-tasks.jsonl", Demonstration, "instances", 175, 0),
    ("instructions/self-instruct-user-tasks.jsonl", Demonstration, "instances", 252, 0),
    ("evaluation/xstest-prompts.csv", Prompt, "prompts", 450, 0),
    ("evaluation/advbench-harmful-behaviors.csv", Prompt, "prompts", 521, 0),
    ("evaluation/truthfulqa.csv", Prompt, "prompts", 817, 0),
    ("evaluation/gsm8k-train.jsonl.gz", Demonstration, "completions", 7473, 0),
]


@pytest.mark.parametrize(("name", "kind", "form", "sound", "aside"), FILES)
def test_real_files_are_read_whole(shared, name, kind, form, sound, aside):
    path = shared / "data" / name
    assert (detect(path), detect_kind(path)) == (form, kind)
    rows = read(path, kind)
    assert (len(rows), len(rows.bad), rows.total) == (sound, aside, sound + aside)
    assert len({row.id for row in rows}) == sound


def test_every_corpus_preference_and_instruction_file_is_named_above(shared):
    data = shared / "data"
    here = {
        str(path.relative_to(data))
        for folder in ("corpora", "preferences", "instructions")
        for path in (data / folder).rglob("*")
        if path.is_file()
    }
    assert here <= {name for name, *_ in FILES}


def test_human_transcripts_keep_both_answers_and_no_speaker_marks(shared):
    rows = read(shared / "data/preferences/hh-rlhf/helpful-base.jsonl.gz", Comparison)
    first = rows[0]
    assert first.prompt[0].content.startswith("Do you know why turkeys became the official food")
    assert first.answers[0].text.startswith("To be honest")
    assert first.pairs() == [(0, 1)]
    longer = sum(len(row.answers[0].text) > len(row.answers[1].text) for row in rows) / len(rows)
    assert 0.5 < longer < 0.65


@pytest.mark.parametrize("kind", [Prompt, Demonstration, Document])
def test_comparisons_serve_as_prompts_demonstrations_and_documents(shared, kind):
    path = shared / "data/preferences/hh-rlhf/harmless-base.jsonl.gz"
    assert len(read(path, kind)) > 2290


def test_moss_marks_are_gone(shared):
    for row in read(shared / "data/instructions/moss-conversations.jsonl.gz", Demonstration):
        for message in row.messages:
            assert not message.content.startswith("<|")
            assert not message.content.endswith(("<eoh>", "<eom>"))
