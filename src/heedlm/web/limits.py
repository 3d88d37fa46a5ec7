"""A bound on the size of requests, for those that say their size and for those that do not."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _TooBig(Exception):
    pass


class SmallBodies:
    """Answers 413 to a request whose body has more than `biggest` bytes."""

    def __init__(self, app: ASGIApp, biggest: int) -> None:
        self.app, self.biggest = app, biggest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what arrives."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not said.isdigit() or int(said) > self.biggest:
            await _refuse(send)
            return
        seen, begun = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.biggest:
                raise _TooBig
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except _TooBig:
            if not begun:
                await _refuse(send)


async def _refuse(send: Send) -> None:
    body = b'{"error":{"message":"the request is too large","status":413}}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
