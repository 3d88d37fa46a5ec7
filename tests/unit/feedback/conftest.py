"""A feedback database in a file, with a clock that stands still until it is moved."""

from dataclasses import dataclass

import pytest
from argon2 import PasswordHasher

from heedlm.feedback import accounts
from heedlm.feedback.accounts import Accounts
from heedlm.feedback.assignment import Assigner
from heedlm.feedback.database import Database
from heedlm.feedback.projects import Projects
from heedlm.feedback.tasks import Content
from heedlm.records.types import Answer, Message


class Clock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Team:
    database: Database
    accounts: Accounts
    projects: Projects
    assigner: Assigner
    clock: Clock

    @staticmethod
    def content(place=0, answers=3, **more):
        """An item with answers that say which they are."""
        texts = [f"answer {number} to {place}" for number in range(answers)]
        return Content(
            prompt=(Message(role="user", content=f"question {place}"),),
            answers=tuple(Answer(text=text, model=f"model-{number}") for number, text in enumerate(texts)),
            **more,
        )

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
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    clock = Clock()
    database = Database(database_url, clock)
    yield Team(database, Accounts(database), Projects(database), Assigner(database), clock)
    database.close()
