"""The embedded broker in a process of its own: `python -m manager.broker.process`, fed by its parent over stdin.

The first line on stdin is the configuration, one JSON object: `host`, `port` (0 is any free port), `access` (what
`credentials.build` takes), optionally `limits` (fields of `BrokerLimits`), `portWaitSeconds`, and `certificate` and
`key`, the paths of PEM files. The answer is one line on stdout: `{"ready": true, "port": N}`, or `{"error": "…"}` and
exit code 1. So no secret stands in an argument or in the environment.

Every further line is a command: `{"disconnect": "<username>"}` cuts the user's connections and drops its sessions.
The end of stdin means that the parent is gone, however it died: the broker ends with it.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from manager.broker.access import AccessControl, Authenticator
from manager.broker.credentials import build
from manager.broker.errors import BrokerStartError, EmbeddedBrokerError
from manager.broker.hardened import HardenedBroker
from manager.broker.limits import BrokerLimits
from manager.broker.listening import listen, make_room_for
from schemas.topics import may_retain

_LINE_LIMIT = 16 * 1024 * 1024
_PORT_WAIT_SECONDS = 10.0

log = structlog.get_logger(__name__)


Build = Callable[[Mapping[str, Any]], tuple[Authenticator, AccessControl]]
"""Makes what the broker asks from the opaque part of its configuration."""


def main(build: Build = build) -> int:
    """Run the broker until stdin ends; return the exit code."""
    _configure_logging()
    try:
        asyncio.run(_run(build))
    except EmbeddedBrokerError as error:
        _say({"error": str(error)})
        return 1
    return 0


def _configure_logging() -> None:
    """Log warnings and worse to stderr, ours only: amqtt reports every connection, and errors that are handled here."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,  # plain: a richer traceback prints local variables, passwords too
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)


def _say(line: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


async def _run(build: Build) -> None:
    commands = await _stdin()
    broker = await _start(await commands.readline(), build, abandoned=commands.at_eof)
    _say({"ready": True, "port": broker.port})
    while line := await commands.readline():
        _obey(broker, line)
    # Nothing of the broker outlives its process, and the kernel closes thousands of connections faster than we do.
    sys.stderr.flush()
    os._exit(0)


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except ValueError as error:
        raise BrokerStartError("the broker reads its configuration from a pipe: let the manager start it") from error
    return reader


async def _start(line: bytes, build: Build, abandoned: Callable[[], bool]) -> HardenedBroker:
    try:
        config = json.loads(line)
        host, port = str(config["host"]), int(config["port"])
        limits = BrokerLimits(**config.get("limits", {}))
        patience = float(config.get("portWaitSeconds", _PORT_WAIT_SECONDS))
        authenticator, access = build(config["access"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # Neither the line nor the error's own text is repeated: they may hold secrets.
        raise BrokerStartError(
            f"the broker's configuration cannot be read ({type(error).__name__}): let the manager write it",
        ) from error
    tls = _tls(config)
    broker = HardenedBroker(
        await listen(host, port, patience=patience, abandoned=abandoned),
        authenticator=authenticator,
        access=access,
        may_retain=may_retain,
        limits=_within_descriptors(limits),
        tls=tls,
    )
    await broker.start()
    return broker


def _within_descriptors(limits: BrokerLimits) -> BrokerLimits:
    """Lower the number of connections to what the system lets this process open."""
    connections = make_room_for(limits.connections)
    if connections < limits.connections:
        log.warning("connections_limited", connections=connections, hint="raise the limit of open files (ulimit -n)")
    return dataclasses.replace(limits, connections=connections)


def _tls(config: Mapping[str, Any]) -> ssl.SSLContext | None:
    if not config.get("certificate"):
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config["certificate"], config.get("key"))
    except OSError as error:
        raise BrokerStartError(
            f"the certificate {config['certificate']} or its key cannot be used: {error}; name a PEM file of each",
        ) from error
    return context


def _obey(broker: HardenedBroker, line: bytes) -> None:
    try:
        username = json.loads(line)["disconnect"]
    except (ValueError, TypeError, KeyError):
        log.warning("command_ignored", reason="it is no JSON object with the member disconnect")
        return
    sessions = broker.disconnect(str(username))
    log.info("user_disconnected", username=username, sessions=sessions)


if __name__ == "__main__":
    raise SystemExit(main())
