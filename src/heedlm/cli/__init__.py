"""The command line: `heed COMMAND [PRESET | FILE.toml] [key=value | --key value]…`."""

from heedlm.cli.main import main

__all__ = ["main"]
