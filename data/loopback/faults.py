"""What the loopback exchange does wrong when told to: endpoints that refuse, streams that fall silent."""


class Faults:
    """Those in force. Times are the market's, nanoseconds since 1970."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[int, int]] = {}  # by endpoint: until when, HTTP status
        self._muted: dict[str, int] = {}  # by stream: until when

    def refuse(self, path: str, until_ns: int, status: int) -> None:
        """Refuse an endpoint; the empty one stands for all."""
        self._refused[path] = until_ns, status

    def refused(self, name: str, now_ns: int) -> int | None:
        """HTTP status with which an endpoint is refused now; None when it works."""
        for path in (name, ""):
            until_ns, status = self._refused.get(path, (0, 0))
            if now_ns < until_ns:
                return status
        return None

    def mute(self, stream: str, until_ns: int) -> None:
        """Let a stream fall silent; its connections stay."""
        self._muted[stream] = until_ns

    def muted(self, now_ns: int) -> set[str]:
        """Streams that are silent now."""
        return {stream for stream, until_ns in self._muted.items() if now_ns < until_ns}
