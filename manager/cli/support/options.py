"""The options that commands share, each defined once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer


class Output(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="a table for people, or the records as the HTTP API has them")
]
ManagerUrl = Annotated[
    str | None,
    typer.Option(
        "--manager",
        envvar="MANAGER_URL",
        help="the manager's HTTP door; by default the one that runs on the data directory, or http://127.0.0.1:8443",
    ),
]
AuthToken = Annotated[
    str | None,
    typer.Option("--auth-token", envvar="MANAGER_AUTH_TOKEN", help="the admin token; a file shows it to fewer eyes"),
]
AuthTokenFile = Annotated[Path | None, typer.Option("--auth-token-file", help="a file that holds the admin token")]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        envvar="PANGUARD_CA_FILE",
        help="whom to trust, PEM; by default the system's authorities and the data directory's own",
    ),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="let secrets go beyond this machine in plain text")]
Once = Annotated[
    bool, typer.Option("--once", help="leave what an earlier call has made, and succeed: for what runs at each start")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="PANGUARD_DATA_DIR", help="a manager's data directory, which holds its token"),
]


StateWord = Literal["online", "stale", "offline"]
SeverityWord = Literal["low", "medium", "high", "critical"]
IndicatorWord = Literal["source_ip", "file_hash", "technique"]
ResponseWord = Literal["applied", "pending_approval", "refused", "simulated", "undone"]
EntryWord = Literal["ip", "file_hash", "sensitivity"]
AllowanceWord = Literal["ip", "file_hash", "process"]
