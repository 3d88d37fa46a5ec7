"""The database: pragmas on every connection, migrations, transactions, copies."""

import threading

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.schema import CreateIndex

from heedlm.errors import BadInput
from heedlm.feedback.database import Database, copy_database
from heedlm.feedback.tables import events, items, metadata

WANTED = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10000}


@pytest.fixture
def database(database_url):
    made = Database(database_url)
    yield made
    made.close()


def note(what):
    return sa.insert(events).values(at=0.0, what=what)


def noted(database):
    with database.read() as connection:
        return [row.what for row in connection.execute(sa.select(events.c.what).order_by(events.c.seq))]


def test_every_connection_is_set_up(tmp_path):
    database = Database(str(tmp_path / "feedback.db"))
    connections = [database.engine.connect() for _ in range(15)]  # more than the pool keeps
    try:
        for connection in connections:
            found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in WANTED}
            assert found == WANTED
    finally:
        for connection in connections:
            connection.close()
        database.close()


def test_migrations_make_the_tables_that_the_code_knows(database):
    # Alembic cannot compare an index with an expression in SQLite: that one is compared word by word below.
    options = {"include_object": lambda _, name, *rest: name != "ix_items_next"}
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_index_of_open_items_is_the_one_that_the_code_knows(database):
    if database.file is None:
        with database.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        return
    (index,) = [index for index in items.indexes if index.name == "ix_items_next"]
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'ix_items_next'").scalar()
    assert found == str(CreateIndex(index).compile(dialect=database.engine.dialect))


def test_opening_again_changes_nothing(database, database_url):
    with database.write() as connection:
        connection.execute(note("kept"))
    again = Database(database_url)
    assert noted(again) == ["kept"]
    again.close()


def test_a_database_from_the_future_is_left_alone(database, database_url):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BadInput, match="newer Heed"):
        Database(database_url)


def test_what_fails_is_undone(database):
    def fail():
        with database.write() as connection:
            connection.execute(note("half"))
            raise RuntimeError("something else is wrong")

    with pytest.raises(RuntimeError, match="something else"):
        fail()
    assert noted(database) == []


def test_a_reader_sees_one_state(database):
    """An export reads labels, then people, then items: what is said meanwhile belongs to the next one."""
    count = sa.select(sa.func.count()).select_from(events)
    with database.read() as connection:
        before = connection.execute(count).scalar()
        with database.write() as other:
            other.execute(note("meanwhile"))
        assert connection.execute(count).scalar() == before
    assert noted(database) == ["meanwhile"]


def test_writers_take_turns(database):
    """Each reads a count and writes the next: nobody writes a number twice."""

    def work():
        for _ in range(10):
            with database.write() as connection:
                count = connection.execute(sa.select(sa.func.count()).select_from(events)).scalar()
                connection.execute(note(str(count)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert noted(database) == [str(number) for number in range(60)]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://somewhere/db", "only sqlite and postgresql"),
        ("sqlite://", "memory"),
        ("sqlite:///:memory:", "memory"),
        ("postgresql://nobody@127.0.0.1:9/nothing", "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_told_in_a_line(url, told):
    with pytest.raises(BadInput, match=told) as caught:
        Database(url)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "feedback.db").write_text("these are not pages of a database " * 100)
    with pytest.raises(BadInput, match="is not a database"):
        Database(str(tmp_path / "feedback.db"))


def test_passwords_of_urls_are_not_told():
    with pytest.raises(BadInput) as caught:
        Database("postgresql://nobody:secret@127.0.0.1:9/nothing")
    assert "secret" not in str(caught.value)


def test_a_copy_is_whole_and_overwrites_nothing(tmp_path):
    database = Database(str(tmp_path / "feedback.db"))
    with database.write() as connection:
        connection.execute(note("kept"))
    copy_database(tmp_path / "feedback.db", tmp_path / "copy.db")
    database.close()
    copied = Database(str(tmp_path / "copy.db"))
    assert noted(copied) == ["kept"]
    copied.close()
    with pytest.raises(BadInput, match="nothing is overwritten"):
        copy_database(tmp_path / "feedback.db", tmp_path / "copy.db")
    with pytest.raises(BadInput, match="there is no database"):
        copy_database(tmp_path / "none.db", tmp_path / "other.db")
    assert not list(tmp_path.glob(".copy*"))
