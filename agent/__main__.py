"""`python -m agent`: runs the guard's command line; used to start a background guard."""

from agent.cli.commands import app

app(prog_name="panguard guard")
