"""A header is read the same in one step as in two."""

from datetime import UTC

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.parse.header import HeaderParser
from tests.support.examples import examples

NOW = 1_790_000_000.0
STAMPS = st.sampled_from(
    [
        "2026-03-01T12:00:01.123456+00:00",
        "2026-03-01 12:00:01,5",
        "2026-03-01T12:00:01Z:",
        "2026-13-01T12:00:01Z",
        "Mar  1 12:00:01",
        "Mar 1 2025 12:00:01.5:",
        "Feb 30 12:00:01",
        "<38>Mar  1 12:00:01",
        "<38>2026-03-01T12:00:01Z",
        "Mar  1 12:00",
        "",
    ]
)
WORDS = st.one_of(
    st.sampled_from(
        [
            "srv",
            "sshd[12]:",
            "sshd:",
            "/usr/sbin/sshd[1]:",
            "kernel:",
            "auth.info",
            "<auth.info>",
            "syslogd:",
            "last message repeated 5 times",
            "--- last message repeated 1 time ---",
            "[ID 800047 auth.info]",
            "Failed password for root from 203.0.113.7 port 1 ssh2",
            "message: with sshd[9]: in it",
            "",
        ]
    ),
    st.text(max_size=12),
)


@settings(max_examples=examples(1_000))
@given(STAMPS, st.lists(WORDS, max_size=6))
def test_one_step_reads_the_same_as_two(stamp: str, words: list[str]) -> None:
    """Where the pattern of a whole line matches, the pattern of the stamp and then that of the body find the same."""
    line = " ".join([stamp, *words]).lstrip("\ufeff").rstrip(" \t\r\n\0")
    whole = HeaderParser(UTC)._common(line, NOW)
    if whole is not None:
        assert whole == HeaderParser(UTC).other(line, NOW)
