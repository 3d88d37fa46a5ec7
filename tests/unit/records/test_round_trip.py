"""What is written is read again: Heed's own files, and other formats where they can hold a row."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.records.rows import DEMONSTRATIONS, DOCUMENTS, EVERY_KIND, PROMPTS, THUMBS, comparisons

from heedlm.records import (
    Answer,
    Comparison,
    Demonstration,
    Document,
    Message,
    Prompt,
    RowFault,
    Thumb,
    as_format,
    from_format,
    read,
    write,
)

ASK = Message(role="user", content="Who lives here?")
TOLD = Message(role="assistant", content="Ann does.")


@pytest.mark.parametrize("kind", list(EVERY_KIND), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@given(data=st.data())
def test_written_rows_are_read_again(tmp_path_factory, kind, suffix, data):
    rows = data.draw(st.lists(EVERY_KIND[kind], min_size=1, max_size=4, unique_by=lambda row: row.id))
    path = tmp_path_factory.mktemp("rows") / f"rows.{suffix}"
    assert write(path, rows) == len(rows)
    again = read(path, kind)
    assert again.rows == rows
    assert (again.bad, again.total, again.format) == ([], len(rows), "heed")
    assert again.lines == list(range(1, len(rows) + 1))


def test_equal_rows_get_ids_of_their_own(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, [Document(text="same")] * 3 + [Document(text="other")])
    ids = [row.id for row in read(path, Document)]
    made = Document(text="same").id
    assert ids == [made, f"{made}-2", f"{made}-3", Document(text="other").id]


def test_defaults_are_not_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, [Demonstration(id="a", messages=(ASK, TOLD))])
    assert path.read_text() == (
        '{"id":"a","messages":[{"role":"user","content":"Who lives here?"},'
        '{"role":"assistant","content":"Ann does."}]}\n'
    )


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [Document(text=f"document {n}") for n in range(20)]
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl.gz", rows)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).count(b"\n") == 20


def _same(row, back):
    """Whether two rows say the same: ids made from the content may differ where the field order does."""
    return back.model_dump(exclude={"id"}) == row.model_dump(exclude={"id"})


# Each format takes what it can hold; the property is that it never takes a row and changes it.
@pytest.mark.parametrize("name", ["messages", "sharegpt", "completions"])
@given(row=DEMONSTRATIONS)
def test_dialogues_survive_conversion(name, row):
    fields = as_format(row, name)
    (back,) = from_format(fields, name, Demonstration)
    assert _same(row, back)
    assert back.id == row.id


@pytest.mark.parametrize("name", ["pairs", "sharegpt"])
@given(row=comparisons(largest=2))
def test_comparisons_of_two_survive_conversion(name, row):
    if row.ties():
        with pytest.raises(RowFault, match="tied"):
            as_format(row, name)
        return
    (back,) = from_format(as_format(row, name), name, Comparison)
    (better, worse), (first, second) = row.pairs()[0], back.pairs()[0]
    assert back.prompt == row.prompt
    assert back.answers[first].text == row.answers[better].text
    assert back.answers[second].text == row.answers[worse].text
    assert back.meta == row.meta


@given(row=comparisons())
def test_rankings_survive_as_lists_of_outputs(row):
    if row.ties():
        with pytest.raises(RowFault, match="tied"):
            as_format(row, "completions")
        return
    (back,) = from_format(as_format(row, "completions"), "completions", Comparison)
    order = sorted(range(len(row.ranks)), key=lambda place: row.ranks[place])
    assert [answer.text for answer in back.answers] == [row.answers[place].text for place in order]
    assert back.ranks == tuple(range(1, len(order) + 1))


@pytest.mark.parametrize("name", ["messages", "sharegpt", "completions"])
@given(row=THUMBS)
def test_thumbs_survive_conversion(name, row):
    (back,) = from_format(as_format(row, name), name, Thumb)
    assert (back.prompt, back.answer.text, back.up) == (row.prompt, row.answer.text, row.up)


@given(row=PROMPTS)
def test_prompts_survive_conversion(row):
    (back,) = from_format(as_format(row, "prompts"), "prompts", Prompt)
    assert _same(row, back)


@given(row=DOCUMENTS)
def test_documents_survive_or_are_refused(row):
    if row.text.startswith("\ufeff"):  # a byte order mark left in by another program, which reading drops
        with pytest.raises(RowFault, match="without loss"):
            as_format(row, "text")
        return
    (back,) = from_format(as_format(row, "text"), "text", Document)
    assert _same(row, back)


@given(row=comparisons(largest=2))
def test_transcripts_hold_a_row_whole_or_refuse_it(row):
    try:
        fields = as_format(row, "hh-rlhf")
    except RowFault:
        said = [message.content for message in row.prompt] + [answer.text for answer in row.answers]
        blanks = any(text != text.strip() for text in said)
        assert row.ties() or blanks or row.prompt[0].role == "system"
        return
    (back,) = from_format(fields, "hh-rlhf", Comparison)
    assert back.prompt == row.prompt
    assert {answer.text for answer in back.answers} == {answer.text for answer in row.answers}


def test_a_transcript_refuses_text_that_holds_its_marks():
    row = Comparison(prompt=(ASK,), answers=(Answer(text="Bo.\n\nHuman: And?"), Answer(text="Ann.")), ranks=(1, 2))
    with pytest.raises(RowFault, match=r"hh-rlhf cannot hold it without loss"):
        as_format(row, "hh-rlhf")


@pytest.mark.parametrize(
    ("row", "name", "reason"),
    [
        (Demonstration(messages=(ASK, TOLD)), "prompts", "prompt without an answer"),
        (Demonstration(messages=(ASK, TOLD)), "pairs", "the row ranks 0 answers"),
        (Prompt(messages=(ASK,)), "text", "only a document"),
        (Document(text="x"), "messages", "no conversation"),
        (Document(text="x"), "parquet", "is no format to convert to: choose from hh-rlhf"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(row, name, reason):
    with pytest.raises(RowFault, match=reason):
        as_format(row, name)


def test_an_instruction_without_input_survives_as_a_dialogue():
    fields = {
        "instruction": "Name a tree.",
        "input": "",
        "output": "Oak.",
        "history": [["Hi", "Hello"]],
        "system": "Be brief.",
    }
    (row,) = from_format(fields, "completions", Demonstration)
    assert [message.role for message in row.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert as_format(row, "completions") == fields
