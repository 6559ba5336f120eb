"""Options shared by several commands."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from manager.cli.support.help_pages import CONNECTION


class Output(StrEnum):
    """Output format of records."""

    TABLE = "table"
    JSON = "json"


class WideOutput(StrEnum):
    """Output format of tables that leave out columns or rows."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


WideOutputOption = Annotated[
    WideOutput, typer.Option("--output", "-o", help="a table that fits the terminal, one with everything, or JSON")
]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="output format: a table, or JSON records of the HTTP API")
]
ManagerUrl = Annotated[
    str | None,
    typer.Option(
        "--manager",
        envvar="MANAGER_URL",
        help="the manager's URL [default: the manager running on the data directory, or http://127.0.0.1:8443]",
        rich_help_panel=CONNECTION,
    ),
]
AuthToken = Annotated[
    str | None,
    typer.Option(
        "--auth-token",
        envvar="MANAGER_AUTH_TOKEN",
        help="the admin token or an access token; prefer a file: processes show flags",
        rich_help_panel=CONNECTION,
    ),
]
AuthTokenFile = Annotated[
    Path | None,
    typer.Option(
        "--auth-token-file", help="a file with the admin token or an access token", rich_help_panel=CONNECTION
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        envvar="PANGUARD_CA_FILE",
        help="trusted CA certificates, PEM [default: the system's and the data directory's]",
        rich_help_panel=CONNECTION,
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="send secrets to other machines in plain text", rich_help_panel=CONNECTION)
]
Once = Annotated[bool, typer.Option("--once", help="succeed without a change if it exists already; for start scripts")]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        envvar="PANGUARD_KEY_FILE",
        help="file of the key that seals the store [default: manager.key in the data directory]",
    ),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        envvar="PANGUARD_DATABASE",
        help="postgresql://USER@HOST:PORT/NAME [default: an SQLite file in the data directory]",
    ),
]
DatabasePasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--database-password-file",
        metavar="FILE",
        envvar="PANGUARD_DATABASE_PASSWORD_FILE",
        help="file with the password of the database's user [default: libpq's password file]",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="PANGUARD_DATA_DIR", help="the manager's data directory"),
]
ManagerDataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="PANGUARD_DATA_DIR",
        help="the manager's data directory, which contains the admin token",
        rich_help_panel=CONNECTION,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="settings file, TOML [default: manager.toml in the data directory, if there]"
    ),
]


StateWord = Literal["online", "stale", "offline"]
HealthWord = Literal["ok", "degraded"]
ModeWord = Literal["learning", "protection"]
SeverityWord = Literal["low", "medium", "high", "critical"]
IndicatorWord = Literal["source_ip", "file_hash", "technique"]
ResponseWord = Literal["applied", "pending_approval", "refused", "simulated", "undone"]
ReachWord = Literal["vouched", "any"]
EntryWord = Literal["ip", "file_hash", "sensitivity"]
AllowanceWord = Literal["ip", "file_hash", "process"]
