"""The pages, a file for each part of the application."""

from __future__ import annotations

from fastapi import APIRouter

from heedlm.web.pages import (
    account,
    agreement,
    annotate,
    api_v1,
    chat,
    erasure,
    items,
    loop,
    manage,
    people,
    runs,
    second_factor,
    team,
)


def routers() -> list[APIRouter]:
    """Every part of the application."""
    return [
        account.router,
        second_factor.router,
        people.router,
        annotate.router,
        chat.router,
        api_v1.router,
        manage.router,
        team.router,
        items.router,
        agreement.router,
        loop.router,
        erasure.router,
        runs.router,
    ]
