"""Every route × every role × somebody else's object: refused, without exception.

Routes, their roles, parameters and bodies are read from the application's OpenAPI document, so that a new route is
tried without a word here; one whose parameters are not known fails.
"""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from heedlm.feedback.database import Database
from heedlm.feedback.tables import conversations, jobs, messages
from heedlm.web.app import create_app

METHODS = ("get", "post", "put", "patch", "delete")
STRANGERS = {"owner": "olga", "manager": "max", "annotator": "ben", "chat": "dan"}
# What no stranger may touch, not even an owner.
PRIVATE = {"task", "conversation", "message"}
# What managers share: runs lie in one folder for all. A run that is not there is tried.
SHARED = {"run"}
KNOWN = {"project", "item", "task", "conversation", "message", "user", "job", "token", *SHARED}


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    roles: tuple[str, ...]
    body: Any
    query: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        return set(re.findall(r"{(\w+)(?::path)?}", self.path))

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    database = Database(str(tmp_path_factory.mktemp("matrix") / "feedback.db"))
    yield create_app(database).openapi()
    database.close()


def routes_of(document: dict[str, Any]) -> list[Route]:
    found = []
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            if method in METHODS:
                body = said.get("requestBody", {}).get("content")
                needed = [p["name"] for p in said.get("parameters", ()) if p["in"] == "query" and p.get("required")]
                found.append(Route(method, path, tuple(said.get("x-roles", ())), body, tuple(needed)))
    return found


def example(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """A small value that a schema allows."""
    if "$ref" in schema:
        return example(document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], document)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return example(schema[choice][0], document)
    if "const" in schema or "enum" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: example(properties[name], document) for name in schema.get("required", ()) if name in properties}
    if kind == "array":
        return [example(schema["items"], document)] * schema.get("minItems", 0)
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("exclusiveMinimum", 0) + (1 if "exclusiveMinimum" in schema else 0))
    if kind == "boolean":
        return True
    return "x" * max(1, schema.get("minLength", 1))


def call(client, route: Route, values: dict[str, str], document: dict[str, Any]):
    """Ask for a route with these values in its path, and a body it would take."""
    path = re.sub(r"{(\w+)(?::path)?}", lambda found: values[found.group(1)], route.path)
    given: dict[str, Any] = {"params": dict.fromkeys(route.query, "x")}
    for kind, content in (route.body or {}).items():
        body = example(content["schema"], document)
        if kind == "application/json":
            given["json"] = body
        elif kind == "application/x-www-form-urlencoded":
            given["data"] = body
        else:
            files = {name: ("a.jsonl", b"{}") for name in ("file", "upload") if name in body} or {"file": ("a", b"{}")}
            given["files"] = files
            given["data"] = {name: value for name, value in body.items() if name not in files}
    return client.request(route.method, path, **given)


@dataclass
class World:
    home: Any
    theirs: dict[str, str]  # keys of other people's objects
    own_project: str  # of the manager who is a stranger to all of them


@pytest.fixture
def world(home):
    """Objects of Mia's, Ann's and Cleo's, and strangers of each role: Olga, Max, Ben, Dan."""
    mia, ann = home.person("mia", "manager"), home.person("ann")
    cleo = home.person("cleo", "chat")
    maximilian, ben = home.person("max", "manager"), home.person("ben")
    home.person("dan", "chat")
    project = home.project(mia, people=[ann])
    own = home.project(maximilian, people=[ben])
    task = home.state.assigner.next(ann, project.id)
    now = home.clock.time
    with home.state.database.write() as connection:
        row = {"id": "c" * 24, "user": cleo.id, "title": "t", "model": "m", "created": now, "changed": now}
        connection.execute(conversations.insert().values(row))
        row = {"id": "d" * 24, "conversation": "c" * 24, "role": "user", "content": "hello", "state": "whole"}
        connection.execute(messages.insert().values({**row, "created": now}))
        row = {"id": "e" * 24, "project": project.id, "by": mia.id, "command": ["reward"], "state": "done"}
        connection.execute(jobs.insert().values({**row, "created": now}))
    theirs = {
        "project": project.id,
        "item": task.item,
        "task": task.id,
        "conversation": "c" * 24,
        "message": "d" * 24,
        "job": "e" * 24,
        "user": ann.id,
        "token": "no-such-token",
        "run": "no/such-run",
    }
    return World(home, theirs, own.id)


def test_every_route_says_who_may_call_it(document):
    for route in routes_of(document):
        assert route.roles, f"{route} is open to nobody"
        assert route.names <= KNOWN, f"{route}: the matrix does not know {route.names - KNOWN}"


def test_nobody_gets_in_without_logging_in(document, world):
    visitor = world.home.visitor()
    for route in routes_of(document):
        status = call(visitor, route, world.theirs, document).status_code
        if "public" not in route.roles:
            assert status == 401, f"{route}: {status}"
        elif "token" in route.names:
            assert status in (404, 422), f"{route}: {status}"


@pytest.mark.parametrize(("role", "name"), list(STRANGERS.items()))
def test_strangers_are_refused(document, world, role, name):
    client = world.home.client(name)
    tried = 0
    for route in routes_of(document):
        if "public" in route.roles:
            continue
        if role not in route.roles:
            wanted: tuple[int, ...] = (403,)
        elif not route.names or (role == "owner" and not route.names & (PRIVATE | SHARED)):
            continue  # nothing of anybody else's in it; owners see every project
        else:
            wanted = (403, 404)
        answer = call(client, route, world.theirs, document)
        assert answer.status_code in wanted, f"{role}: {route}: {answer.status_code} {answer.text[:200]}"
        tried += 1
    assert tried >= 15


def test_another_projects_parts_are_not_reached_through_ones_own(document, world):
    """A manager's own project in the path, and an item or a job of somebody else's behind it."""
    client = world.home.client("max")
    nested = [route for route in routes_of(document) if {"project", "item"} <= route.names]
    assert nested
    for route in nested:
        answer = call(client, route, {**world.theirs, "project": world.own_project}, document)
        assert answer.status_code in (403, 404), f"{route}: {answer.status_code} {answer.text[:200]}"


def test_the_matrix_sees_a_route_that_forgets_whose_object_it_is(home, world, ok):
    """The check is worth something: a route that looks nothing up answers a stranger."""
    from fastapi.responses import JSONResponse

    from heedlm.web.access import roles

    @home.app.get("/api/leaky/{project}", openapi_extra=roles("annotator"))
    def leaky(project: str) -> JSONResponse:
        return JSONResponse({"project": project})

    ok(home.client("ben").get(f"/api/leaky/{world.theirs['project']}"), 200)

    @home.app.get("/api/forgotten/{project}")
    def forgotten(project: str) -> JSONResponse:
        return JSONResponse({"project": project})

    for name in ("olga", "max", "ben", "dan"):
        ok(home.client(name).get(f"/api/forgotten/{world.theirs['project']}"), 403)
