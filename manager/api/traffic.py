"""What the HTTP door has served: requests and their time by method, route and status."""

UNMATCHED = "unmatched"
"""The route of requests that no route is for; their paths are anybody's words."""


class Traffic:
    """Counts requests. Only the server's own thread writes; others may read at any moment."""

    def __init__(self) -> None:
        self.served: dict[tuple[str, str, int], list[float]] = {}

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """Take a request into account."""
        line = self.served.get((method, route, status))
        if line is None:
            self.served[method, route, status] = [1, seconds]
        else:
            line[0] += 1
            line[1] += seconds
