"""The installed release."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("panguard")
    except PackageNotFoundError:
        return "0+unknown"


VERSION = _installed()
