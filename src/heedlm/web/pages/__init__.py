"""The pages, a file for each part of the application."""

from __future__ import annotations

from fastapi import APIRouter

from heedlm.web.pages import account


def routers() -> list[APIRouter]:
    """Every part of the application."""
    return [account.router]
