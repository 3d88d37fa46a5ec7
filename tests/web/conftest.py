"""The application on a database of its own, and people who are logged in."""

import re
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi.testclient import TestClient
from tests.feedback_parts import Clock, content, hash_quickly

from heedlm.feedback.database import Database
from heedlm.web.app import create_app
from heedlm.web.services import Services, Site

PASSWORD = "correct horse battery"


@dataclass
class Home:
    """An application and its people."""

    app: object
    clock: Clock
    people: dict = field(default_factory=dict)

    @property
    def state(self):
        return self.app.state

    def person(self, name, role="annotator", **more):
        """A person with an account."""
        self.people[name] = self.state.accounts.create(name, PASSWORD, role, **more)
        return self.people[name]

    def visitor(self) -> TestClient:
        """A browser in which nobody is logged in."""
        return TestClient(self.app, follow_redirects=False)

    def client(self, name) -> TestClient:
        """A browser in which this person is logged in; it sends the token that forms carry."""
        client = self.visitor()
        answer = client.post("/login", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        session = self.state.accounts.session(next(iter(client.cookies.jar)).value)
        client.headers["x-csrf-token"] = session.csrf
        return client

    content = staticmethod(content)

    def project(self, owner, kind="rank", *, count=3, answers=3, people=(), **more):
        """A project with items and members."""
        project = self.state.projects.create(owner, "Frogs", kind, **more)
        self.state.projects.add_items(owner, project.id, [self.content(place, answers) for place in range(count)])
        for person in people:
            self.state.projects.join(owner, project.id, person.id)
        return project


@pytest.fixture
def home(tmp_path, database_url, monkeypatch):
    hash_quickly(monkeypatch)
    clock = Clock()
    database = Database(database_url, clock)
    app = create_app(database, Services(runs=tmp_path / "runs"), Site())
    made = Home(app, clock)
    made.person("olga", "owner")
    yield made
    database.close()


def said(page: str) -> str:
    """What a page says, without its token: among so many random letters are any two, now and then."""
    (token,) = set(re.findall(r'name="csrf" (?:content|value)="([^"]+)"', page))
    return page.replace(token, "")


@pytest.fixture
def ok():
    """Fails with what the server said."""

    def check(answer: httpx.Response, status: int = 200) -> httpx.Response:
        assert answer.status_code == status, answer.text
        return answer

    return check
