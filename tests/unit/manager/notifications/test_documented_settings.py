"""The settings in docs/notifications.md."""

import re
import tomllib
from pathlib import Path

from manager.notifications.channels.opening import KINDS
from manager.notifications.settings import ChannelSettings, read_channels

PAGE = Path(__file__).parents[4] / "docs" / "notifications.md"


def test_the_documented_tables_are_taken() -> None:
    """The page's tables are settings of channels, one of each type."""
    tables = [table for text in re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
              for table in [tomllib.loads(text).get("notifications", {})]]  # fmt: skip
    channels = [channel for table in tables for channel in read_channels(table).values()]
    assert {channel.type for channel in channels} >= set(KINDS)


def test_every_setting_is_documented() -> None:
    """Each setting of a channel's table stands on the page."""
    text = PAGE.read_text()
    assert [name for name in ChannelSettings.model_fields if not re.search(rf"\b{name}\b", text)] == []
