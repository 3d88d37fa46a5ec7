"""Write the last section of docs/security.md, who may call what, from the application itself; a test compares them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from heedlm.feedback.database import Database
from heedlm.web.app import create_app

PAGE = Path(__file__).parent / "security.md"
HEADING = "## Who may call what\n"
OPENING = """
Generated from the routes by `python docs/make_security.py`. A route without roles is closed to everybody. Whose object
a key in the path names is looked up each time: managers reach their own projects, annotators the projects they are
members of and their own tasks, everybody their own conversations, tokens and sessions; owners reach every project and
nobody else's conversations. `public` is open to visitors.
"""


def table(paths: dict[str, Any]) -> str:
    """One row for each route."""
    rows = ["| route | roles |", "|---|---|"]
    for path, methods in sorted(paths.items()):
        rows += [f"| `{method.upper()} {path}` | {', '.join(said['x-roles'])} |" for method, said in methods.items()]
    return "\n".join(rows)


def main() -> None:
    """Replace the section."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(str(Path(folder) / "feedback.db"))
        section = f"{HEADING}{OPENING}\n{table(create_app(database).openapi()['paths'])}\n"
        database.close()
    before = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    PAGE.write_text(before + section, encoding="utf-8")


if __name__ == "__main__":
    main()
