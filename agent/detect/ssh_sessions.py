"""Follows the sessions of logins that look guessed, and finds their end in the log."""

from collections import OrderedDict

from agent.events import Event, Finding

_MOST = 200
_MOST_PORTS = 64


class SuspiciousSessions:
    """Finds when the last session of a user from a source has ended, after a critical login of that pair.

    A session is known by the peer's port, from the line that sshd logs when it accepts a login to the one when the
    connection ends. A session that is killed on the host has no such line, and what a user left running goes on.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], dict[int, float]] = OrderedDict()

    def begin(self, event: Event, *, critical: bool) -> None:
        """Process a login; it is followed if it is critical, or if the pair's earlier sessions are."""
        pair, port = (event.text("sourceIp"), event.text("user")), event.number("port")
        if port is None or not (critical or pair in self._open):
            return
        sessions = self._open.setdefault(pair, {})
        self._open.move_to_end(pair)
        sessions[port] = event.at
        if len(sessions) > _MOST_PORTS:
            del sessions[next(iter(sessions))]
        if len(self._open) > _MOST:
            self._open.popitem(last=False)

    def end(self, event: Event) -> list[Finding]:
        """Process the end of a session; return a finding if it was the last one of a pair that is followed."""
        pair, port = (event.text("sourceIp"), event.text("user")), event.number("port")
        sessions = self._open.get(pair)
        if sessions is None or port is None or sessions.pop(port, None) is None or sessions:
            return []
        del self._open[pair]
        return [
            Finding(
                rule_id="sshd-suspicious-session-ended",
                type="suspicious_session_ended",
                severity="low",
                confidence=100,
                technique="",
                count=1,
                first_seen=event.at,
                last_seen=event.at,
                evidence={"loginSource": pair[0], "user": pair[1], "userExists": True, "targetService": "sshd"},
            )
        ]
