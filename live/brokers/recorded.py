"""The broker in a replay of a real run's log: it has nothing to say, for the log holds what the account said."""

from collections.abc import Callable
from typing import Any

from live.feed import Event
from live.orders import Instruction, Report
from research.engine import TradingConfig
from research.fills import Terms


class Recorded:
    """The account of a run that is over; see ``live.dispatch.Account``."""

    def __init__(self, instance: str):
        self.instance = instance

    def broker(self, config: TradingConfig, instrument: dict[str, Any]) -> Callable[[Terms], "RecordedBroker"]:
        return RecordedBroker


class RecordedBroker:
    """Sends nothing."""

    def __init__(self, terms: Terms): ...

    def place(self, order: Instruction) -> None:
        """It was sent when the log was written."""

    def on(self, event: Event) -> list[Report]:
        return []
