"""Whatever a user name is, no rendered message has a live link, mention, tag or control made of it."""

import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from linkify_it import LinkifyIt
from markdown_it import MarkdownIt

from manager.domain.notifications.message import Change, Message, Plain, Quoted
from manager.notifications.rendering.dialects import CARD, HTML, MARKDOWN, PLAIN, Dialect
from manager.notifications.rendering.quoting import LONGEST
from schemas.threats import Severity
from tests.support.hostile_names import NAMES

_OWN_LINK = "https://manager.example:8443/incidents/in-1"
_LIVE_LINKS = LinkifyIt(options={"fuzzy_ip": False}).tlds("example", keep_old=True)
_MENTION = re.compile(r"@\w|<[!@#]|<at\b", re.IGNORECASE)


def rendered(dialect: Dialect, name: str, link: str | None = None) -> str:
    message = Message(
        "id-1", "in-1", Change.OPENED, Severity.HIGH,
        (Plain("Login as "), Quoted(name), Plain(" after 12 failures")),
        ((Plain("on "), Quoted(name), Quoted(name), Plain("with a_b *c*")),),
        command="panguard manager blocks lift 203.0.113.9", link=link,
    )  # fmt: skip
    return dialect.render(message).whole


class _Tags(HTMLParser):
    """Collects tags and the text inside of code."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", ((data, None),)))


@pytest.mark.parametrize("dialect", [PLAIN, MARKDOWN, HTML, CARD], ids=["plain", "markdown", "html", "card"])
@given(name=NAMES)
def test_no_mention_control_or_hidden_character(dialect: Dialect, name: str) -> None:
    """In every dialect: no mention, and no character that is a control, invisible or turns the text's direction."""
    text = rendered(dialect, name)
    assert not _MENTION.search(text)
    strange = {char for char in text if unicodedata.category(char)[0] in "CZ"} - {" ", "\n"}
    assert not strange


@pytest.mark.parametrize("dialect", [PLAIN, MARKDOWN, HTML, CARD], ids=["plain", "markdown", "html", "card"])
@given(name=NAMES)
@example(name="x" * 10_000)
@example(name="\u0301" * 10_000)
@example(name="\ufdfa" * 100)
def test_a_name_adds_no_line_and_is_cut(dialect: Dialect, name: str) -> None:
    """A name of any length stays on its line, and takes at most 80 characters before its signs are broken up."""
    text, empty = rendered(dialect, name), rendered(dialect, "root")
    assert text.count("\n") == empty.count("\n")
    assert len(text) < len(empty) + 3 * 6 * LONGEST


@pytest.mark.parametrize("dialect", [PLAIN, HTML, CARD], ids=["plain", "html", "card"])
@given(name=NAMES)
@example(name="a.evil.com")
@example(name="x@evil.com")
@example(name="//evil.com")
def test_programs_that_look_for_links_find_none(dialect: Dialect, name: str) -> None:
    """Where mail and chat programs look for links and domains by themselves they find none but the manager's own."""
    found = _LIVE_LINKS.match(rendered(dialect, name)) or []
    assert [each.url for each in found] == []
    found = _LIVE_LINKS.match(re.sub(r"<[^>]*>", " ", rendered(dialect, name, _OWN_LINK))) or []
    assert {each.url for each in found} == {_OWN_LINK}


@given(name=NAMES)
def test_markdown_shows_the_name_as_code(name: str) -> None:
    """A CommonMark parser that allows HTML sees the name in code spans only, and no other markup than ours."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(rendered(MARKDOWN, name))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    children = tokens[1].children or []
    assert {child.type for child in children} <= {"text", "text_special", "code_inline", "hardbreak"}
    assert len([child for child in children if child.type == "code_inline"]) == 4


@given(name=NAMES)
def test_html_has_no_tag_of_the_name(name: str) -> None:
    """An HTML parser sees our own tags, as many for each name, and no mention behind its entities."""
    parser = _Tags()
    parser.feed(rendered(HTML, name, _OWN_LINK))
    parser.close()
    assert not _MENTION.search(parser.text.replace("[<]", ""))
    assert parser.tags == [
        ("code", ()), ("br", ()), ("code", ()), ("code", ()), ("br", ()), ("code", ()), ("br", ()),
        ("a", (("href", _OWN_LINK),)),
    ]  # fmt: skip


@given(name=NAMES)
def test_a_card_has_no_markup(name: str) -> None:
    """Teams' cards, which have no code, get no sign of Markdown at all beside our own address."""
    assert not set(rendered(CARD, name)) & set("[]()<>*~`\\|#_")


@given(name=NAMES)
def test_plain_text_has_no_tag(name: str) -> None:
    """Plain text has no hashtag, command, or anything that a service may take for a tag."""
    text = rendered(PLAIN, name)
    assert not set(text) & set("<>")
    assert not re.search(r"(?<!\w)[#$/]\w", text)


@pytest.mark.parametrize("dialect", [PLAIN, HTML, CARD], ids=["plain", "html", "card"])
@given(name=NAMES)
@example(name="javascript:alert(1)")
@example(name="tel:+49123456")
def test_no_scheme_of_a_link(dialect: Dialect, name: str) -> None:
    """Where programs look for links there is no word with a colon that a name goes on behind, as in `tel:` links."""
    assert not re.search(r"[^\W\d]:[^\s`<']", rendered(dialect, name))
