"""Projects: one kind of question about one set of items, with its people, guidelines and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from sqlalchemy.engine import Connection

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.feedback.accounts import User
from heedlm.feedback.database import Database, new_key
from heedlm.feedback.errors import Refused
from heedlm.feedback.kinds import QuestionKind
from heedlm.feedback.tables import events, guidelines, items, labels, members, projects, scores, users
from heedlm.feedback.tasks import Content
from heedlm.records.types import Criterion

_KIND: TypeAdapter[QuestionKind] = TypeAdapter(QuestionKind)
_CRITERION: TypeAdapter[Criterion] = TypeAdapter(Criterion)


class Settings(Config):
    """How a project is run."""

    lease_minutes: PositiveFloat = Field(30.0, description="how long a task waits for the person who took it")
    gold_every: PositiveInt | None = Field(None, description="one task in so many is a gold item; none: no gold")
    qualify: float | None = Field(
        None, ge=0, le=1, description="share of qualification items one must get right first; none: no test"
    )
    adjudicate_below: float | None = Field(
        None, ge=0, le=1, description="agreement on an item below which somebody must decide; none: never"
    )
    critiques_first: bool = Field(False, description="show the model's critiques at once, not only when asked for")
    cost: NonNegativeFloat = Field(0.0, description="what a reply costs, in your currency")
    warn: str = Field("", description="shown before the first task: what the content may hold")


@dataclass(frozen=True)
class Project:
    """A project as it is run now."""

    id: str
    name: str
    kind: QuestionKind
    criterion: Criterion
    overlap: int
    settings: Settings
    by: str
    created: float
    closed: float | None


@dataclass(frozen=True)
class Guideline:
    """What people are told to go by."""

    version: int
    text: str


class Projects:
    """The projects of a feedback database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # ------------------------------------------------------------ making

    def create(
        self,
        by: User,
        name: str,
        kind: Any,
        *,
        criterion: str = "overall",
        overlap: int = 1,
        settings: Mapping[str, Any] | None = None,
        guideline: str = "",
    ) -> Project:
        """A new project, managed by who made it.

        Raises:
            Refused: Annotators and chat users make none.
            BadInput: A setting cannot be used.
        """
        if by.role not in ("owner", "manager"):
            raise Refused("only managers make projects")
        name = name.strip()
        if not 1 <= len(name) <= 120:
            raise BadInput("name: must have 1 to 120 characters")
        if not 1 <= overlap <= 100:
            raise BadInput("overlap: must lie between 1 and 100")
        kind, found = _parsed(_KIND, kind, "kind"), _parsed(TypeAdapter(Settings), settings or {}, "settings")
        judged: Criterion = _parsed(_CRITERION, criterion, "criterion")
        key, now = new_key(), self.database.now()
        row = {
            "id": key,
            "name": name,
            "kind": kind.model_dump(mode="json"),
            "criterion": judged,
            "overlap": overlap,
            "settings": found.model_dump(mode="json"),
            "by": by.id,
            "created": now,
        }
        with self.database.write() as connection:
            connection.execute(sa.insert(projects).values(row))
            member = {"project": key, "user": by.id, "role": "manager", "joined": now}
            connection.execute(sa.insert(members).values(member))
            rule = {"project": key, "version": 1, "text": guideline, "by": by.id, "created": now}
            connection.execute(sa.insert(guidelines).values(rule))
            _note(connection, now, by.id, "project created", key)
        return Project(key, name, kind, judged, overlap, found, by.id, now, None)

    def change(self, by: User, project: str, values: Mapping[str, Any]) -> Project:
        """Change name, overlap, settings or `closed` (true or false). Kind and criterion stay: labels depend on them.

        Raises:
            Refused: Only the project's managers may.
            BadInput: A setting cannot be used.
        """
        known = self.managed(by, project)
        new: dict[str, Any] = {}
        if "name" in values:
            new["name"] = str(values["name"]).strip()
            if not 1 <= len(new["name"]) <= 120:
                raise BadInput("name: must have 1 to 120 characters")
        if "overlap" in values:
            new["overlap"] = values["overlap"]
            if (
                isinstance(new["overlap"], bool)
                or not isinstance(new["overlap"], int)
                or not 1 <= new["overlap"] <= 100
            ):
                raise BadInput("overlap: must be a whole number from 1 to 100")
        if "settings" in values:
            merged = {**known.settings.model_dump(), **values["settings"]}
            new["settings"] = _parsed(TypeAdapter(Settings), merged, "settings").model_dump(mode="json")
        if "closed" in values:
            new["closed"] = self.database.now() if values["closed"] else None
        if new:
            with self.database.write() as connection:
                connection.execute(sa.update(projects).where(projects.c.id == project).values(new))
                _note(connection, self.database.now(), by.id, "project changed", project, sorted(new))
        return self.managed(by, project)

    def guide(self, by: User, project: str, text: str) -> Guideline:
        """A new version of the guidelines; labels keep the version they were given under."""
        self.managed(by, project)
        if len(text) > 200_000:
            raise BadInput("guidelines: are longer than 200,000 characters")
        with self.database.write() as connection:
            newest = sa.select(sa.func.max(guidelines.c.version)).where(guidelines.c.project == project)
            version = (connection.execute(newest).scalar() or 0) + 1
            row = {"project": project, "version": version, "text": text, "by": by.id, "created": self.database.now()}
            connection.execute(sa.insert(guidelines).values(row))
        return Guideline(version, text)

    def add_items(
        self,
        by: User,
        project: str,
        contents: Iterable[Content],
        *,
        purpose: str = "ordinary",
        expected: Sequence[Mapping[str, Any]] | None = None,
        topics: Sequence[str] = (),
    ) -> tuple[int, int]:
        """Add items; returns how many are new, and how many were there already.

        Args:
            by: Who adds them.
            project: The project.
            contents: The items.
            purpose: ordinary; gold or qualification, which need what is expected.
            expected: The right reply to each, by the answers' own indices.
            topics: What to warn of in all of them; an item's own are in its `notes["topics"]`.

        Raises:
            Refused: Only the project's managers may.
            BadInput: An item does not fit the project's kind of question.
        """
        known = self.managed(by, project)
        if purpose not in ("ordinary", "gold", "qualification"):
            raise BadInput(f"purpose={purpose!r}: must be ordinary, gold or qualification")
        listed = list(contents)
        if purpose != "ordinary" and (expected is None or len(expected) != len(listed)):
            raise BadInput(f"{purpose} items need the right reply to each")
        replies: Sequence[Mapping[str, Any] | None] = [None] * len(listed) if expected is None else list(expected)
        rows = []
        for place, (content, reply) in enumerate(zip(listed, replies, strict=True)):
            _fits(known.kind, content, place)
            right = None if reply is None else known.kind.check(content, reply, range(len(content.answers)))
            rows.append(
                {
                    "id": new_key(),
                    "project": project,
                    "content": content.model_dump(mode="json"),
                    "digest": content.digest,
                    "purpose": purpose,
                    "expected": right,
                    "topics": sorted({*topics, *content.notes.get("topics", ())}),
                }
            )
        return self._insert_items(project, rows)

    def _insert_items(self, project: str, rows: Sequence[dict[str, Any]]) -> tuple[int, int]:
        with self.database.write() as connection:
            there = sa.select(items.c.digest).where(items.c.project == project)
            seen = {row.digest for row in connection.execute(there)}
            last = connection.execute(sa.select(sa.func.max(items.c.place)).where(items.c.project == project)).scalar()
            place, fresh = -1 if last is None else last, []
            for row in rows:
                if row["digest"] not in seen:
                    seen.add(row["digest"])
                    place += 1
                    fresh.append({**row, "place": place})
            if fresh:
                connection.execute(sa.insert(items), fresh)
        return len(fresh), len(rows) - len(fresh)

    # ------------------------------------------------------------ people

    def join(self, by: User, project: str, user: str, role: str = "annotator") -> None:
        """Make a person a member, or give a member another role."""
        self.managed(by, project)
        if role not in ("manager", "annotator"):
            raise BadInput(f"role={role!r}: must be manager or annotator")
        with self.database.write() as connection:
            person = connection.execute(sa.select(users).where(users.c.id == user)).first()
            if person is None:
                raise Refused("there is no such person")
            if person.role == "chat" or (role == "manager" and person.role == "annotator"):
                raise BadInput(f"{person.name} is a {person.role}: an owner has to give them another role first")
            here = sa.and_(members.c.project == project, members.c.user == user)
            if not connection.execute(sa.update(members).where(here).values(role=role)).rowcount:
                row = {"project": project, "user": user, "role": role, "joined": self.database.now()}
                connection.execute(sa.insert(members).values(row))
            _note(connection, self.database.now(), by.id, "member joined", project, user)

    def leave(self, by: User, project: str, user: str) -> None:
        """Take a person out of the project; their labels stay."""
        self.managed(by, project)
        with self.database.write() as connection:
            connection.execute(sa.delete(members).where(members.c.project == project, members.c.user == user))
            _note(connection, self.database.now(), by.id, "member left", project, user)

    def people(self, project: str) -> list[dict[str, Any]]:
        """The members: name, role, group, qualified or not."""
        query = (
            sa.select(users.c.id, users.c.name, users.c.group, members.c.role, members.c.qualified, members.c.joined)
            .join(members, members.c.user == users.c.id)
            .where(members.c.project == project)
            .order_by(users.c.name_key)
        )
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    # ------------------------------------------------------------ looking

    def mine(self, user: User) -> list[Project]:
        """The projects a person may see: all for owners, else those they are a member of."""
        query = sa.select(projects).order_by(projects.c.created.desc())
        if user.role != "owner":
            query = query.join(members, members.c.project == projects.c.id).where(members.c.user == user.id)
        with self.database.read() as connection:
            return [_project(row) for row in connection.execute(query)]

    def seen(self, user: User, project: str) -> Project:
        """A project, for a member or an owner.

        Raises:
            Refused: It is not there, or not for them.
        """
        return self._get(user, project, ("manager", "annotator"))

    def managed(self, user: User, project: str) -> Project:
        """A project, for its managers or an owner.

        Raises:
            Refused: It is not there, or not for them.
        """
        return self._get(user, project, ("manager",))

    def _get(self, user: User, project: str, roles: Sequence[str]) -> Project:
        query = sa.select(projects).where(projects.c.id == project)
        if user.role != "owner":
            if user.role == "annotator":
                roles = [role for role in roles if role == "annotator"]
            query = query.join(members, members.c.project == projects.c.id).where(
                members.c.user == user.id, members.c.role.in_(roles)
            )
        with self.database.read() as connection:
            row = connection.execute(query).first()
        if row is None or user.role == "chat":
            raise Refused("there is no such project")
        return _project(row)

    def guideline(self, project: str) -> Guideline:
        """The newest guidelines."""
        query = sa.select(guidelines).where(guidelines.c.project == project).order_by(guidelines.c.version.desc())
        with self.database.read() as connection:
            row = connection.execute(query.limit(1)).first()
        return Guideline(row.version, row.text) if row is not None else Guideline(0, "")

    def progress(self, project: Project) -> dict[str, Any]:
        """How far a project is: items, replies wanted and given, the last day's pace, what it cost and will cost."""
        here = sa.and_(items.c.project == project.id, items.c.purpose == "ordinary")
        replies = sa.select(labels.c.item, labels.c.user).where(
            labels.c.project == project.id, labels.c.assignment.is_not(None)
        )
        recent = replies.where(labels.c.created > self.database.now() - 86400)
        with self.database.read() as connection:
            count, done, full = connection.execute(
                sa.select(
                    sa.func.count(),
                    sa.func.coalesce(sa.func.sum(items.c.done), 0),
                    sa.func.coalesce(sa.func.sum(sa.case((items.c.done >= project.overlap, 1), else_=0)), 0),
                ).where(here)
            ).one()
            given = connection.execute(sa.select(sa.func.count()).select_from(replies.distinct().subquery())).scalar()
            day = connection.execute(sa.select(sa.func.count()).select_from(recent.distinct().subquery())).scalar()
        wanted = count * project.overlap
        return {
            "items": count,
            "complete": int(full),
            "wanted": wanted,
            "given": int(done),
            "day": day or 0,
            "days_left": (wanted - int(done)) / day if day else None,
            "spent": (given or 0) * project.settings.cost,
            "to_come": max(0, wanted - int(done)) * project.settings.cost,
        }

    # ------------------------------------------------------------ order of asking

    def store_scores(self, project: str, source: str, values: Mapping[str, Sequence[float]]) -> None:
        """Keep scores that a stage gave to the answers of items (by item key), to choose and to compare with."""
        with self.database.write() as connection:
            known = {row.id for row in connection.execute(sa.select(items.c.id).where(items.c.project == project))}
            if strangers := [key for key in values if key not in known]:
                raise BadInput(f"scores: item {strangers[0]!r} is not in this project")
            connection.execute(sa.delete(scores).where(scores.c.source == source, scores.c.item.in_(list(values))))
            rows = [
                {"item": key, "source": source, "values": list(found), "created": self.database.now()}
                for key, found in values.items()
            ]
            if rows:
                connection.execute(sa.insert(scores), rows)

    def set_priorities(self, project: str, priorities: Mapping[str, float]) -> None:
        """What is asked first: the highest priority, then the order of adding."""
        with self.database.write() as connection:
            update = sa.update(items).where(items.c.project == project, items.c.id == sa.bindparam("key"))
            rows = [{"key": key, "value": float(value)} for key, value in priorities.items()]
            if rows:
                connection.execute(update.values(priority=sa.bindparam("value")), rows)


def _parsed(adapter: TypeAdapter[Any], value: Any, field: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in (field, *first["loc"]))
        raise BadInput(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None


def _fits(kind: QuestionKind, content: Content, place: int) -> None:
    count = len(content.answers)
    if not kind.fewest <= count <= kind.most:
        wanted = str(kind.fewest) if kind.fewest == kind.most else f"{kind.fewest} to {kind.most}"
        raise BadInput(f"item {place + 1}: has {count} answers, a {kind.name} question needs {wanted}")
    if kind.name == "steps" and not content.steps:
        raise BadInput(f"item {place + 1}: has no steps")


def _project(row: Any) -> Project:
    kind = _KIND.validate_python(row.kind)
    settings = Settings.model_validate(row.settings)
    return Project(row.id, row.name, kind, row.criterion, row.overlap, settings, row.by, row.created, row.closed)


def _note(connection: Connection, at: float, user: str, what: str, about: str, detail: Any = None) -> None:
    connection.execute(sa.insert(events).values(at=at, user=user, what=what, about=about, detail=detail))
