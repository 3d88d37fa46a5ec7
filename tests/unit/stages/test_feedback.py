"""Import, backup and restore: files in, databases out and in again, nothing overwritten, nothing lost."""

import gzip
import json
import subprocess
import threading

import pytest
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from tests import postgresql as postgresql_server

from heedlm.errors import BadInput
from heedlm.feedback.accounts import Accounts
from heedlm.feedback.assignment import Assigner
from heedlm.feedback.database import Database, forms
from heedlm.feedback.export import collect, find_project
from heedlm.feedback.projects import Projects
from heedlm.feedback.tables import events, metadata
from heedlm.feedback.tasks import Content
from heedlm.records import Answer, Answers, Comparison, Demonstration, Message, Rating, Steps, Thumb, write
from heedlm.stages import backup, importing, restore

ASKED = (Message(role="user", content="What do frogs eat?"),)
FLIES, STONES = Answer(text="Flies.", model="a"), Answer(text="Stones.", model="b")


@pytest.fixture
def place(tmp_path):
    database = Database(str(tmp_path / "feedback.db"))
    Accounts(database).create("olga", "correct horse battery", "owner")
    database.close()
    return tmp_path


def take(place, rows, **more):
    write(place / "rows.jsonl", rows)
    config = importing.Config(file=str(place / "rows.jsonl"), database=str(place / "feedback.db"), **more)
    return importing.run(config)


def exported(place, project):
    database = Database(str(place / "feedback.db"))
    try:
        return collect(database, project, names=True).rows
    finally:
        database.close()


def judged(annotator, ranks):
    return Comparison(prompt=ASKED, answers=(FLIES, STONES), ranks=ranks, annotator=annotator, criterion="helpful")


def test_comparisons_come_back_as_they_went_in(place):
    rows = [judged("ann", (1, 2)), judged("ben", (1, 1))]
    found = take(place, rows, project="Frogs", criterion="helpful")
    assert {name: found[name] for name in ("items", "labels", "people")} == {"items": 1, "labels": 2, "people": 2}
    back = exported(place, "Frogs")
    assert [(row.ranks, row.annotator, row.criterion) for row in back] == [
        ((1, 2), "ann (imported)", "helpful"),
        ((1, 1), "ben (imported)", "helpful"),
    ]
    assert [answer.model for answer in back[0].answers] == ["a", "b"]
    again = take(place, rows, project="Frogs")
    assert (again["items"], again["labels"], again["known_labels"]) == (0, 0, 2)


@pytest.mark.parametrize(
    "row",
    [
        Rating(prompt=ASKED, answer=FLIES, score=6, flags=("opinion",), annotator="ann"),
        Thumb(prompt=ASKED, answer=FLIES, up=False, reason="short", annotator="ann"),
        Steps(prompt=ASKED, steps=("They hunt.\n", "Stones."), labels=(1, -1), annotator="ann"),
        Demonstration(messages=(*ASKED, Message(role="assistant", content="Flies.")), meta={"domain": "open_qa"}),
    ],
)
def test_every_kind_goes_round(place, row):
    take(place, [row], project="Frogs")
    (back,) = exported(place, "Frogs")
    assert type(back) is type(row)
    same = {"answer", "score", "flags", "up", "reason", "steps", "labels", "messages"} & set(type(row).model_fields)
    assert {name: getattr(back, name) for name in same} == {name: getattr(row, name) for name in same}


def test_answers_become_tasks_and_imported_people_cannot_log_in(place):
    rows = [Answers(prompt=ASKED, answers=(FLIES, STONES, Answer(text="Leaves.", model="c")))]
    found = take(place, rows, project="Frogs", overlap=2)
    assert (found["items"], found["labels"]) == (1, 0)
    take(place, [judged("ann", (1, 2))], project="Frogs")
    database = Database(str(place / "feedback.db"))
    people = Accounts(database)
    olga = people.find("olga")
    task = Assigner(database).next(olga, Projects(database).mine(olga)[0].id)
    assert task is not None
    for password in ("", "ann", "correct horse battery"):
        with pytest.raises(Exception, match="wrong"):
            people.login("ann (imported)", password, "here")
    database.close()


def test_an_export_of_label_studio_is_read(place):
    task = {
        "data": {"prompt": "What do frogs eat?", "answer1": "Flies.", "answer2": "Stones."},
        "annotations": [
            {
                "completed_by": 7,
                "result": [{"type": "pairwise", "from_name": "pw", "value": {"selected": "left"}}],
            }
        ],
    }
    (place / "tool.json").write_text(json.dumps([task]), encoding="utf-8")
    importing.run(
        importing.Config(file=str(place / "tool.json"), project="Tool", kind="pair", database=f"{place}/feedback.db")
    )
    (row,) = exported(place, "Tool")
    assert (row.ranks, row.annotator, row.strength) == ((1, 2), "7 (imported)", "better")


def test_what_fits_nothing_is_said(place):
    with pytest.raises(BadInput, match="Comparison rows, which a write question has no use for"):
        take(place, [judged("ann", (1, 2))], project="Frogs", kind="write")
    empty = place / "empty"
    empty.mkdir()
    with pytest.raises(BadInput, match="heed owner"):
        take(empty, [judged("ann", (1, 2))], project="Frogs")


def test_a_backup_taken_while_people_write_is_restored_whole(place):
    database = Database(str(place / "feedback.db"))
    olga = Accounts(database).find("olga")
    projects = Projects(database)
    project = projects.create(olga, "Frogs", "thumb")
    contents = [Content(prompt=ASKED, answers=(Answer(text=f"answer {n}"),)) for n in range(60)]
    projects.add_items(olga, project.id, contents)
    assigner, acknowledged, go_on = Assigner(database), [], threading.Event()

    def write_labels():
        for number in range(60):
            task = assigner.next(olga, project.id)
            acknowledged.append(assigner.submit(olga, task.id, {"up": True}, key=f"key-{number:05}", base=0, seconds=1))
            if number == 10:
                go_on.set()

    writer = threading.Thread(target=write_labels)
    writer.start()
    go_on.wait(20)
    sure = len(acknowledged)
    for name in ("copy.db", "rows.jsonl.gz"):
        backup.run(backup.Config(database=str(place / "feedback.db"), to=place / name))
    writer.join()
    for number, name in enumerate(("copy.db", "rows.jsonl.gz")):
        target = place / f"restored-{number}.db"
        rows = restore.run(restore.Config(backup=place / name, to=str(target)))["rows"]
        assert sure <= rows["labels"] <= 60
        assert rows["items"] == 60
        found = Database(str(target))
        seqs = [row.seq for row in found.engine.connect().exec_driver_sql("SELECT seq FROM labels ORDER BY seq")]
        assert seqs == list(range(1, rows["labels"] + 1))
        assert collect(found, "Frogs").rows == collect(database, "Frogs", rows["labels"]).rows
        session = Accounts(found).login("olga", "correct horse battery", "here")
        assert session[1].user.name == "olga"
        found.close()
    database.close()


def test_nothing_is_overwritten_and_damage_is_found(place):
    source = str(place / "feedback.db")
    backup.run(backup.Config(database=source, to=place / "copy.db"))
    for to in ("copy.db", "feedback.db"):
        with pytest.raises(BadInput, match="exists already"):
            backup.run(backup.Config(database=source, to=place / to))
        with pytest.raises(BadInput, match="exists already"):
            restore.run(restore.Config(backup=place / "copy.db", to=str(place / to)))
    backup.run(backup.Config(database=source, to=place / "rows.jsonl.gz"))
    lines = gzip.decompress((place / "rows.jsonl.gz").read_bytes()).splitlines(keepends=True)
    cases = {
        "torn.jsonl.gz": (place / "rows.jsonl.gz").read_bytes()[:-30],
        "short.jsonl": b"".join(lines[:-1]),
        "other.jsonl": b'{"text": "no backup"}\n',
        "newer.jsonl": json.dumps(json.loads(lines[0]) | {"revision": "9999"}).encode() + b"\n" + b"".join(lines[1:]),
        "text.db": b"no database",
    }
    for name, content in cases.items():
        (place / name).write_bytes(content)
        with pytest.raises(BadInput, match=name.split(".")[0]):
            restore.run(restore.Config(backup=place / name, to=str(place / "new.db")))
        assert not list(place.glob("*new.db*"))
    with pytest.raises(BadInput, match="there is no database"):
        backup.run(backup.Config(database=str(place / "none.db"), to=place / "x.db"))
    assert not (place / "none.db").exists()


# ---------------------------------------------------------------- PostgreSQL


def judged_project(url, count=5):
    """A database with a person, a project, and labels on all but one of its items."""
    database = Database(url)
    olga = Accounts(database).create("olga", "correct horse battery", "owner")
    project = Projects(database).create(olga, "Frösche 青蛙", "thumb")
    contents = [Content(prompt=ASKED, answers=(Answer(text=f"answer {n} – 好"),)) for n in range(count)]
    Projects(database).add_items(olga, project.id, contents)
    for number in range(count - 1):
        judge(database, number)
    database.close()


def judge(database, number):
    olga = Accounts(database).find("olga")
    task = Assigner(database).next(olga, find_project(database, "Frösche 青蛙").id)
    return Assigner(database).submit(olga, task.id, {"up": True}, key=f"key-{number:05}", base=0, seconds=1)


def everything(url):
    """Every row of every table, and what comes of one more label: last, on the copy or the original alike."""
    database = Database(url)
    try:
        with database.read() as connection:
            rows = {
                table.name: sorted(json.dumps(dict(row), sort_keys=True) for row in found)
                for table in metadata.sorted_tables
                for found in [connection.execute(sa.select(table)).mappings()]
            }
        judge(database, 99)
        with database.read() as connection:
            newest = connection.execute(sa.text("SELECT MAX(seq) FROM labels")).scalar()
        assert Accounts(database).login("olga", "correct horse battery", "here")[1].user.name == "olga"
        return rows, newest
    finally:
        database.close()


@pytest.mark.parametrize("way", ["sqlite to postgresql", "postgresql to postgresql", "postgresql to sqlite"])
def test_rows_are_restored_into_either_kind_of_database(tmp_path, postgresql, way):
    urls = {"sqlite": lambda: str(tmp_path / "it.db"), "postgresql": lambda: postgresql_server.new_database(postgresql)}
    source, target = (urls[kind]() for kind in way.split(" to "))
    judged_project(source)
    saved = tmp_path / "monday.jsonl.gz"
    assert backup.run(backup.Config(database=source, to=saved))["rows"]["labels"] == 4
    assert restore.run(restore.Config(backup=saved, to=target))["rows"]["labels"] == 4
    (rows, newest), copied = everything(source), everything(target)
    assert copied == (rows, newest)
    assert newest == 5  # it counts on
    with pytest.raises(BadInput, match="already"):
        restore.run(restore.Config(backup=saved, to=target))


@pytest.mark.parametrize("ending", ["db", "jsonl.gz"])
def test_a_backup_of_an_older_heed_is_restored_and_brought_up_to_date(tmp_path, database_url, ending):
    """What is backed up today must be restored by the Heed of next year: of every form that tables have had."""
    for form in forms():
        source, saved = str(tmp_path / f"{form}.db"), tmp_path / f"{form}.{ending}"
        Database(source, form=form).close()
        as_of_old = sa.create_engine(f"sqlite:///{source}")
        with as_of_old.begin() as connection:
            tables = sa.MetaData()
            tables.reflect(connection)
            connection.execute(sa.insert(tables.tables["events"]), {"at": 1.5, "what": "kept", "detail": {"青": [1]}})
            if ending != "db":
                counts = dict.fromkeys(set(tables.tables) - {"alembic_version"}, 0) | {"events": 1}
                lines = [{"heed_backup": 1, "revision": form, "at": 2.0, "rows": counts}]
                rows = connection.execute(sa.select(tables.tables["events"])).mappings()
                lines += [{"table": "events", "row": dict(row)} for row in rows]
                saved.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
        as_of_old.dispose()
        to = str(tmp_path / f"restored-{form}.db")
        if ending != "db" and "://" in database_url:
            to = postgresql_server.new_database(database_url)
        restore.run(restore.Config(backup=saved, to=to))
        database = Database(to)
        with database.read() as connection:
            row = connection.execute(sa.select(events)).one()
            assert (row.at, row.what, row.detail) == (1.5, "kept", {"青": [1]})
            assert MigrationContext.configure(connection).get_current_revision() == forms()[-1]
        database.close()


def test_of_postgresql_no_file_is_made(tmp_path, postgresql):
    url = postgresql_server.new_database(postgresql)
    Database(url).close()
    with pytest.raises(BadInput, match=r"let the name end in \.jsonl\.gz \(or use pg_dump\)"):
        backup.run(backup.Config(database=url, to=tmp_path / "monday.db"))


def test_what_pg_dump_saves_pg_restore_brings_back(tmp_path, postgresql):
    """With the words of docs/serve.md."""
    source, target = (postgresql_server.new_database(postgresql) for _ in range(2))
    judged_project(source)
    folder, saved = postgresql_server.programs(), tmp_path / "monday.dump"
    dump = [folder / "pg_dump", "--format=custom", f"--file={saved}", f"--dbname={source}"]
    load = [folder / "pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", f"--dbname={target}", saved]
    for words in (dump, load):
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
    assert everything(target) == everything(source)
