"""The values on an event's way: from a source's record to the verdict that is reported. No I/O, no clock."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """The writer of a record, as far as its source knows it; None where the source does not say.

    Attributes:
        source: The name of the source, such as ``journal`` or ``file:/var/log/auth.log``.
        identifier: The syslog identifier (the program name that the writer gave).
        unit: The systemd unit.
        exe: The path of the writer's executable, within the writer's own root directory.
        uid: The writer's user id.
        cgroup: The writer's control group.
        pid: The writer's process id.
    """

    source: str
    identifier: str | None = None
    unit: str | None = None
    exe: str | None = None
    uid: int | None = None
    cgroup: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a source: a line of a log file, or an entry of the journal.

    Attributes:
        text: The line with its header, or the journal's message without one.
        origin: The writer.
        at: Epoch seconds by the source's own clock; None if only the text has a time stamp.
        live: The source was read to its end before this record came, so it was written just now.
        vouched: The source proves the writer (design of the guard, section 1).
        cut: The end of the text is missing. Whatever trusts the end of a line must not trust this one.
    """

    text: str
    origin: Origin
    at: float | None = None
    live: bool = False
    vouched: bool = False
    cut: bool = False
