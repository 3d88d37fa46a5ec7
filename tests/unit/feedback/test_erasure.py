"""Erasure: nothing of the person is left in database or files, others keep what is theirs, models are named."""

import itertools
import json

import pytest

from heedlm.config import StageConfig
from heedlm.errors import BadInput
from heedlm.feedback import erasure
from heedlm.feedback.conversations import Conversations
from heedlm.feedback.erasure import erase, finish, history
from heedlm.feedback.errors import Refused
from heedlm.feedback.export import Config, collect, export_run, naming
from heedlm.feedback.verdicts import Verdicts
from heedlm.records import Comparison, read
from heedlm.runs import Input, Run, fingerprint

_keys = (f"key-{number:06}" for number in itertools.count())
SECRET = "xylophone marmalade"


def label_all(team, person, project):
    while (task := team.assigner.next(person, project.id)) is not None:
        team.assigner.submit(person, task.id, {"ranks": [1, 2, 3]}, key=next(_keys), base=0, seconds=1)


def made_from(stage, source, out, role="comparisons", rows=None):
    """A run that read `source`; with rows it is a data set, else it makes a model."""
    run = Run.create(stage, StageConfig(out=out, name=stage), [Input(role, source)], argv=["heed"])
    with run:
        if rows is None:
            (run.path / "model").mkdir()
            (run.path / "model" / "config.json").write_text("{}")
            run.add_output("model", run.path / "model")
        else:
            (run.path / "comparisons.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            run.add_output("comparisons", run.path / "comparisons.jsonl", rows=len(rows))
    return run


@pytest.fixture
def used(team, tmp_path):
    """Ann and ben have labelled, one export went into a data set, and that into a model."""
    olga, ann, ben = team.person("olga", "owner"), team.person("ann"), team.person("ben")
    project = team.project(olga, overlap=2, people=(ann, ben))
    runs = tmp_path / "runs"
    label_all(team, ben, project)
    early = export_run(team.database, Config(project="Frogs", out=runs))
    label_all(team, ann, project)
    late = export_run(team.database, Config(project="Frogs", out=runs))
    called = naming(team.database)
    rows = [{"annotator": called(person.id), "text": person.name} for person in (ann, ben)]
    data = made_from("denoise", late.path, runs, rows=rows)
    (data.path / "quarantine-comparisons.jsonl").write_text('{"line": 1, "reason": "r", "excerpt": "somebody"}\n')
    model = made_from("reward", data.path, runs)
    other = made_from("prefer", early.path, runs)
    return team, project, runs, (olga, ann, ben), (early, late, data, model, other)


def test_a_person_is_gone_from_database_and_files(used):
    team, _, runs, (_, ann, ben), (early, late, data, *_) = used
    team.accounts.change(ann.id, {"demographics": {"age": SECRET}, "avoids": [SECRET]})
    chats = Conversations(team.database)
    held = chats.start(ann, "frog-1", f"Who plays the {SECRET}?", consent=True)
    old = {run.path: fingerprint(run.path) for run in (early, late, data)}
    done = erase(team.database, ann, ann.id, runs)
    assert done.removed["labels"] == 3
    assert done.removed["assignments"] == 3
    assert done.removed["conversations"] == 1
    assert [row.annotator for row in collect(team.database, "Frogs").rows] == [naming(team.database)(ben.id)] * 3
    with team.database.read() as connection:
        assert connection.exec_driver_sql(f"SELECT COUNT(*) FROM messages WHERE conversation='{held.id}'").scalar() == 0
    assert team.accounts.find("ann") is None
    assert len(read(late.path / "comparisons.jsonl", Comparison)) == 3
    name = naming(team.database)(ann.id)
    for file in runs.rglob("*.jsonl"):
        assert name not in file.read_text(), file
    assert fingerprint(early.path) == old[early.path]
    assert fingerprint(late.path) != old[late.path]
    assert fingerprint(data.path) != old[data.path]
    if team.database.file is None:
        return  # what is left in PostgreSQL's pages until its next vacuum is its server's to keep
    team.database.close()
    raw = b"".join(path.read_bytes() for path in team.database.file.parent.glob("feedback.db*"))
    assert SECRET.encode() not in raw


def test_the_models_that_saw_it_are_named(used):
    team, _, runs, (olga, ann, _), (_, late, data, model, other) = used
    done = erase(team.database, olga, ann.id, runs)
    assert done.rebuilt == [f"export/{late.name}"]
    assert done.models == [f"reward/{model.name}"]
    assert done.scrubbed == [f"denoise/{data.name}/{name}.jsonl" for name in ("comparisons", "quarantine-comparisons")]
    assert f"prefer/{other.name}" not in done.models
    (row,) = history(team.database)
    assert row["user"] == ann.id
    assert row["found"]["models"] == done.models
    assert "ann" not in row["found"].get("names", ())
    assert Run.open(late.path).info.results["labels"]["people"] == 1
    assert Run.open(late.path).info.results["erasures"] == [done.id]
    assert Run.open(data.path).info.outputs[0].rows == 1


def test_others_can_take_the_places(used):
    team, project, runs, (olga, ann, _), _ = used
    cleo = team.person("cleo")
    team.projects.join(olga, project.id, cleo.id)
    assert team.assigner.next(cleo, project.id) is None
    erase(team.database, ann, ann.id, runs)
    label_all(team, cleo, project)
    assert len(collect(team.database, "Frogs").rows) == 6
    assert team.projects.progress(project)["complete"] == 3


def test_what_was_cut_short_is_finished_later(used, monkeypatch):
    team, _, runs, (_, ann, _), (_, late, *_) = used
    real = erasure._files

    def broken(*given):
        raise OSError("no space left")

    monkeypatch.setattr(erasure, "_files", broken)
    with pytest.raises(OSError, match="no space"):
        erase(team.database, ann, ann.id, runs)
    assert team.accounts.find("ann") is None
    assert len(read(late.path / "comparisons.jsonl", Comparison)) == 6
    monkeypatch.setattr(erasure, "_files", real)
    (done,) = finish(team.database, runs).values()
    assert len(read(late.path / "comparisons.jsonl", Comparison)) == 3
    assert len(done.models) == 1
    assert finish(team.database, runs) == {}
    assert "names" not in history(team.database)[0]["found"]


def test_exports_by_name_and_copies_are_found(used, tmp_path):
    team, _, runs, (_, ann, _), _ = used
    config = Config(project="Frogs", out=runs, names=True, name="named")
    named = export_run(team.database, config)
    copy = tmp_path / "copy.jsonl"
    copy.write_text("{}")
    named.note(copies=[{"path": str(copy), "rows": 6, "left_out": {}, "form": "heed"}])
    trained = made_from("ppo", copy, runs)
    done = erase(team.database, ann, ann.id, runs)
    assert f"export/{named.name}" in done.rebuilt
    assert done.copies == [str(copy)]
    assert f"ppo/{trained.name}" in done.models
    assert {row.annotator for row in read(named.path / "comparisons.jsonl", Comparison)} == {"ben"}


def test_verdicts_from_chats_go_too(team, tmp_path):
    cara = team.person("cara", "chat")
    team.person("olga", "owner")
    chats, verdicts = Conversations(team.database), Verdicts(team.database)
    held = chats.start(cara, "frog-1", "What do frogs eat?", consent=True)
    (question,) = chats.messages(cara, held.id)
    begun = chats.answer(cara, held.id, question.id, "frog-1")
    chats.finish(begun.answer.id, "Flies.", "whole")
    verdicts.give(cara, held.id, begun.answer.id, "up", next(_keys))
    made = export_run(team.database, Config(project="chat", out=tmp_path / "runs"))
    assert made.info.outputs[0].rows == 1
    done = erase(team.database, cara, cara.id, tmp_path / "runs")
    assert done.rebuilt == [f"export/{made.name}"]
    assert Run.open(made.path).info.outputs[0].rows == 0
    assert "frogs" not in (made.path / "thumbs.jsonl").read_text()


def test_only_owners_erase_others_and_one_owner_stays(used):
    team, _, runs, (olga, ann, ben), _ = used
    with pytest.raises(Refused):
        erase(team.database, ben, ann.id, runs)
    with pytest.raises(Refused):
        erase(team.database, olga, "nobody", runs)
    with pytest.raises(BadInput, match="last owner"):
        erase(team.database, olga, olga.id, runs)
    second = team.person("otto", "owner")
    erase(team.database, second, olga.id, runs)
    assert team.accounts.find("olga") is None
    assert team.projects.mine(second)[0].name == "Frogs"
