"""User names that attackers choose, as a strategy: markup, links, mentions, controls, and anything else."""

from hypothesis import strategies as st

_PIECES = st.sampled_from(
    [
        "http://evil.example/a", "https://evil.example", "HTTPS://EVIL.EXAMPLE", "www.evil.com", "evil.com",
        "//evil.com", "mailto:a@evil.com", "a@evil.com", "ftp://evil.com", "javascript:alert(1)", "\\\\evil\\share",
        "file:///etc/x", "@channel", "@here", "@everyone", "<!channel>", "<!here|x>", "<@U012AB3CD>", "<@!123>",
        "<@&456>", "<#C1|x>", "<at>Everyone</at>", "&lt;!channel&gt;", "<http://evil.com|bank>",
        "[bank](http://evil.com)", "![x](http://e.com/i)", "[ref]: http://evil.com", "<http://evil.com>", "`", "``",
        "```", "~~~", "**b**", "__b__", "*b*", "_b_", "~s~", "||s||", "# h", "- l", "1. l", "> q", "---", "| a |",
        "<b>", "</b>", "<script>alert(1)</script>", "<a href='http://e.com'>x</a>", "<img src=x onerror=y>", "<br>",
        "</code>", "<code>", "<!--", "&amp;", "&#64;channel", "&#x40;", '"', "'", "\\", "\\`", "#channel", "$CASH",
        "/start", ":smile:", "<:party:123>", "<t:1:R>", "<tg-spoiler>", "tg://user?id=1", "\x1b[31m",
        "\x1b]8;;http://evil.com\x07x\x1b]8;;\x07", "\x9b31m", "\x07", "\x00", "\r\n", "\n", "\t", "\x7f", "\u2028",
        "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\xad", "\U000e0041", "\ud800", "\u0301" * 9,
        "\uff20channel", "\uff48ttp\uff1a\uff0f\uff0fevil\uff0ecom", "evil\u3002com", "evil\uff61com", "\u2024com",
        " ", "", "svc_backup", "web-1.example.com", "root", "%s", "{0}", "${x}", "\xfc\xdf", "\u4f60\u597d",
        "\U0001f600",
    ]
)  # fmt: skip
NAMES = st.one_of(
    st.lists(_PIECES, max_size=6).map("".join), st.text(max_size=200), st.lists(_PIECES, max_size=3).map(" ".join)
)
