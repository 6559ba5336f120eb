"""Options shared by several commands."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer


class Output(StrEnum):
    """Output format of records."""

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
        help="the manager's URL; by default the manager that runs on the data directory, or http://127.0.0.1:8443",
    ),
]
AuthToken = Annotated[
    str | None,
    typer.Option(
        "--auth-token",
        envvar="MANAGER_AUTH_TOKEN",
        help="the admin token; prefer a file: processes show flags",
    ),
]
AuthTokenFile = Annotated[Path | None, typer.Option("--auth-token-file", help="a file that holds the admin token")]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        envvar="PANGUARD_CA_FILE",
        help="trusted authorities, PEM; by default the system's and the data directory's own",
    ),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="send secrets to other machines in plain text")]
Once = Annotated[
    bool, typer.Option("--once", help="do nothing and succeed if an earlier call has made it: for start scripts")
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
