"""Makes text from outside inert: without controls or hidden characters, cut, and with broken links and mentions."""

import re
import unicodedata

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

_DOTS = str.maketrans({"\u3002": ".", "\u2024": ".", "\u2044": "/", "\u2215": "/", "\u2236": ":", "`": "'"})
_MENTION_OR_SCHEME = re.compile(r"@|<(?=\S)|:(?=[/\\])|(?<=\\)\\|(?<=/)/(?=\w)")
_TAG = re.compile(r"(?<!\w)[#/$](?=\w)")
_DOT = re.compile(r"(?<=\S)\.(?=\w)")
_SCHEME = re.compile(r"(?<=[^\W\d]):(?=\S)")


def stripped(text: str, longest: int = LONGEST) -> str:
    """Return text without terminal sequences, controls and invisible characters, on one line and cut.

    It is in Unicode's compatibility form (NFKC), so that full-width letters and signs are the plain ones. Of a run of
    combining marks the first is kept. A backtick becomes an apostrophe, so that the text cannot end a code span.
    """
    kept: list[str] = []
    for char in unicodedata.normalize("NFKC", _TERMINAL_SEQUENCE.sub("", text[:_EXAMINED])).translate(_DOTS):
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
    """Return text for a code span: as `stripped` has it, with broken mentions and schemes of links.

    Previews and forwarded messages lose the code span.
    """
    return _MENTION_OR_SCHEME.sub(_bracketed, stripped(text))


def for_plain_text(text: str) -> str:
    """Return text for places where programs look for links by themselves: domains and tags are broken, too."""
    broken = _TAG.sub(_bracketed, for_code(text))
    return _SCHEME.sub(_bracketed, _DOT.sub(_bracketed, broken))


def _bracketed(match: re.Match[str]) -> str:
    return f"[{match[0]}]"
