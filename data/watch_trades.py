"""Which aggregate trades of a stream did not come although later ones did. Pure."""

_MOST_HOLES = 100


class Trades:
    """How far the aggregate trades of a symbol have come, over all connections to its venue.

    Attributes
    ----------
    next_id : the one after the highest that came; None before any.
    """

    __slots__ = ("holes", "next_id")

    def __init__(self) -> None:
        self.next_id: int | None = None
        self.holes: list[range] = []  # ids that did not come though later ones did; the latest holes

    @property
    def missing(self) -> int:
        return sum(map(len, self.holes))

    def jumped(self, agg_trade_id: int) -> None:
        """Another id came than the next."""
        if self.next_id is None:
            self.next_id = agg_trade_id + 1
        elif agg_trade_id > self.next_id:
            self.holes = [*self.holes[-_MOST_HOLES:], range(self.next_id, agg_trade_id)]
            self.next_id = agg_trade_id + 1
        else:  # late, or again
            self.holes = [part for hole in self.holes for part in _without(hole, agg_trade_id)]


def _without(hole: range, number: int) -> list[range]:
    """What is left of a hole."""
    if number not in hole:
        return [hole]
    return [part for part in (range(hole.start, number), range(number + 1, hole.stop)) if part]
