"""The words that options take, as types that a shell can complete and a help text can show.

They stand in the rules already; a command line that loaded those would be slow to say what it takes.
"""

from typing import Literal

StateWord = Literal["online", "stale", "offline"]
SeverityWord = Literal["low", "medium", "high", "critical"]
IndicatorWord = Literal["source_ip", "file_hash", "technique"]
ResponseWord = Literal["applied", "pending_approval", "refused", "simulated", "undone"]
EntryWord = Literal["ip", "file_hash", "sensitivity"]
AllowanceWord = Literal["ip", "file_hash", "process"]
