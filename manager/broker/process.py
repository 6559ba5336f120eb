"""Child side of the embedded broker: `python -m manager.broker.process`, controlled by its parent over stdin.

The first line on stdin is the configuration, one JSON object: `host`, `port` (0 is any free port), `access` (for
`accounts.build_access`), optionally `limits` (fields of `BrokerLimits`), `portWaitSeconds`, and `certificate` and
`key`, the paths of PEM files. The answer is one line on stdout: `{"ready": true, "port": N}`, or `{"error": "…"}` and
exit code 1. So no secret is in an argument or in the environment.

Every further line is a command: `{"disconnect": "<username>"}` closes the user's connections and deletes its
sessions, `{"reload": "certificate"}` reads the two PEM files again for new connections.
The end of stdin means that the parent has ended: the broker ends, too; `parent` in the configuration, its process id,
has the kernel end a stopped process as well. A line `{"alive": true}` on stdout at intervals (`aliveSeconds`) is the
sign of life: it is written by the event loop that serves the clients.
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
from functools import partial
from typing import Any

import structlog

from manager.broker.access import AccessControl, Authenticator
from manager.broker.accounts import build_access
from manager.broker.connection.listener import listen, raise_open_files
from manager.broker.errors import BrokerStartError, EmbeddedBrokerError
from manager.broker.hardened_broker import HardenedBroker
from manager.broker.limits import BrokerLimits
from manager.broker.process_watchdog import INTERVAL_SECONDS, die_with_parent, write_signs_of_life
from schemas.topics import may_retain

_LINE_LIMIT = 16 * 1024 * 1024
_PORT_WAIT_SECONDS = 10.0

log = structlog.get_logger(__name__)


BuildAccess = Callable[[Mapping[str, Any]], tuple[Authenticator, AccessControl]]
"""Returns authentication and access control from the `access` member of the configuration."""


def main(build: BuildAccess = build_access) -> int:
    """Run the broker until stdin ends; return the exit code."""
    _configure_logging()
    try:
        asyncio.run(_run(build))
    except EmbeddedBrokerError as error:
        _print_line({"error": str(error)})
        return 1
    return 0


def _configure_logging() -> None:
    """Log warnings and errors to stderr; amqtt's logger is off, because it logs every connection and handled errors."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,  # plain: a rich traceback prints local variables, passwords included
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)


def _print_line(line: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


async def _run(build: BuildAccess) -> None:
    commands = await _stdin()
    line = await commands.readline()
    config = _configuration(line)
    die_with_parent(_parent(config))
    tls = _tls(config)
    broker = await _start(config, build, tls, is_abandoned=commands.at_eof)
    _print_line({"ready": True, "port": broker.port})
    alive = asyncio.create_task(write_signs_of_life(sys.stdout.fileno(), _interval(config)), name="signs of life")
    while line := await commands.readline():
        _run_command(broker, line, partial(_reload, tls, config))
    alive.cancel()
    # The broker has no persistent state, and the kernel closes thousands of connections faster.
    sys.stderr.flush()
    os._exit(0)


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except ValueError as error:
        raise BrokerStartError("the broker reads its configuration from a pipe: let the manager start it") from error
    return reader


def _configuration(line: bytes) -> Mapping[str, Any]:
    try:
        config = json.loads(line)
        return {**config, "host": str(config["host"]), "port": int(config["port"]), "access": config["access"]}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise _unreadable(error) from error


def _parent(config: Mapping[str, Any]) -> int | None:
    parent = config.get("parent")
    return parent if isinstance(parent, int) else None


def _interval(config: Mapping[str, Any]) -> float:
    seconds = config.get("aliveSeconds")
    return float(seconds) if isinstance(seconds, int | float) else INTERVAL_SECONDS


def _unreadable(error: Exception) -> BrokerStartError:
    """Return the error for an invalid configuration, without a quote, because the configuration may contain secrets."""
    return BrokerStartError(
        f"the broker's configuration cannot be read ({type(error).__name__}): let the manager write it"
    )


def _parts(config: Mapping[str, Any], build: BuildAccess) -> tuple[BrokerLimits, float, Authenticator, AccessControl]:
    try:
        limits = BrokerLimits(**config.get("limits", {}))
        return limits, float(config.get("portWaitSeconds", _PORT_WAIT_SECONDS)), *build(config["access"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise _unreadable(error) from error


async def _start(
    config: Mapping[str, Any], build: BuildAccess, tls: ssl.SSLContext | None, is_abandoned: Callable[[], bool]
) -> HardenedBroker:
    limits, wait_seconds, authenticator, access = _parts(config, build)
    broker = HardenedBroker(
        await listen(config["host"], config["port"], wait_seconds=wait_seconds, is_abandoned=is_abandoned),
        authenticator=authenticator,
        access=access,
        may_retain=may_retain,
        limits=_within_descriptors(limits),
        tls=tls,
    )
    await broker.start()
    return broker


def _within_descriptors(limits: BrokerLimits) -> BrokerLimits:
    """Lower the limits of connections to the number of files that this process may open."""
    sockets = raise_open_files(limits.sockets)
    if sockets >= limits.sockets:
        return limits
    share = sockets / limits.sockets
    connections = max(1, int(limits.connections * share))
    log.warning("connections_limited", connections=connections, hint="raise the limit of open files (ulimit -n)")
    return dataclasses.replace(
        limits,
        connections=connections,
        pending_connections=max(1, int(limits.pending_connections * share)),
        registration_connections=max(1, int(limits.registration_connections * share)),
    )


def _tls(config: Mapping[str, Any]) -> ssl.SSLContext | None:
    if not config.get("certificate"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config["certificate"], config.get("key"), password=lambda: "")
    except OSError as error:
        raise BrokerStartError(
            f"the certificate {config['certificate']} or its key cannot be used: {error}; name a PEM file for each",
        ) from error
    return context


def _reload(tls: ssl.SSLContext | None, config: Mapping[str, Any]) -> None:
    """Reload the certificate files; a pair that does not match fails first on a separate context."""
    if tls is None:
        return
    try:
        _tls(config)
        tls.load_cert_chain(config["certificate"], config.get("key"), password=lambda: "")
    except (OSError, BrokerStartError) as error:
        log.warning("certificate_not_loaded", reason=str(error))


def _run_command(broker: HardenedBroker, line: bytes, reload: Callable[[], None]) -> None:
    try:
        command = json.loads(line)
        if command.get("reload") == "certificate":
            reload()
            return
        username = command["disconnect"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        log.warning("command_ignored", reason="it is no JSON object with the member disconnect or reload")
        return
    sessions = broker.disconnect(str(username))
    log.info("user_disconnected", username=username, sessions=sessions)


if __name__ == "__main__":
    raise SystemExit(main())
