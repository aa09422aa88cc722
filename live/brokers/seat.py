"""One desk's way to the account of a real run."""

from typing import Any, Protocol

from live.account_rules import AccountRules
from live.brokers import entry_gate
from live.exchange_orders import Contract, contract_of
from live.feed import Event as MarketEvent
from live.feed import ExecutionOpen, Marked, Quoted
from live.orders import Instruction, Report, RowKey
from research.engine import TradingConfig
from research.fills import Terms


class Account(Protocol):
    """Whom the desk's orders are handed to."""

    rules: AccountRules

    def place(self, seat: "SeatBroker", order: Instruction) -> None: ...


class SeatBroker:
    """One desk's way to the account. What it is handed while an old log is walked is not sent.

    Attributes
    ----------
    row : whose order met the market last.
    has_other_rules : the exchange has changed its rules for the contract since the run began.
    """

    def __init__(self, account: "Account", config: TradingConfig, instrument: dict[str, Any], terms: Terms):
        self.config, self.config_hash, self.terms = config, config.config_hash, terms
        self.contract: Contract = contract_of(instrument, is_hedge=account.rules.is_hedge)
        self.is_trading = instrument["status"] == "TRADING"
        self.has_other_rules = False
        self.market = entry_gate.Market()
        self.row: RowKey | None = None
        self.entries_ms: list[int] = []
        self._account = account

    @property
    def key(self) -> tuple[str, str]:
        """Of its desk."""
        return self.config_hash, self.config.symbol

    @property
    def fees_bps(self) -> tuple[float, float]:
        """Of who takes and of who rests."""
        return self.terms.taker_fee_bps, self.terms.maker_fee_bps

    def place(self, order: Instruction) -> None:
        self._account.place(self, order)

    def on(self, event: MarketEvent) -> list[Report]:
        """The exchange fills orders; here the market is only watched."""
        match event:
            case Marked():
                self.market.mark = event
            case Quoted():
                self.market.quote = event
            case ExecutionOpen():
                self.row = event.row
        return []
