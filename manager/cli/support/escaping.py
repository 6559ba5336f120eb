"""Escapes untrusted text for terminals: attackers can choose hostnames, threat types and evidence."""

import unicodedata

_HARMLESS_SPACE = " "
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
"""Unicode categories that move the cursor, change the text direction, are invisible, or look like a space."""


def printable(text: str) -> str:
    r"""Return `text` with every character that is not plainly visible replaced by its escape, such as ``\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_plain(char) else _escaped(char) for char in text)


def _is_plain(char: str) -> bool:
    return char == _HARMLESS_SPACE or unicodedata.category(char) not in _UNSAFE


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
