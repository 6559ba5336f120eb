"""A day at an ssh server in lines of its log, and the verdicts on it."""

from collections.abc import Callable
from datetime import UTC, datetime

from agent.analyze.analyzer import Analyzer
from agent.detect.detection_chain import DetectionChain
from agent.detect.login_detector import LoginDetector
from agent.events import Event, EventKind, Record, RecordOrigin, Verdict
from tests.support.accounts import FakeAccounts

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC).timestamp()


class SshStory:
    """Takes what happens second by second; each connection has a port and a process of its own.

    Args:
        accounts: The accounts of the server.
        vouched: sshd is proven to be the writer.
        listed: Whether an address or prefix is on a list of attackers.

    Attributes:
        logins: Address, user and whether it looks guessed, of each login from a proven line.
    """

    def __init__(
        self,
        accounts: FakeAccounts | None = None,
        *,
        vouched: bool = False,
        listed: Callable[[str], bool] | None = None,
    ) -> None:
        self.logins: list[tuple[str, str, bool]] = []
        self.chain = DetectionChain(
            FakeAccounts() if accounts is None else accounts, UTC, listed=listed, logged_in=self._logged_in
        )
        self.verdicts: list[Verdict] = []
        self.port = 30_000
        self._vouched = vouched
        self._origin = RecordOrigin("file:auth.log")

    def _logged_in(self, address: str, user: str, at: float, *, guessed: bool) -> None:
        del at
        self.logins.append((address, user, guessed))

    def log(self, second: float, message: str, *, program: str = "sshd", pid: int | None = None) -> list[Verdict]:
        """One line; returns the verdicts that it completes."""
        return self.line(second, f"{program}[{self.port if pid is None else pid}]: {message}")

    def line(self, second: float, text: str) -> list[Verdict]:
        """One line behind the host's name."""
        stamp = datetime.fromtimestamp(START + second, UTC).isoformat(timespec="milliseconds")
        line = f"{stamp} srv {text}"
        examined = self.chain.examine(Record(line, self._origin, vouched=self._vouched), START + second)
        self.chain.saved()
        assert examined.understood
        self.verdicts += examined.threats
        return list(examined.threats)

    def forge(self, second: float, message: str) -> list[Verdict]:
        """One line that anybody could have written."""
        vouched, self._vouched = self._vouched, False
        try:
            return self.log(second, message)
        finally:
            self._vouched = vouched

    def connect(self) -> int:
        """A new connection; returns its port."""
        self.port = self.port % 60_000 + 1
        return self.port

    def fail(self, second: float, address: str, user: str = "root", *, method: str = "password") -> list[Verdict]:
        """A connection on which one credential is refused."""
        return self.log(second, f"Failed {method} for {user} from {address} port {self.connect()} ssh2")

    def login(self, second: float, address: str, user: str, method: str = "password") -> list[Verdict]:
        """A connection that logs in."""
        return self.log(second, f"Accepted {method} for {user} from {address} port {self.connect()} ssh2")

    def rules(self) -> list[str]:
        """The rules that were met, in order."""
        return [verdict.rule_id for verdict in self.verdicts]


class SshEvents(SshStory):
    """The same with events in place of lines, for stories of many thousands of logins."""

    def __init__(self) -> None:
        super().__init__()
        self._detector = LoginDetector(FakeAccounts())
        self._analyzer = Analyzer()

    def fail(self, second: float, address: str, user: str = "root", *, method: str = "password") -> list[Verdict]:
        """A connection on which one credential is refused."""
        return self._take(second, EventKind.LOGIN_FAILED, address, user, method)

    def login(self, second: float, address: str, user: str, method: str = "password") -> list[Verdict]:
        """A connection that logs in."""
        return self._take(second, EventKind.LOGIN_SUCCEEDED, address, user, method)

    def _take(self, second: float, kind: EventKind, address: str, user: str, method: str) -> list[Verdict]:
        fields = {"sourceIp": address, "user": user, "method": method, "port": self.connect()}
        findings = self._detector.observe(Event(START + second, kind, fields))
        found = [self._analyzer.verdict(finding) for finding in findings]
        self.verdicts += found
        return found


def by_rule(verdicts: list[Verdict], rule: str) -> list[Verdict]:
    """The verdicts of one rule."""
    return [verdict for verdict in verdicts if verdict.rule_id == rule]


def worst(verdicts: list[Verdict]) -> str:
    """The highest severity; `none` without a verdict."""
    levels = ["none", "low", "medium", "high", "critical"]
    return max((verdict.severity for verdict in verdicts), key=levels.index, default="none")
