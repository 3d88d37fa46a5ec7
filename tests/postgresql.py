"""A PostgreSQL server of the tests' own: on a free port of loopback, in a temporary folder, gone afterwards."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MISSING = "no PostgreSQL here: install Debian's package postgresql (make test does, as root)"


def programs() -> Path | None:
    """The folder with initdb and pg_ctl: the newest of Debian's, or that on PATH."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name)):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def server() -> Iterator[str]:
    """A running server; yields the URL of its first database, in which others can be made."""
    folder = programs()
    assert folder is not None
    home = Path(tempfile.mkdtemp(prefix="heed-postgresql-"))
    owner = _owner()
    if owner is not None:
        os.chown(home, owner, -1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(*words: str) -> None:
        done = subprocess.run(words, user=owner, capture_output=True, text=True, cwd=home, timeout=60)
        assert done.returncode == 0, done.stderr + done.stdout

    data = str(home / "data")
    call(str(folder / "initdb"), "-D", data, "-U", "heed", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
    # What survives a lost power supply is not PostgreSQL's to show here; without fsync the tests are faster.
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
    call(str(folder / "pg_ctl"), "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql://heed@127.0.0.1:{port}/postgres"
    finally:
        call(str(folder / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


def new_database(url: str) -> str:
    """The URL of an empty database on that server."""
    import psycopg

    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url.rsplit("/", 1)[0] + "/" + name


def _owner() -> int | None:
    """PostgreSQL refuses to run as root: somebody else then."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return 65534
