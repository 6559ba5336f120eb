"""structlog, loaded without rich: to be imported before whatever else loads structlog.

structlog loads rich to render tracebacks with it, which no log of this program has. That takes three quarters of the
time in which structlog loads, in each process of a manager.
"""

import sys

if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment] # an import fails as if it were not installed
    try:
        import structlog
    finally:
        del sys.modules["rich"]
else:
    import structlog

__all__ = ["structlog"]
