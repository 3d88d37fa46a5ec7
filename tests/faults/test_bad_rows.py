"""Bad rows are set aside with line and reason, the rest goes on; bad files are one line with a remedy."""

import errno
import gzip
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedlm.errors import BadInput
from heedlm.records import Comparison, Demonstration, Document, Prompt, Rating, Thumb, read, write

USER = {"role": "user", "content": "Who lives here?"}
ANN = {"role": "assistant", "content": "Ann."}


def good(kind, number):
    """A sound row in Heed's own format."""
    user = {"role": "user", "content": f"Who lives in house {number}?"}
    row = {"id": f"row-{number}"}
    if kind is Document:
        return row | {"text": f"In house {number} lives Ann."}
    if kind is Prompt:
        return row | {"messages": [user]}
    if kind is Demonstration:
        return row | {"messages": [user, ANN]}
    row["prompt"] = [user]
    if kind is Comparison:
        return row | {"answers": [{"text": "Ann."}, {"text": "Bo."}], "ranks": [1, 2]}
    row["answer"] = {"text": "Ann."}
    return row | ({"score": 5} if kind is Rating else {"up": number % 2 == 0})


def compared(first, second, ranks=(1, 2), **more):
    return {"prompt": [USER], "answers": [first, second], "ranks": list(ranks), **more}


TRANSCRIPT = "\n\nHuman: Hi\n\nAssistant: {}"
DEEP = b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
FAULTS = [
    (Document, b'{"text": "torn', "not JSON: unterminated string starting at character 10"),
    (Document, b'{"text": "a"} {"text": "b"}', "not JSON: extra data at character 15"),
    (Document, b"{'text': 'a'}", "not JSON: expecting property name"),
    (Document, b'{"text": "\xff\xfe"}', "invalid UTF-8 at byte 11"),
    (Document, b'{"text": "half a pair: \\ud83d"}', "invalid unicode"),
    (Document, b'["a", "list"]', "a list, expected an object"),
    (Document, b"null", "null, expected an object"),
    (Document, DEEP, "not JSON"),
    (Document, {"text": " \n"}, "empty text"),
    (Document, {"text": 5}, "text: input should be a valid string"),
    (Document, {"id": "row-3", "text": "x"}, "duplicate id 'row-3' (first on line 3)"),
    (Document, {}, "no known format has the fields (none)"),
    (Prompt, {"messages": []}, "no messages"),
    (Prompt, {"messages": [{"role": "user", "content": "  "}]}, "empty prompt (message 1)"),
    (Prompt, {"prompt": ""}, "empty prompt"),
    (Prompt, {"messages": [USER, USER]}, "roles out of order: message 2 is from 'user'"),
    (Demonstration, {"messages": [USER]}, "there is no answer"),
    (Demonstration, {"messages": [ANN]}, "message 1 is from 'assistant', expected 'user'"),
    (Demonstration, {"messages": [USER, {"role": "assistant", "content": ""}]}, "empty answer (message 2)"),
    (Demonstration, {"messages": [ANN, USER, ANN]}, "roles out of order: message 1 is from 'assistant'"),
    (Demonstration, {"instruction": "Do.", "output": ""}, "empty answer"),
    (Comparison, compared({"text": "Ann."}, {"text": "Ann. "}), "chosen equal to rejected"),
    (Comparison, compared({"text": "Ann."}, {"text": ""}), "empty answer (answer 2)"),
    (Comparison, compared({"text": "Ann."}, {"text": "Bo."}, (1,)), "2 answers but 1 ranks"),
    (Comparison, compared({"text": "Ann."}, {"text": "Bo."}, (0, 1)), "ranks start at 1"),
    (Comparison, compared({"text": "Ann."}, {"text": "Bo."}, note=1), "unknown field 'note'"),
    (Comparison, {"chosen": TRANSCRIPT.format("a"), "rejected": TRANSCRIPT.format("a")}, "chosen equal"),
    (Comparison, {"prompt": "Hi", "chosen": "Ho", "rejected": "Ho"}, "chosen equal to rejected"),
    (Comparison, {"chosen": "a", "rejected": "b"}, "no prompt"),
    (Comparison, {"prompt": "Hi", "chosen": None, "rejected": "b"}, "chosen is not text"),
    (Rating, {"prompt": [USER], "answer": {"text": "Ann."}, "score": 0}, "score: input should be greater"),
    (Thumb, {"prompt": [USER], "answer": {"text": "Ann."}}, "no field 'up'"),
    (Thumb, {"prompt": [USER], "answer": {"text": " "}, "up": True}, "empty answer"),
]


@pytest.mark.parametrize(("kind", "row", "reason"), FAULTS)
def test_one_bad_row_is_set_aside_and_the_rest_goes_on(tmp_path, kind, row, reason):
    lines = [json.dumps(good(kind, number)).encode() for number in range(1, 201)]
    lines[149] = row if isinstance(row, bytes) else json.dumps(row).encode()
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    rows = read(path, kind, quarantine=tmp_path / "bad.jsonl")
    assert (len(rows), rows.total) == (199, 200)
    assert 150 not in rows.lines
    (bad,) = rows.bad
    assert bad.line == 150
    assert reason in bad.reason
    assert json.loads((tmp_path / "bad.jsonl").read_text()) == {
        "line": 150,
        "reason": bad.reason,
        "excerpt": bad.excerpt,
    }
    assert len(bad.excerpt) <= 160
    assert path.read_bytes() == before
    assert rows.summary().endswith("199 rows (heed), 1 set aside")


def test_a_line_of_twenty_megabytes_is_set_aside_unparsed(tmp_path):
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        for number in range(1, 151):
            file.write(json.dumps(good(Document, number)).encode() + b"\n")
        file.write(b'{"text": "' + b"x" * (20 * 2**20) + b'"}\n')
        file.write(b'{"id": "last", "text": "after it"}')
    rows = read(path, Document)
    assert (len(rows), rows[-1].id) == (151, "last")
    assert (rows.bad[0].line, rows.bad[0].reason) == (151, "a line of 20.0 MB (at most 16 MB a line)")


def test_rows_without_ids_may_be_equal_and_given_ids_may_not(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "same"}\n' * 3)
    rows = read(path, Document)
    assert rows.bad == []
    assert len({row.id for row in rows}) == 3
    path.write_text('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n')
    assert read(path, Document, max_bad_rows=0.5).bad[0].reason == "duplicate id '1' (first on line 1)"


def test_an_empty_answer_is_sound_where_it_names_its_model(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(compared({"text": "Ann."}, {"text": "", "model": "runs/sft"})))
    assert read(path, Comparison)[0].answers[1].text == ""


def bad_file(tmp_path, sound, torn):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n' * sound + "{torn\n" * torn)
    return path


def test_one_in_a_hundred_may_be_bad_and_no_more(tmp_path):
    assert len(read(bad_file(tmp_path, 99, 1), Document)) == 99
    path = bad_file(tmp_path, 97, 4)
    with pytest.raises(BadInput) as caught:
        read(path, Document, quarantine=tmp_path / "bad.jsonl")
    message = str(caught.value)
    assert message.startswith(f"{path}: 4 of 101 rows are bad (line 98: not JSON: expecting property name")
    assert "; and 1 more): mend them, or let them be left out with max_bad_rows=0.04 (now 0.01)" in message
    assert "\n" not in message
    assert caught.value.exit_code == 2
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 4


@given(sound=st.integers(1, 60), torn=st.integers(1, 60))
def test_the_limit_a_message_names_lets_the_file_pass(tmp_path_factory, sound, torn):
    path = bad_file(tmp_path_factory.mktemp("rows"), sound, torn)
    with pytest.raises(BadInput) as caught:
        read(path, Document, max_bad_rows=0)
    named = re.search(r"max_bad_rows=([\d.]+) ", str(caught.value))
    assert named
    assert len(read(path, Document, max_bad_rows=float(named[1]))) == sound


def test_no_limit_lets_a_file_without_a_sound_row_pass(tmp_path):
    with pytest.raises(BadInput, match="none of 3 rows can be read as documents"):
        read(bad_file(tmp_path, 0, 3), Document, max_bad_rows=1.0)


def test_stages_set_rows_aside_by_the_same_mechanism(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = ['{"text": "short"}'] * 150
    lines[9] = '{"text": "much too long"}'
    lines[19] = "{torn"
    path.write_text("\n".join(lines))
    rows = read(path, Document, max_bad_rows=0.02, quarantine=tmp_path / "bad.jsonl")
    left = rows.filter(lambda row: "13 tokens, the context holds 8" if len(row.text) > 8 else None)
    assert [(bad.line, bad.reason) for bad in left.bad] == [
        (10, "13 tokens, the context holds 8"),
        (20, rows.bad[0].reason),
    ]
    assert (len(left), left.total, 10 in left.lines, len(rows)) == (148, 150, False, 149)
    listed = [json.loads(line)["line"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert listed == [10, 20]
    third = left.reject(0, "unwanted")
    assert third.bad[0].line == 1
    with pytest.raises(BadInput, match=r"4 of 150 rows are bad \(line 1: unwanted; line 2: unwanted; line 10"):
        third.reject(0, "unwanted")
    with pytest.raises(BadInput, match="none of 150 rows"):
        left.filter(lambda row: "unwanted")
    assert left.filter(lambda row: None) is left


def test_the_data_file_itself_is_no_place_for_bad_rows(tmp_path):
    path = bad_file(tmp_path, 200, 1)
    before = path.read_bytes()
    with pytest.raises(BadInput, match="is the data file itself: name another file"):
        read(path, Document, quarantine=path)
    assert path.read_bytes() == before


# ------------------------------------------------------------------------------------------- layouts


def test_a_torn_item_of_a_json_list_is_set_aside(tmp_path):
    items = [json.dumps({"text": f"text {number}", "inner": [{"a": 1}]}, indent=1) for number in range(200)]
    items[4] = items[4][:-4]
    path = tmp_path / "rows.json"
    path.write_text("[" + ",\n".join(f"\n{item}" for item in items) + "]")
    rows = read(path, Document)
    assert len(rows) == 199
    assert [bad.line for bad in rows.bad] == [5]
    assert "not JSON" in rows.bad[0].reason


def test_a_json_list_cut_off_keeps_what_came_before(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"text": f"text {number}"} for number in range(200)])[:-8])
    rows = read(path, Document)
    assert (len(rows), [bad.line for bad in rows.bad]) == (199, [200])


def test_rows_of_a_table_with_too_many_or_too_few_cells(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text,n\n" + b"a,1\n" * 250 + b"b\nc,1,2\n" + b"\xff,1\nd,1\n")
    rows = read(path, Document, max_bad_rows=0.02)
    assert len(rows) == 251
    assert [(bad.line, bad.reason) for bad in rows.bad] == [
        (252, "1 cells, but the header names 2 columns"),
        (253, "3 cells, but the header names 2 columns"),
        (254, "invalid unicode (half a surrogate pair, or bytes that are no UTF-8)"),
    ]


def test_a_piece_of_plain_text_that_is_no_utf8(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_bytes(b"one\n\n" * 150 + b"tw\xffo\n\nthree")
    rows = read(path, Document)
    assert (len(rows), rows.bad[0].line, rows.bad[0].reason) == (151, 301, "invalid UTF-8 at byte 3 of it")


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.json.gz", "rows.csv.gz", "rows.txt.gz"])
def test_a_compressed_file_cut_off_keeps_what_came_before(tmp_path, name):
    texts = [os.urandom(200).hex() for _ in range(2000)]
    whole = {
        "rows.jsonl.gz": "".join(json.dumps({"text": text}) + "\n" for text in texts),
        "rows.json.gz": json.dumps([{"text": text} for text in texts]),
        "rows.csv.gz": "text\n" + "\n".join(texts),
        "rows.txt.gz": "\n\n".join(texts),
    }[name]
    path = tmp_path / name
    path.write_bytes(gzip.compress(whole.encode())[:-50_000])
    rows = read(path, Document)
    assert 1000 < len(rows) < 2000
    assert rows[500].text == texts[500]
    assert "the compressed file is damaged or cut off here" in rows.bad[-1].reason


@given(data=st.binary(max_size=200), name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.txt", "a.gz", "a"]))
def test_no_bytes_whatever_raise_anything_but_bad_input(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("rows") / name
    path.write_bytes(data)
    for kind in (Document, Comparison, Prompt):
        try:
            rows = read(path, kind, max_bad_rows=1.0)
        except BadInput:
            continue
        assert len(rows) >= 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["user", "human", "gpt"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "text", "replies", "Human", "MOSS", "rank"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["id", "meta", "text", "messages", "prompt", "answers", "answer", "ranks", "score", "up", "chosen",
         "rejected", "conversations", "chat", "instruction", "input", "output", "history", "instances", "label",
         "system", "meta_instruction", "completion"]
    ),
    VALUES,
    max_size=5,
)  # fmt: skip


@given(rows=st.lists(FIELDS, min_size=1, max_size=5))
def test_no_fields_whatever_raise_anything_but_bad_input(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    for kind in (Document, Prompt, Demonstration, Comparison, Thumb, Rating):
        try:
            found = read(path, kind, max_bad_rows=1.0)
        except BadInput:
            continue
        assert found.total >= len(rows)


# --------------------------------------------------------------------------------------------- files


def test_files_that_cannot_be_read_are_one_line_with_a_remedy(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_text("\n \n\n")
    (tmp_path / "wide.jsonl").write_text('{"text": "a"}', encoding="utf-16")
    (tmp_path / "rows.zip").write_bytes(b"PK\x03\x04....")
    (tmp_path / "number.json").write_text("5")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "header.csv").write_text("text\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text("{}")
    (tmp_path / "bare").mkdir()
    for name, says in {
        "none.jsonl": "does not exist: check the path",
        "empty.jsonl": "is empty: it needs at least one row",
        "blank.jsonl": "holds nothing but blanks",
        "wide.jsonl": "is UTF-16 text: save it as UTF-8",
        "rows.zip": "is a zip or zstd archive: unpack it",
        "number.json": "expected JSON objects",
        "list.json": "holds no rows",
        "header.csv": "holds no rows",
        "data": f"is a folder, a file is needed: name one, for example {tmp_path / 'data' / 'a.jsonl'}",
        "bare": "it holds no data file",
    }.items():
        with pytest.raises(BadInput) as caught:
            read(tmp_path / name, Document)
        assert str(caught.value).startswith(str(tmp_path / name)), name
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_one_may_not_read(tmp_path, monkeypatch):
    path = bad_file(tmp_path, 1, 0)

    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInput, match=r"rows\.jsonl cannot be read \(Permission denied\): check its permissions"):
        read(path, Document)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    write(path, [Document(text="old")])
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match=r"cannot be written \(No space left on device\)"):
        write(path, [Document(text="new")])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_failing_source_of_rows_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    write(path, [Document(text="old")])
    before = path.read_bytes()

    def rows():
        yield Document(text="new")
        raise RuntimeError("the sampler died")

    with pytest.raises(RuntimeError, match="the sampler died"):
        write(path, rows())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl.gz"]


def test_writing_wants_json_lines_by_name(tmp_path):
    with pytest.raises(BadInput, match=r"let its name end in \.jsonl or \.jsonl\.gz"):
        write(tmp_path / "rows.csv", [Document(text="a")])
