"""Binance's futures, which Aster's are modelled on: addresses, and what only Binance tells about leveraged positions.

Aster publishes no history of open interest and no ratios, so those of the larger market stand beside its rows.
"""

from collections.abc import Sequence

from data.venues.questions import Question, Venue

# Since 2026-04-23 each kind of stream comes on one of two entries; asked of the other it is accepted and stays silent.
BINANCE = Venue(
    name="binance",
    speaks="binance",
    rest_url="https://fapi.binance.com",
    stream_url="wss://fstream.binance.com",
    entries=(("bookTicker", "/public"), ("depth", "/public"), ("trade", "/public"), ("", "/market")),
)
_RATIOS = ("globalLongShortAccountRatio", "topLongShortPositionRatio", "takerlongshortRatio")
_MOST_PERIODS = 500


def open_interest_questions(symbols: Sequence[str]) -> list[Question]:
    """Open interest now, base quantity; weight 1 each."""
    return [_question("/fapi/v1/openInterest", symbol=symbol) for symbol in symbols]


def open_interest_history_questions(
    symbols: Sequence[str], period: str = "5m", limit: int = _MOST_PERIODS
) -> list[Question]:
    """Open interest at the end of the last ``limit`` periods, base quantity and USDT; of the last 30 days at most."""
    asked = {"period": period, "limit": limit}
    return [_question("/futures/data/openInterestHist", symbol=symbol, **asked) for symbol in symbols]


def ratio_questions(symbols: Sequence[str], period: str = "5m", limit: int = 12) -> list[Question]:
    """Long/short accounts of everybody, long/short positions of the top traders, and takers' buys/sells.

    Three questions per symbol; they cost no weight, but at most 1,000 of their kind are answered in five minutes.

    Parameters
    ----------
    period : 5m, 15m, 30m, 1h, 2h, 4h, 6h, 12h or 1d.
    limit : how many of the last periods, 500 at most; the default covers an hour, so a missed poll costs nothing.
    """
    asked = {"period": period, "limit": limit}
    return [_question(f"/futures/data/{name}", symbol=symbol, **asked) for symbol in symbols for name in _RATIOS]


def _question(path: str, **params: str | int) -> Question:
    return Question(path=path, params=params, venue=BINANCE.speaks)
