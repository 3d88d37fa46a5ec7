"""Serve: the web application for chat, annotation, management and runs, on this machine.

`models.py` and `endpoint.py` hold what people chat with, `server.py` the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from heedlm.config import Config as Settings
from heedlm.errors import BadInput
from heedlm.feedback.accounts import Role
from heedlm.stages.serve.models import Manner


class Config(Settings):
    """Settings of the application; nobody outside this machine reaches it unless `host` says so."""

    positional: ClassVar[str | None] = "database"

    database: str = Field("feedback.db", description="file of the feedback database, or postgresql://user@host/name")
    runs: Path = Field(Path("runs"), description="folder of the runs it shows and starts")
    chat: tuple[str, ...] = Field(
        (),
        description="what people can chat with: runs, Hugging Face folders or names, endpoints"
        " https://HOST/v1#MODEL (with @VARIABLE, the environment variable of its API key, if it needs one), echo",
    )
    models: Manner = Field(Manner(), description="how the models of `chat` are loaded, and how they answer")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 lets the network in")
    port: int = Field(8321, ge=0, lt=65536, description="port to listen on; 0: any free one")
    names: tuple[str, ...] = Field((), description="names under which people reach it, beside localhost and `host`")
    https: bool = Field(False, description="it is reached through HTTPS, by a proxy before it: cookies go nowhere else")
    proxies: tuple[str, ...] = Field(
        (), description="addresses of proxies whose word is taken for who is calling (X-Forwarded-For); none: nobody's"
    )
    second_factor: tuple[Role, ...] = Field(
        (), description="roles whose people must log in with a second factor, such as owner,manager; others may"
    )
    title: str = Field("Heed", max_length=60, description="name shown in the corner of every page")

    @field_validator("second_factor", mode="before")
    @classmethod
    def _roles(cls, value: Any) -> Any:
        return tuple(value.replace(" ", "").split(",")) if isinstance(value, str) else value

    @field_validator("chat", "names", "proxies", mode="before")
    @classmethod
    def _one_of_them(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


def run(config: Config) -> dict[str, Any]:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        BadInput: The database or a model cannot be opened, the port is taken, or packages are missing.
    """
    try:
        from heedlm.stages.serve.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("heedlm"):
            raise
        raise BadInput(f"heed serve needs the package {error.name}: pip install 'heedlm[serve]'") from None
    return serve(config)
