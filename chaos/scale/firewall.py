"""A network namespace of the campaign's own, in which the kernel drops the packets of some ports.

Nothing else is in it, so nothing but the campaign's processes meets its rules. What it drops is not acknowledged: the
kernel sends it again, ever less often, and its own limits on unanswered data end connections.
"""

import os
import shutil
import subprocess
import sys
from typing import NoReturn

_MARK = "PANGUARD_CHAOS_NAMESPACE"
_TABLE = "inet chaos"
_RULES = f"""
table {_TABLE} {{
    set to_server {{ type inet_service; }}
    set to_client {{ type inet_service; }}
    chain output {{
        type filter hook output priority 0; policy accept;
        tcp dport @to_server drop
        tcp sport @to_client drop
    }}
}}
"""


def enter_namespace() -> None:
    """Replace this process by one in a namespace of its own; do nothing without root, `unshare`, `ip` and `nft`."""
    if is_inside() or os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip", "nft"))):
        return
    words = ["unshare", "--net", sys.executable, *sys.orig_argv[1:]]
    _replace(words)


def _replace(words: list[str]) -> NoReturn:
    os.execvpe(words[0], words, {**os.environ, _MARK: "1"})  # noqa: S606 -- this program's own words


def is_inside() -> bool:
    """Return whether this process is in a namespace of its own."""
    return _MARK in os.environ


def open_loopback() -> None:
    """Make a new namespace usable: loopback, and rules that drop nothing yet."""
    _run("ip", "link", "set", "lo", "up")
    _run("nft", "-f", "-", given=_RULES)


def drop(port: int, direction: str) -> None:
    """Drop what is for the server, or for the client, of the connections to a port."""
    _run("nft", f"add element {_TABLE} to_{direction} {{ {port} }}")


def carry(port: int, direction: str) -> None:
    """Drop it no more."""
    _run("nft", f"delete element {_TABLE} to_{direction} {{ {port} }}")


def _run(*words: str, given: str | None = None) -> None:
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)  # noqa: S603 -- our own words
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
