"""A link in memory: what was published and subscribed to, and whether it is open."""

from schemas.topics import Topic


class FakeLink:
    def __init__(self) -> None:
        self.open = True
        self.published: list[tuple[Topic, bytes]] = []
        self.subscribed: list[tuple[Topic, ...]] = []
        self.unsubscribed: list[Topic] = []

    def subscribe(self, *rows: Topic) -> None:
        self.subscribed.append(rows)

    def unsubscribe(self, row: Topic) -> None:
        self.unsubscribed.append(row)

    def publish(self, row: Topic, payload: bytes) -> int | None:
        if not self.open:
            return None
        self.published.append((row, payload))
        return len(self.published)

    def close(self, patience: float = 0.0) -> None:
        del patience
        self.open = False

    def take(self, row: Topic) -> list[bytes]:
        """Return, once, what was published of a row."""
        found = [payload for published, payload in self.published if published is row]
        self.published = [entry for entry in self.published if entry[0] is not row]
        return found
