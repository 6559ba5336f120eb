"""The status file: what a running guard says of itself to `panguard guard status`."""

import json
from pathlib import Path
from typing import Any

from agent.errors import StorageError
from agent.storage.files import write_private

_FILE = "status.json"


def write_status(directory: Path, fields: dict[str, Any]) -> None:
    """Replace the status file; losing it loses nothing, so it is not forced to the disk.

    Raises:
        StorageError: it cannot be written.
    """
    write_private(directory / _FILE, json.dumps(fields).encode(), durable=False)


def read_status(directory: Path) -> dict[str, Any]:
    """Return what the guard wrote last; empty if it never did.

    Raises:
        StorageError: the file cannot be read.
    """
    path = directory / _FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
