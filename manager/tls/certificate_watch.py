"""Watches the certificates in use: reloads replaced files, and warns before they expire."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from manager.tls.certificates import DAY, CertificateError, days_left
from manager.tls.server_certificate import CertificateFiles
from schemas.model import iso

log = structlog.get_logger(__name__)

WARN_DAYS = 30
"""Days before expiry at which warnings start."""

_CHECK_SECONDS = 1.0

Reload = Callable[[CertificateFiles], None]
"""Reloads the certificate files of a door."""


class CertificateWatch:
    """The certificates of the doors; `check` is called by one thread, the other methods by any.

    Args:
        doors: the files of each door, by its name, and the function that reloads them.
        peer_expiries: returns the expiry of other servers' certificates by door, in seconds since 1970.
        tell: called with a door, the expiry of its certificate, and the days left; None for a replaced certificate.

    Raises:
        CertificateError: one of the files cannot be read.
    """

    def __init__(
        self,
        doors: Mapping[str, tuple[CertificateFiles, Reload]],
        peer_expiries: Callable[[], Mapping[str, float]] = dict,
        tell: Callable[[str, float, int | None], None] = lambda _door, _expires_at, _days_left: None,
    ) -> None:
        self.tell = tell
        self._doors = doors
        self._peer_expiries = peer_expiries
        self._states = {door: files.state() for door, (files, _) in doors.items()}
        self._served = {door: files.chain()[0].expires_at for door, (files, _) in doors.items()}
        self._next_check = 0.0
        self._next_warnings: dict[str, float] = {}

    def check(self, wall: float, monotonic: float) -> None:
        """Reload replaced files, and warn of expiry once a day; checks the files at most once a second."""
        if monotonic < self._next_check:
            return
        self._next_check = monotonic + _CHECK_SECONDS
        for door, (files, reload) in self._doors.items():
            self._refresh(door, files, reload)
        for door, expires_at in self.expiries().items():
            if days_left(expires_at, wall) < WARN_DAYS and wall >= self._next_warnings.get(door, 0.0):
                self._next_warnings[door] = wall + DAY
                _warn(door, expires_at, wall)
                self.tell(door, expires_at, int(days_left(expires_at, wall)))

    def expiries(self) -> dict[str, float]:
        """Return the expiry of each door's certificate, in seconds since 1970."""
        return {**self._peer_expiries(), **self._served}

    def records(self, now: float) -> list[dict[str, Any]]:
        """Return the expiries as records of the API; `now` is in seconds since 1970."""
        return [
            {"door": door, "expiresAt": iso(expires_at), "daysLeft": days_left(expires_at, now)}
            for door, expires_at in sorted(self.expiries().items())
        ]

    def _refresh(self, door: str, files: CertificateFiles, reload: Reload) -> None:
        state = files.state()
        if not state or state == self._states[door]:
            return
        self._states[door] = state
        try:
            reload(files)
            self._served = self._served | {
                door: files.chain()[0].expires_at
            }  # a new dictionary: other threads may be reading
        except CertificateError as error:
            # The second file of a pair may still be written: its state changes again then.
            log.warning("certificate_not_loaded", door=door, reason=str(error), hint="the door serves the earlier one")
        else:
            log.info("certificate_loaded", door=door, expires_at=iso(self._served[door]))
            if self._next_warnings.pop(door, None) is not None:
                self.tell(door, self._served[door], None)


def _warn(door: str, expires_at: float, now: float) -> None:
    log.warning(
        "certificate_expires",
        door=door,
        expires_at=iso(expires_at),
        days_left=days_left(expires_at, now),
        hint="panguard manager certs renew makes a new one; it is loaded without a restart",
    )
