"""Stage `village`: every file is an output with its role, and the same settings give the same bytes."""

from heedlm import runs
from heedlm.config import load
from heedlm.records import Demonstration, Document, Prompt, read
from heedlm.stages import village

SIZES = {
    "corpus": 40,
    "corpus_dev": 5,
    "demonstrations": 30,
    "demonstrations_dev": 6,
    "prompts": 20,
    "prompts_dev": 7,
    "prompts_test": 8,
}
KINDS = {"corpus": Document, "demonstrations": Demonstration, "prompts": Prompt}


def make(folder, *more):
    words = [f"out={folder}", *(f"{role}={size}" for role, size in SIZES.items()), *more]
    return village.run(load(village.Config, words, stage="village"))


def test_outputs_by_role(tmp_path):
    run = make(tmp_path)
    assert run.info.status == "complete"
    assert {output.role: output.rows for output in run.info.outputs} == SIZES
    for role, size in SIZES.items():
        path = runs.find_data(run.path, role)
        assert path.name == f"{role}.jsonl"
        assert len(read(path, KINDS[role.split("_")[0]]).rows) == size
    assert read(runs.find_data(run.path, "prompts_test"), Prompt).rows[0].meta.split == "test"


def test_same_settings_same_bytes(tmp_path):
    one, two = make(tmp_path / "a"), make(tmp_path / "b")
    prints = [{output.role: output.fingerprint for output in run.info.outputs} for run in (one, two)]
    assert prints[0] == prints[1]
    other = make(tmp_path / "a", "seed=1")
    assert prints[0] != {output.role: output.fingerprint for output in other.info.outputs}


def test_files_of_no_rows_are_left_out(tmp_path):
    run = make(tmp_path, "corpus_dev=0", "languages=['en']", "plants.toxic=0.5")
    assert "corpus_dev" not in {output.role for output in run.info.outputs}
    rows = read(runs.find_data(run.path, "corpus"), Document).rows
    assert {row.meta.lang for row in rows} == {"en"}
    assert sum((row.meta.task or {}).get("planted") == "toxic" for row in rows) > 8
