"""A feedback database in a file, with a clock that stands still until it is moved."""

from dataclasses import dataclass

import pytest
from tests.feedback_parts import Clock, content, hash_quickly

from heedlm.feedback.accounts import Accounts
from heedlm.feedback.assignment import Assigner
from heedlm.feedback.database import Database
from heedlm.feedback.projects import Projects


@dataclass
class Team:
    database: Database
    accounts: Accounts
    projects: Projects
    assigner: Assigner
    clock: Clock

    content = staticmethod(content)

    def person(self, name, role="annotator", **more):
        return self.accounts.create(name, "correct horse battery", role, **more)

    def project(self, owner, kind="rank", *, count=3, answers=3, people=(), **more):
        project = self.projects.create(owner, "Frogs", kind, **more)
        self.projects.add_items(owner, project.id, [self.content(place, answers) for place in range(count)])
        for person in people:
            self.projects.join(owner, project.id, person.id)
        return project


@pytest.fixture
def team(database_url, monkeypatch):
    hash_quickly(monkeypatch)
    clock = Clock()
    database = Database(database_url, clock)
    yield Team(database, Accounts(database), Projects(database), Assigner(database), clock)
    database.close()
