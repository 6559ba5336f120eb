"""Looks after the certificates in use: takes up new files, and warns in time of what expires."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from manager.tls.certificates import DAY, days_left
from manager.tls.errors import CertificateError
from manager.tls.served import CertificateFiles
from schemas.model import iso

log = structlog.get_logger(__name__)

WARN_DAYS = 30
"""From how many days before its end on a certificate is warned of."""

_LOOK_EVERY = 1.0

Take = Callable[[CertificateFiles], None]
"""Has a door serve what is in the files now."""


class CertificateWatch:
    """The certificates of the doors; `look` belongs to one thread, the figures may be read from any.

    Args:
        doors: the files of each door, by its name, and what takes up new ones.
        met: tells when a certificate expires that somebody else serves, by the door's name, in seconds since 1970.

    Raises:
        CertificateError: one of the files cannot be read.
    """

    def __init__(
        self, doors: Mapping[str, tuple[CertificateFiles, Take]], met: Callable[[], Mapping[str, float]] = dict
    ) -> None:
        self._doors = doors
        self._met = met
        self._states = {door: files.state() for door, (files, _) in doors.items()}
        self._served = {door: files.chain()[0].expires_at for door, (files, _) in doors.items()}
        self._next_look = 0.0
        self._next_warnings: dict[str, float] = {}

    def look(self, wall: float, monotonic: float) -> None:
        """Take up files that are newer than what is served, and warn once a day; does nothing most of the time."""
        if monotonic < self._next_look:
            return
        self._next_look = monotonic + _LOOK_EVERY
        for door, (files, take) in self._doors.items():
            self._refresh(door, files, take)
        for door, expires_at in self.expiries().items():
            if days_left(expires_at, wall) < WARN_DAYS and wall >= self._next_warnings.get(door, 0.0):
                self._next_warnings[door] = wall + DAY
                _warn(door, expires_at, wall)

    def expiries(self) -> dict[str, float]:
        """Return when the certificate of each door expires, in seconds since 1970."""
        return {**self._met(), **self._served}

    def records(self, now: float) -> list[dict[str, Any]]:
        """Return the same in the API's words; `now` is in seconds since 1970."""
        return [
            {"door": door, "expiresAt": iso(expires_at), "daysLeft": days_left(expires_at, now)}
            for door, expires_at in sorted(self.expiries().items())
        ]

    def _refresh(self, door: str, files: CertificateFiles, take: Take) -> None:
        state = files.state()
        if not state or state == self._states[door]:
            return
        self._states[door] = state
        try:
            take(files)
            self._served = self._served | {door: files.chain()[0].expires_at}  # a new one: others may be reading
        except CertificateError as error:
            # A pair whose second half is still being written: its next state is another one.
            log.warning("certificate_not_taken", door=door, reason=str(error), hint="the door serves the earlier one")
        else:
            log.info("certificate_taken", door=door, expires_at=iso(self._served[door]))


def _warn(door: str, expires_at: float, now: float) -> None:
    log.warning(
        "certificate_expires",
        door=door,
        expires_at=iso(expires_at),
        days_left=days_left(expires_at, now),
        hint="panguard manager certs renew makes a new one; it is taken up without a restart",
    )
