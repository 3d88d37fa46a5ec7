"""What the feedback store refuses, in words that the person who asked may read."""

from __future__ import annotations

from heedlm.errors import BadInput, HeedError


class Refused(HeedError):
    """Not allowed, or not there: the two look alike to whom it is not for."""


class Conflict(HeedError):
    """Somebody, perhaps the same person in another tab, was faster; nothing was changed."""


class Throttled(HeedError):
    """Too many tries.

    Args:
        seconds: How long to wait.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many tries: wait {max(1, round(seconds))} seconds")
        self.seconds = max(1.0, seconds)


class CodeNeeded(HeedError):
    """The password is right, and the code of the second factor is due.

    Args:
        ticket: What is shown together with the code, within five minutes.
    """

    def __init__(self, ticket: str) -> None:
        super().__init__("the code of the second factor is needed")
        self.ticket = ticket


__all__ = ["BadInput", "CodeNeeded", "Conflict", "Refused", "Throttled"]
