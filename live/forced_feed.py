"""What was liquidated in each slot, as a runner hears it: the sums of ``research.forced_orders``, bit for bit."""

from live.readings import Forced, Recent, known_ms
from research.forced_orders import FORCED_SIDES


class ForcedFeed:
    """The slots of one symbol that were not taken yet."""

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self._slots: dict[int, dict[str, float]] = {}  # by open_time
        self._seen = Recent()

    def hear(self, forced: Forced | None) -> None:
        """Add a liquidation to the slot that it became known in."""
        if forced is None or self._seen.holds(forced.key):
            return
        known = max(known_ms(forced.recv_ns), forced.event_ms)
        slot = self._slots.setdefault((known - 1) // self._length_ms * self._length_ms, _nothing())
        slot[FORCED_SIDES[forced.side]] += forced.usdt

    def take(self, open_ms: int) -> dict[str, float]:
        """USDT by the names of ``FORCED_SIDES`` of a slot that is over; it and those before it are forgotten."""
        found = self._slots.get(open_ms, _nothing())
        self._slots = {opened: slot for opened, slot in self._slots.items() if opened > open_ms}
        return found


def _nothing() -> dict[str, float]:
    return dict.fromkeys(FORCED_SIDES.values(), 0.0)
