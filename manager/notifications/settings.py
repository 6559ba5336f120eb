"""Settings of channels: the tables `[notifications.NAME]` of the settings file."""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

from manager.errors import SetupError
from manager.notifications.channels.channel import TIMEOUT
from schemas.decoding import complaint
from schemas.durations import parse_seconds
from schemas.identifiers import OrganizationId

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LONGEST_SECRET = 4096

Duration = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0, le=31_536_000, allow_inf_nan=False)]
"""Seconds, also written as a duration such as ``5m``."""

MinuteOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""Hours and minutes of a local day, such as ``08:00``."""


class ChannelSettings(BaseModel):
    """One table `[notifications.NAME]`.

    Attributes:
        type: The kind of the channel.
        url: The receiver's address; `url_file` names a file with it instead, because addresses may hold tokens.
        url_file: See `url`.
        secret_file: A file with the key of a webhook's signatures; without one the manager makes a key.
        ca_file: PEM of the authorities that sign the receiver's certificate.
        plain_http: Whether a webhook beyond loopback may be reached without TLS.
        facility: The facility of syslog messages.
        timeout: Seconds for one delivery.
        judgement: Whether messages are judged and grouped as for people; None for the default of the type.
        organizations: The organizations whose events it may be told; None for those of all, and of the manager.
        time_zone: The IANA name of the zone of `digest_at`.
        digest_at: The local time of the daily digest.
        escalate_to: The channel that is told what nobody acknowledged.
        escalate_after: Seconds until then.
        watchdog_url_file: A file with the address that is called after each test event that was delivered.
        watchdog_every: Seconds between two test events, where there is a watchdog.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["apprise", "webhook", "syslog", "file"]
    url: SecretStr | None = None
    url_file: Path | None = None
    secret_file: Path | None = None
    ca_file: Path | None = None
    plain_http: bool = False
    facility: str = "auth"
    timeout: Annotated[Duration, Field(le=300)] = TIMEOUT
    judgement: bool | None = None
    organizations: Annotated[tuple[OrganizationId, ...], Field(min_length=1)] | None = None
    time_zone: str = "UTC"
    digest_at: MinuteOfDay = "08:00"
    escalate_to: str | None = None
    escalate_after: Duration = 900.0
    watchdog_url_file: Path | None = None
    watchdog_every: Duration = 300.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give url, or url_file, which names a file with it")
        for name in ("url_file", "secret_file", "ca_file", "watchdog_url_file"):
            path = getattr(self, name)
            if path is not None and not path.is_absolute():
                raise ValueError(f"{name} is an absolute path")
        if self.escalate_to is not None and not self.is_judged:
            raise ValueError("escalate_to is for channels with judgement")
        return self

    @property
    def is_judged(self) -> bool:
        """Whether its messages are judged and grouped, as for people."""
        return self.type == "apprise" if self.judgement is None else self.judgement

    def address(self) -> str:
        """Return the receiver's address.

        Raises:
            SetupError: the file with it cannot be read.
        """
        return self.url.get_secret_value() if self.url is not None else read_secret("url_file", self.url_file)


def read_channels(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, ChannelSettings]:
    """Return the settings of all channels by name.

    Raises:
        SetupError: a table is wrong; the message names it and what to do, and quotes no value.
    """
    channels = {name: _channel(name, table) for name, table in tables.items()}
    for name, channel in channels.items():
        second = channel.escalate_to
        if second is not None and (second not in channels or second == name):
            raise SetupError(f"[notifications.{name}]: escalate_to names no other channel{_hint(second, channels)}")
    return channels


def read_secret(setting: str, path: Path | None) -> str:
    """Return the text of a file that a setting names.

    Raises:
        SetupError: the file cannot be read, or is empty.
    """
    try:
        with Path(path or "").open("rb") as file:
            text = file.read(_LONGEST_SECRET).decode().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SetupError(f"{path}, which {setting} names, cannot be read: {reason}") from error
    if not text:
        raise SetupError(f"{path}, which {setting} names, is empty")
    return text


def _channel(name: str, table: Mapping[str, Any]) -> ChannelSettings:
    if not _NAME.fullmatch(name):
        raise SetupError(
            f"[notifications.{name[:64]!r}]: a channel's name has lower-case letters, digits, - and _, at most 64"
        )
    for setting in table:
        if setting not in ChannelSettings.model_fields:
            hint = _hint(setting, ChannelSettings.model_fields)
            raise SetupError(f"[notifications.{name}]: there is no setting {setting[:64]!r}{hint}")
    try:
        return ChannelSettings.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise SetupError(f"[notifications.{name}]{f' {place}' if place else ''}: {complaint(first)}") from error


def _hint(text: str, names: Collection[str]) -> str:
    close = get_close_matches(text, names, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"
