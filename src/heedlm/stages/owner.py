"""Owner: make the first owner of a feedback database, or give somebody a new password and no second factor."""

from __future__ import annotations

import getpass
import os
import sys
from typing import Any, ClassVar

from pydantic import Field

from heedlm.config import Config as Settings
from heedlm.errors import BadInput
from heedlm.feedback.accounts import Accounts
from heedlm.feedback.database import Database


class Config(Settings):
    """Settings: whom, and in which database. The password is asked for, or read from HEED_PASSWORD."""

    positional: ClassVar[str | None] = "user"

    user: str = Field(description="name to log in with")
    database: str = Field("feedback.db", description="file of the feedback database, or postgresql://user@host/name")
    reset: bool = Field(
        False, description="instead give a person that exists a new password, and remove their second factor"
    )


def run(config: Config) -> dict[str, Any]:
    """Make the account, or set the password.

    Raises:
        BadInput: The name is taken or unknown, or the password is weak.
    """
    database = Database(config.database)
    try:
        accounts = Accounts(database)
        found = accounts.find(config.user)
        if config.reset:
            if found is None:
                raise BadInput(f"user={config.user!r}: there is no such person")
            accounts.set_password(found.id, _password())
            removed = accounts.second.remove(found.id, None)
            text = f"{found.name} has a new password" + (" and no second factor any more" if removed else "")
            return {"user": found.name, "role": found.role, "text": text}
        if found is not None:
            raise BadInput(f"user={config.user!r}: is taken; reset=true gives them a new password")
        made = accounts.create(config.user, _password(), "owner")
        return {"user": made.name, "role": made.role, "text": f"{made.name} is an owner and can log in"}
    finally:
        database.close()


def _password() -> str:
    """From the environment, or typed twice."""
    given = os.environ.get("HEED_PASSWORD")
    if given:
        return given
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask for the password: set HEED_PASSWORD")
    first = getpass.getpass("password: ")
    if first != getpass.getpass("again: "):
        raise BadInput("the two passwords differ")
    return first
