"""Renders messages in the dialects of channels: plain text, Markdown, HTML, and the cards of Teams."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from manager.domain.notifications.message import MOST_LINES, Line, Message, Plain
from manager.notifications.rendering.quoting import for_code, for_plain_text, own_text

_COMMAND = re.compile(r"[A-Za-z0-9 ._:/=,+-]{1,300}")
_LINK = re.compile(r"https?://[A-Za-z0-9._~:/?#=&%+,\[\]-]{1,500}")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~])")
_CARD_MARKUP = str.maketrans("[]()<>*_~`\\|#", "［］（）‹›＊＿～'＼｜＃")  # noqa: RUF001 -- full-width on purpose
_PLAIN_MARKUP = str.maketrans("<>", "‹›")  # noqa: RUF001 -- in place of what some services take for tags


class Rendered(NamedTuple):
    """A message in one dialect.

    Attributes:
        title: The title alone, in plain text: a mail's subject.
        heading: The title in the dialect.
        body: The lines below the title, the command and the link.
        new_line: The text between two lines.
    """

    title: str
    heading: str
    body: str
    new_line: str = "\n"

    @property
    def whole(self) -> str:
        """Heading and body, for services without titles."""
        return f"{self.heading}{self.new_line}{self.body}" if self.body else self.heading


@dataclass(frozen=True, slots=True)
class Dialect:
    """The markup of a channel.

    Attributes:
        own: Returns the manager's own text, escaped.
        quoted: Returns text from outside, inert and marked as code where the dialect has code.
        code: Returns a command; it has no character that needs to be escaped.
        link: Returns an address of the manager's own as a link.
        new_line: The text between two lines.
    """

    own: Callable[[str], str]
    quoted: Callable[[str], str]
    code: Callable[[str], str]
    link: Callable[[str], str]
    new_line: str = "\n"

    def render(self, message: Message) -> Rendered:
        """Return a message in at most `MOST_LINES` lines."""
        ends = []
        if message.command is not None and is_command(message.command):
            ends.append(self.own("Command: ") + self.code(message.command))
        if message.link is not None and _LINK.fullmatch(message.link):
            ends.append(self.own("Details: ") + self.link(message.link))
        lines = [self.line(line) for line in message.lines]
        room = MOST_LINES - 1 - len(ends)
        if len(lines) > room:
            lines = [*lines[: room - 1], self.own("…")]
        title = "".join(PLAIN.part(part) for part in message.title)
        return Rendered(title, self.line(message.title), self.new_line.join([*lines, *ends]), self.new_line)

    def part(self, part: Plain | tuple[str, ...]) -> str:
        """Return one part of a line."""
        return self.own(part[0]) if isinstance(part, Plain) else self.quoted(part[0])

    def line(self, line: Line) -> str:
        """Return a line; quoted text stands apart from words, else a code span might not be recognised as one."""
        text, after_quoted = "", False
        for part in line:
            shown, quoted = self.part(part), not isinstance(part, Plain)
            if not shown:
                continue
            joined = quoted and text[-1:] not in " ("
            joined = joined or (after_quoted and shown[0] not in " .,;:)")
            text, after_quoted = text + " " * joined + shown, quoted
        return text


def is_command(text: str) -> bool:
    """Return whether a text is a command that may be shown for copying: words, ids and addresses only."""
    return _COMMAND.fullmatch(text) is not None and "//" not in text


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


PLAIN = Dialect(
    own=own_text,
    quoted=lambda text: f"`{for_plain_text(text).translate(_PLAIN_MARKUP)}`",
    code=lambda text: text,
    link=lambda text: text,
)
"""Text without markup; quoted text stands between backticks."""

MARKDOWN = Dialect(
    own=lambda text: _markdown(own_text(text)),
    quoted=lambda text: f"`{for_code(text)}`",
    code=lambda text: f"`{text}`",
    link=lambda text: f"<{text}>",
    new_line="  \n",
)
"""CommonMark, which Apprise translates for Slack and others."""

HTML = Dialect(
    own=lambda text: escape(own_text(text)),
    quoted=lambda text: f"<code>{escape(for_plain_text(text))}</code>",
    code=lambda text: f"<code>{escape(text)}</code>",
    link=lambda text: f'<a href="{escape(text)}">{escape(text)}</a>',
    new_line="<br>\n",
)
"""HTML for mail and Telegram; mail programs look for domains in code, too."""

CARD = Dialect(
    own=lambda text: own_text(text).translate(_CARD_MARKUP),
    quoted=lambda text: f"'{for_plain_text(text).translate(_CARD_MARKUP)}'",
    code=lambda text: text,
    link=lambda text: text,
    new_line="\n\n",
)
"""Adaptive Cards (Teams): Markdown without code and with unreliable escapes, so marks become look-alikes."""
