"""Bounds the time of a TLS handshake, which ends before the server knows of the connection."""

import asyncio
from typing import Any, cast

import uvloop

HANDSHAKE_WITHIN = 10.0
"""Seconds from a connection's opening to the end of its handshake."""


class HandshakeLoop(uvloop.Loop):
    """A loop whose TLS servers wait for no client longer than that; uvloop's own servers wait a minute."""

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:
        """Serve; a client that does not finish its handshake in time is cut."""
        if kwargs.get("ssl") is not None:
            kwargs["ssl_handshake_timeout"] = HANDSHAKE_WITHIN
        return cast("asyncio.Server", await super().create_server(*args, **kwargs))
