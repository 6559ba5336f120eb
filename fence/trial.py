"""The trial of mode protection: an operator confirms it from a session that was opened after the change."""

from fence.host import Host
from fence.manifest import Manifest

_BEGAN = "trial_began"
_CONFIRMED = "trial_confirmed"
_ENDS = "trial_ends"

LONGEST = 3600.0
"""The maximum number of seconds of a trial."""


class Trial:
    """The trial that the guard has begun, and its confirmation; kept over restarts of the fence.

    Args:
        manifest: keeps both times, in seconds of this boot's clock.
        host: finds the beginning of an operator's session.
        boot_id: names this boot: a trial of another one is over.
    """

    def __init__(self, manifest: Manifest, host: Host, boot_id: str) -> None:
        self._manifest = manifest
        self._host = host
        self._boot_id = boot_id

    @property
    def is_confirmed(self) -> bool:
        """Whether the last trial of this boot was confirmed."""
        return self._read(_CONFIRMED) is not None

    def begin(self, now: float, seconds: float) -> None:
        """Begin a trial of so many seconds; a confirmation before it counts no more."""
        ends = now + min(max(0.0, seconds), LONGEST)
        self._manifest.change(
            [], [], {_BEGAN: f"{self._boot_id} {now}", _ENDS: f"{self._boot_id} {ends}", _CONFIRMED: ""}
        )

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until an unconfirmed trial ends; None if none is running."""
        ends = self._read(_ENDS)
        return None if ends is None or self.is_confirmed else max(0.0, ends - now)

    def end_if_over(self, now: float) -> bool:
        """End a trial that nobody confirmed in time; return whether one has ended now. The guard may be dead."""
        if self.seconds_left(now) != 0.0:
            return False
        self._manifest.change([], [], {_BEGAN: "", _ENDS: ""})
        return True

    def confirm(self, pid: int, now: float) -> str | None:
        """Confirm the trial for a process of an operator; return why it does not count, None if it does."""
        began = self._read(_BEGAN)
        if began is None or not self.seconds_left(now):
            return "no trial is running"
        opened = self._host.session_began(pid)
        if opened is None:
            return "the beginning of your session cannot be read"
        if opened <= began:
            return (
                f"your session is {now - opened:.0f} s old and the trial {now - began:.0f} s:"
                " log in anew, which shows that this host can still be reached, and confirm there"
            )
        self._manifest.change([], [], {_CONFIRMED: f"{self._boot_id} {now}"})
        return None

    def _read(self, key: str) -> float | None:
        boot_id, _, at = (self._manifest.state(key) or "").partition(" ")
        return float(at) if boot_id == self._boot_id and at else None
