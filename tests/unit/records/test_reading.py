"""Files: every layout, compressed or not, with the lines that rows came from."""

import gzip
import json
import time

import pytest

from heedlm.errors import BadInput
from heedlm.records import Comparison, Demonstration, Document, Prompt, detect, read, write
from heedlm.records.types import Answer, Message

TEXTS = ["One day.", "月光很亮。", "The end, “at last”."]
LINES = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS).encode()


def layouts():
    listed = json.dumps([{"text": text} for text in TEXTS], ensure_ascii=False)
    pretty = json.dumps([{"text": text} for text in TEXTS], ensure_ascii=False, indent=2)
    table = "text,n\n" + "".join(f'"{text}",1\n' for text in TEXTS)
    files = {
        "rows.jsonl": LINES,
        "rows.ndjson": LINES,
        "rows": LINES,
        "no-newline.jsonl": LINES.rstrip(b"\n"),
        "blank-lines.jsonl": b"\n" + LINES.replace(b"\n", b"\n\n"),
        "lines.json": LINES,
        "list.json": listed.encode(),
        "list.jsonl": listed.encode(),
        "pretty.json": pretty.encode(),
        "inside.json": f'{{"data": {listed}}}'.encode(),
        "rows.csv": table.encode(),
        "rows.tsv": table.replace(",n", "\tn").replace(",1", "\t1").encode(),
        "rows.txt": "\n\n".join(TEXTS).encode(),
        "marked.txt": "<|endoftext|>".join(TEXTS).encode(),
    }
    for name, content in files.items():
        yield name, content
        yield f"bom-{name}", b"\xef\xbb\xbf" + content
        yield f"crlf-{name}", content.replace(b"\n", b"\r\n")
        yield f"bom-crlf-{name}", b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
        yield f"{name}.gz", gzip.compress(content)


@pytest.mark.parametrize(("name", "content"), [pytest.param(*pair, id=pair[0]) for pair in layouts()])
def test_every_layout_with_bom_crlf_and_gzip_just_reads(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    rows = read(path, Document)
    assert [row.text for row in rows] == TEXTS
    assert rows.bad == []
    assert path.read_bytes() == content


def test_a_single_object_is_one_row(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"text": "Once."}, indent=1))
    assert [row.text for row in read(path, Document)] == ["Once."]


def test_one_demonstration_alone_in_a_file_is_not_taken_for_a_list(tmp_path):
    path = tmp_path / "one.json"
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    path.write_text(json.dumps({"messages": messages}, indent=1))
    assert len(read(path, Demonstration)[0].messages) == 2


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"text": "a"}\n\n\n{"text": "b"}\n')
    assert read(path, Document).lines == [2, 5]
    path = tmp_path / "rows.txt"
    path.write_text("\n\na\na\n \n\nb\n\n\n\nc")
    rows = read(path, Document)
    assert ([row.text for row in rows], rows.lines) == (["a\na", "b", "c"], [3, 7, 11])
    path = tmp_path / "rows.csv"
    path.write_text('text\n"two\nlines"\nb\n')
    assert read(path, Document).lines == [3, 4]


def test_each_line_of_plain_text_is_a_prompt(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("Who lives here?\n\n  谁在这里？\r\n")
    assert [row.messages[0].content for row in read(path, Prompt)] == ["Who lives here?", "谁在这里？"]
    assert detect(path) == "plain text"


def test_column_names_of_a_table_may_be_capitalised_and_quoted(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbf"Question","Best Answer"\nWho?,Ann\n')
    assert read(path, Prompt)[0].messages[0].content == "Who?"


def test_a_limit_stops_early(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES + b"{torn\n")
    rows = read(path, Document, limit=2)
    assert ([row.text for row in rows], rows.total) == (TEXTS[:2], 2)


def test_rows_behave_as_a_sequence(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES)
    rows = read(path, Document)
    assert (len(rows), rows[0].text, rows[-1].text, [row.text for row in rows[1:]]) == (
        3,
        TEXTS[0],
        TEXTS[2],
        TEXTS[1:],
    )
    assert rows.summary() == f"{path}: 3 rows (heed)"


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(BadInput, match=r"rows\.parquet needs pyarrow: pip install pyarrow, or save it as \.jsonl"):
        read(path, Document)


def test_fifty_thousand_rows_are_read_in_under_three_seconds(tmp_path):
    """Measured in processor seconds, which other work on the machine does not lengthen."""
    path = tmp_path / "rows.jsonl"
    prompt = (Message(role="user", content="Tell me a story about a frog and a pond. " * 4),)
    rows = (
        Comparison(
            prompt=prompt,
            answers=tuple(Answer(text=f"{n} {k} " * 20, tokens=40) for k in range(4)),
            ranks=(1, 2, 3, 4),
        )
        for n in range(50_000)
    )
    assert write(path, rows) == 50_000
    before = time.process_time()
    assert len(read(path, Comparison)) == 50_000
    assert time.process_time() - before < 3.0
