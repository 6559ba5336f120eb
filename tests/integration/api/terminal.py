"""The command line against one manager, as its admin runs it."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from manager.cli import app
from manager.cli.support.failures import ExitCode
from tests.integration.api.served import ADMIN_TOKEN, Served


class Terminal:
    """Runs commands against one manager."""

    def __init__(self, served: Served, token: str = ADMIN_TOKEN) -> None:
        self._environment = {"MANAGER_URL": served.url, "MANAGER_AUTH_TOKEN": token}

    def run(self, *arguments: str, **options: Any) -> Result:
        result = CliRunner().invoke(app, list(arguments), env=self._environment, **options)
        assert ADMIN_TOKEN not in result.output
        return result

    def ok(self, *arguments: str, **options: Any) -> str:
        result = self.run(*arguments, **options)
        assert result.exit_code == ExitCode.OK, result.output
        return result.stdout

    def records(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "-o", "json"))
