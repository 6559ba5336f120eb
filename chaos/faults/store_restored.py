"""The data directory is restored from a copy that is some seconds old.

Must hold: policies go on above what guards know, and every report that was stored after the copy is stored again: the
manager asks for them, and agents send those that they have a receipt for. Log, audit log, overview and `now` say that
guards know more, and log and audit log that reports were lost.
"""

import os
import shutil
import subprocess
import sys
import time
from typing import Any

from chaos.fault import Fault
from chaos.site import Site, SiteError


def strike(site: Site) -> None:
    """Copy the data directory, change the policy, continue for a while, and replace the directory by the copy."""
    copy = site.home / "copy"
    site.kill(site.manager)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(site.manager.data, copy)
    site.start_manager()
    site.wait_ready()
    revision = _new_policy(site)
    site.until(lambda: _highest(site) >= revision, "an agent has the policy")
    site.wait(1.0, 3.0)
    known = _highest(site)
    site.kill(site.manager)
    site.copied_at = time.monotonic()
    shutil.rmtree(site.manager.data)
    shutil.copytree(copy, site.manager.data)
    logged = len(site.log())
    site.start_manager()
    site.wait_ready()
    site.until(lambda: "store_older_than_guards" in site.log()[logged:], "the log says that guards know more")
    warnings = site.manager.request("GET", "/api/overview")["warnings"]
    if not any("more than the store" in sentence for sentence in warnings):
        raise SiteError(f"the overview does not say that guards know more: {warnings}")
    if "more than the store" not in _now(site):
        raise SiteError("`now` does not say that guards know more")
    if not site.manager.request("GET", "/api/audit", action="store.restored"):
        raise SiteError("the audit log does not say that guards know more")
    site.until(lambda: "store_lost_reports" in site.log()[logged:], "the log says that reports were lost")
    if not site.manager.request("GET", "/api/audit", action="store.lost_reports"):
        raise SiteError("the audit log does not say that reports were lost")
    changed = _new_policy(site)
    if changed <= revision:
        raise SiteError(f"revision {changed} after the restore is not above {revision} before it")
    site.until(lambda: _highest(site) >= changed and _highest(site) > known, "an agent obeys the restored manager")


def _now(site: Site) -> str:
    """Return the output of `panguard manager now`."""
    environment = {**os.environ, "MANAGER_URL": site.manager.http, "COLUMNS": "400"}
    words = [sys.executable, "-m", "panguard", "manager", "now", "--data-dir", str(site.manager.data)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    return done.stdout


def _new_policy(site: Site) -> int:
    """Change the global policy; return its revision."""
    document = {"thresholds": {"autoRespond": site.dice.uniform(60, 90)}}
    return int(site.manager.request("PUT", "/api/policies/global", document)["revision"])


def _highest(site: Site) -> int:
    """Return the highest policy version that an agent states.

    Incidents change agents' policies all the time, so an agent may go from an older to a later version at once.
    """
    agents: list[Any] = site.manager.request("GET", "/api/agents", limit="200")
    return max((agent["policyVersion"] or 0 for agent in agents), default=0)


FAULT = Fault(
    "store restored from an older copy",
    "store",
    strike,
    doors=("embedded", "http"),
    once=True,
    limits="an agent keeps a limited number of the reports that it has receipts for; those beyond it are gone with the"
    " store, and counted apart",
)
