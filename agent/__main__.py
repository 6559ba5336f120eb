"""`python -m agent`: the guard's command line by itself; a guard in the background is started so."""

from agent.cli.commands import app

app(prog_name="panguard guard")
