import pytest

from manager.domain.notifications.message import MOST_LINES, Plain, Quoted
from manager.notifications.rendering.dialects import CARD, HTML, MARKDOWN, PLAIN, Dialect, is_command
from manager.notifications.rendering.quoting import LONGEST, for_plain_text, own_text, stripped
from tests.unit.manager.notifications.messages import message

LINK = "https://manager.example:8443/incidents/in-1"


def test_each_dialect() -> None:
    """The name is code where the dialect has code; the command can be copied, and the link is a link."""
    shown = message(None, link=LINK)
    command = "panguard manager blocks add 203.0.113.9 --for 4h"
    assert PLAIN.render(shown).whole == (
        f"Login as `alice` after 12 failures\nfrom 203.0.113.9 on `web-1`\nCommand: {command}\nDetails: {LINK}"
    )
    assert MARKDOWN.render(shown).body == f"from 203.0.113.9 on `web-1`  \nCommand: `{command}`  \nDetails: <{LINK}>"
    assert HTML.render(shown).heading == "Login as <code>alice</code> after 12 failures"
    assert f'Details: <a href="{LINK}">{LINK}</a>' in HTML.render(shown).body
    assert CARD.render(shown).heading == "Login as 'alice' after 12 failures"


@pytest.mark.parametrize("dialect", [PLAIN, MARKDOWN, HTML, CARD])
@pytest.mark.parametrize("number", [0, 7, 8, 40])
def test_ten_lines(dialect: Dialect, number: int) -> None:
    """A message has at most ten lines with title, command and link; what is left out is marked."""
    rendered = dialect.render(message(None, lines=((Plain("x"),),) * number, link=LINK)).whole
    lines = rendered.split(dialect.new_line)
    assert len(lines) == min(number + 3, MOST_LINES)
    assert ("…" in lines) is (number > 7)
    assert "Details: " in lines[-1]


@pytest.mark.parametrize("text", ["a@b", "x//y", "x\ny", "`x`", "a;b", "$(x)", "x" * 301, ""])
def test_what_is_no_command(text: str) -> None:
    """A command with other signs than words, ids and addresses is not shown: somebody would copy it."""
    assert not is_command(text)
    assert "Command" not in PLAIN.render(message(None, command=text)).whole


@pytest.mark.parametrize("link", ["javascript:alert(1)", "https://h/<b>", "https://h/a b", 'https://h/"', "//h"])
def test_what_is_no_link(link: str) -> None:
    """A link that is no plain address of a page is not shown."""
    assert "Details" not in HTML.render(message(None, link=link)).whole


def test_quoted_text_stands_apart() -> None:
    """A code span touches neither a word nor another span, or services would not read it as code."""
    line = (Plain("as"), Quoted("a"), Quoted("b"), Plain("on"), Plain(" ("), Quoted("c"), Plain("),"), Quoted("d"))
    assert MARKDOWN.render(message(None, title=line)).heading == "as `a` `b` on (`c`), `d`"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("a\x00b\x07c\x7f", "abc"),
        ("a\u202eb\u2066c\u200bd\ufeff", "abcd"),
        ("a\r\nb\tc\u2028d", "a b c d"),
        ("\uff20\uff43\uff48", "@ch"),
        ("e\u0301\u0301\u0301x\u0302\u0302", "\u00e9\u0301x\u0302"),
        ("", "(empty)"),
        (" \x00 ", "(empty)"),
        ("x" * LONGEST, "x" * LONGEST),
        ("x" * (LONGEST + 1), "x" * (LONGEST - 1) + "…"),
        ("x" + "\x00" * 9999, "x…"),
    ],
)
def test_stripped(text: str, shown: str) -> None:
    """Terminal sequences, controls, hidden characters and piled up accents are taken out, and the rest is cut."""
    assert stripped(text) == shown


@pytest.mark.parametrize("address", ["203.0.113.9", "203.0.113.0/24", "2001:db8::1", "2001:db8::/32"])
def test_addresses_can_be_copied(address: str) -> None:
    """Addresses and networks have no broken signs in any dialect; what only looks like one has."""
    for dialect in (PLAIN, MARKDOWN, HTML, CARD):
        assert address in dialect.render(message(None, title=(Quoted(address),))).heading
    assert for_plain_text("203.0.113.999") == "203[.]0[.]113[.]999"
    assert for_plain_text("203.0.113.9.evil.com") == "203[.]0[.]113[.]9[.]evil[.]com"


def test_own_text_keeps_its_ends() -> None:
    """The manager's own text keeps the spaces that join it to a name."""
    assert [own_text(text) for text in (" on ", "on", "\n", "")] == [" on ", "on", " ", ""]
