"""From labels and verdicts to rows: which of them count, and what each says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.feedback.adjudication import decisions
from heedlm.feedback.database import Database
from heedlm.feedback.kinds import Said
from heedlm.feedback.measures import newest_labels
from heedlm.feedback.projects import Project
from heedlm.feedback.tables import items
from heedlm.feedback.tasks import Content
from heedlm.feedback.verdicts import Verdicts
from heedlm.records import Prompt, Row, fault

Naming = Callable[[str], str]  # from the key of a person to what they are called in rows


@dataclass(frozen=True)
class Source:
    """Rows made of one label or verdict: the label's number, whose it is, and the item."""

    seq: int | None
    user: str
    item: str
    rows: Sequence[Row]


def project_rows(
    connection: Connection, project: Project, upto: int, called: Naming, tests: bool, left_out: Counter[str]
) -> Iterator[Source]:
    """What the labels of a project say, in the order of its items: each person's newest, or a manager's decision.

    Args:
        connection: To the database.
        project: The project.
        upto: Newest label that may go in (its `seq`).
        called: What annotators are called.
        tests: Take gold and qualification items too.
        left_out: Counts, by reason, the labels that do not go in.
    """
    said: dict[str, list[Any]] = defaultdict(list)
    for row in newest_labels(connection, project.id, upto):
        said[row.item].append(row)
    for item, row in decisions(connection, project.id, upto).items():
        left_out["decided by a manager"] += len(said[item])
        said[item] = [row]
    query = sa.select(items.c.id, items.c.content, items.c.purpose).where(items.c.project == project.id)
    for each in connection.execute(query.order_by(items.c.place)):
        if each.purpose != "ordinary" and not tests:
            left_out[f"{each.purpose} items"] += len(said[each.id])
            continue
        for row in said[each.id]:
            how = Said(
                annotator=called(row.user),
                group=row.group,
                guideline=str(row.guideline),
                criterion=project.criterion,
                order=tuple(row.order) or None,
                source=f"heed/{project.name}",
            )
            made = project.kind.records(Content.model_validate(each.content), row.reply, how)
            left_out["could not be judged"] += not made
            yield Source(row.seq, row.user, each.id, made)


def questions(connection: Connection, project: Project) -> list[Prompt]:
    """The prompts of a project's items, each once, without those of gold and qualification items."""
    query = sa.select(items.c.content).where(items.c.project == project.id, items.c.purpose == "ordinary")
    found: dict[str, Prompt] = {}
    for row in connection.execute(query.order_by(items.c.place)):
        content = Content.model_validate(row.content)
        prompt = Prompt(messages=content.prompt, meta=content.meta)
        if fault(prompt) is None:
            found.setdefault(prompt.id, prompt)
    return list(found.values())


def chat_rows(database: Database, upto: int, called: Naming) -> Iterator[Source]:
    """What people said of answers in chats they agree to share now."""
    for row in Verdicts(database).records(upto=upto):
        fields: dict[str, Any] = row.model_dump(exclude={"id"})
        person = str(fields["annotator"])
        yield Source(None, person, row.id, [type(row).model_validate(fields | {"annotator": called(person)})])
