"""The errors a user may meet, each with the exit code the command line returns for it."""

from __future__ import annotations


class HeedError(Exception):
    """Something went wrong that one line can explain: what, where, and what to do about it."""

    exit_code = 1


class BadInput(HeedError):
    """A file, model or setting the user gave cannot be used; nothing has been trained yet."""

    exit_code = 2


class Collapsed(HeedError):
    """Training was stopped because the policy collapsed."""

    exit_code = 3


class NotFinite(HeedError):
    """A loss, gradient, reward or weight became NaN or infinite."""

    exit_code = 4


class Interrupted(HeedError):
    """The user or the system asked the run to stop; a loadable checkpoint was left behind.

    Args:
        message: What was saved and how to go on.
        signal_number: 2 for Ctrl-C (exit code 130), 15 for SIGTERM (exit code 143).
    """

    def __init__(self, message: str, signal_number: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
