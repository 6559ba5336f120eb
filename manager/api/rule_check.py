"""Check of Sigma and YARA rules in a process of its own, which ends with the check."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import structlog

log = structlog.get_logger(__name__)

_LONGEST = 20.0
_UNCHECKED = "the rules could not be checked within the limits of time and memory: send fewer or simpler ones"
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH")
"""Environment variables of the process; the manager's others may hold secrets."""


class RuleCheck:
    """Checks Sigma and YARA rules, one document at a time."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)

    async def errors(self, written: Mapping[str, Any]) -> list[str]:
        """Return the errors of the rules in a policy document, each with its path and place."""
        detection = written.get("detection")
        given = {name: _texts(detection, name) for name in ("sigma", "yara")}
        if not any(given.values()):
            return []
        async with self._one:
            return await _checked(given)


async def _checked(given: Mapping[str, list[str]]) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "manager.rule_check_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(json.dumps(given).encode()), _LONGEST)
    except TimeoutError:
        output = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        log.warning("rules_not_checked", exit_code=process.returncode)
        return [f"detection: {_UNCHECKED}"]
    return [str(error) for error in json.loads(output)]


def _texts(detection: Any, name: str) -> list[str]:
    """Return the rules of one kind; what is no text has an error of its own."""
    given = detection.get(name) if isinstance(detection, Mapping) else None
    return [text if isinstance(text, str) else "" for text in given] if isinstance(given, list) else []
