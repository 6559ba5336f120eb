"""The role of a manager process among those of its database."""

from enum import StrEnum


class Role(StrEnum):
    """The part that a process of several on one database has; `all` leads or stands by."""

    ALL = "all"
    INGEST = "ingest"
