"""Makes text from outside inert: without controls or hidden characters, cut, and with broken links and mentions."""

import re
import unicodedata

from manager.domain.networks import network_of

LONGEST = 80
"""The maximum number of characters of one quoted text; longer ones are cut and end with an ellipsis."""

_EXAMINED = 4096
_LONGEST_LINE = 300
_NOTHING = "(empty)"
_TERMINAL_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS and other strings
    r"|\x1b[ -/]*[0-~]"
)
_VISIBLE = frozenset("LNPS")
"""The first letters of the Unicode categories that are kept: letters, numbers, punctuation and symbols."""

_PLAIN_SIGNS = str.maketrans({"\u3002": ".", "\u2024": ".", "\u2044": "/", "\u2215": "/", "\u2236": ":", "`": "'"})
_MENTION_OR_SCHEME = re.compile(r"@|<(?=\S)|:(?=[/\\])|(?<=\\)\\|(?<=/)/(?=\w)")
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,39}(/[0-9]{1,3})?")
_TAG = re.compile(r"(?<!\w)[#/$](?=\w)")
_DOT = re.compile(r"(?<=\S)\.(?=\w)")
_SCHEME = re.compile(r"(?<=[^\W\d]):(?=\S)")


def stripped(text: str, longest: int = LONGEST) -> str:
    """Return text without terminal sequences, controls and invisible characters, on one line and cut.

    It is in Unicode's compatibility form (NFKC), so that full-width letters and signs are the plain ones. Of a run of
    combining marks the first is kept. A backtick becomes an apostrophe, so that the text cannot end a code span.
    """
    kept: list[str] = []
    pieces = _TERMINAL_SEQUENCE.sub("", text[:_EXAMINED]).split("…")
    for char in "…".join(unicodedata.normalize("NFKC", piece) for piece in pieces).translate(_PLAIN_SIGNS):
        category = unicodedata.category(char)
        if category[0] in _VISIBLE:
            kept.append(char)
        elif category[0] == "M":
            if kept and unicodedata.category(kept[-1])[0] in _VISIBLE:
                kept.append(char)
        elif (category[0] == "Z" or char in "\t\r\n") and kept and kept[-1] != " ":
            kept.append(" ")
    shown = "".join(kept).strip()
    if len(shown) <= longest and len(text) <= _EXAMINED:
        return shown or _NOTHING
    return shown[: longest - 1].rstrip() + "…"


def own_text(text: str) -> str:
    """Return the manager's own text on one line; spaces at its ends are kept, they join it to quoted text."""
    if not text.strip():
        return text and " "
    return " " * text[0].isspace() + stripped(text, _LONGEST_LINE) + " " * text[-1].isspace()


def for_code(text: str) -> str:
    """Return text for a code span: as `stripped` has it, with broken mentions, tags and schemes of links.

    Previews and forwarded messages lose the code span. Addresses and networks stay as they are.
    """
    shown = stripped(text)
    return shown if _is_address(shown) else _MENTION_OR_SCHEME.sub(_bracketed, shown)


def for_plain_text(text: str) -> str:
    """Return text for places where programs look for links by themselves: domains and hashtags are broken, too."""
    shown = for_code(text)
    if _is_address(shown):
        return shown
    for sign in (_TAG, _DOT, _SCHEME):
        shown = sign.sub(_bracketed, shown)
    return shown


def _is_address(text: str) -> bool:
    return _ADDRESS.fullmatch(text) is not None and network_of(text) is not None


def _bracketed(match: re.Match[str]) -> str:
    return f"[{match[0]}]"
