"""People hand in labels while the server is killed, and while its disk fails (reproductions/annotators, smaller)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "reproductions" / "annotators"))
import run as annotators
from crowd import Person, Server, audit, prepare

HARMLESS = {"lost": 0, "duplicated": 0, "changed": 0, "above_overlap": 0, "books_wrong": 0, "sound": True}


def only(found, names):
    return {name: found[name] for name in names}


@pytest.mark.slow
def test_no_acknowledged_label_is_lost_by_kills(tmp_path, database_url):
    found = annotators.killed(tmp_path, database_url, people=6, kills=3)
    assert found["acknowledged"] > 10
    assert only(found, HARMLESS) == HARMLESS
    assert not found["broken_people"]


@pytest.mark.slow
def test_no_acknowledged_label_is_lost_by_a_failing_disk(tmp_path):
    found = annotators.failing(tmp_path, str(tmp_path / "feedback.db"), people=4, seconds=1.0)
    if found is None:
        pytest.skip("no C compiler here: cc or gcc builds what makes the disk fail")
    assert found["failed_requests"] > 0
    assert found["acknowledged"] > 10
    assert only(found, HARMLESS) == HARMLESS


def test_the_audit_sees_a_label_that_is_missing(tmp_path):
    url = str(tmp_path / "feedback.db")
    project = prepare(url, people=1, items=2, overlap=1)
    person = Person("person 0", Server(url, tmp_path), project, halt=None)
    person.acknowledged = {"a key that no label has": ("task", 1, [1, 2, 3, 4])}
    assert audit(url, [person], 1)["lost"] == 1
