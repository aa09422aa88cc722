"""Hyperliquid's open interest, which Aster does not publish: one question tells that of every perpetual."""

from data.venues.questions import Question, Venue

HYPERLIQUID = Venue(
    name="hyperliquid",
    speaks="hyperliquid",
    rest_url="https://api.hyperliquid.xyz",
    stream_url="wss://api.hyperliquid.xyz",
)


def open_interest_questions() -> list[Question]:
    """Open interest and mark price of every perpetual now; request weight 20 of 1,200 a minute."""
    return [Question(path="/info", params={"type": "metaAndAssetCtxs"}, venue=HYPERLIQUID.speaks, is_post=True)]


def symbol_of(coin: str) -> str:
    """The symbol under which a Hyperliquid coin is stored: BTC is BTCUSDT, kPEPE, a thousand PEPE, is 1000PEPEUSDT.

    So a coin stands beside the contract of the same name and size on the other venues, though Hyperliquid settles in
    USDC.
    """
    is_thousand = coin[:1] == "k" and coin[1:2].isupper()
    return f"1000{coin[1:]}USDT" if is_thousand else f"{coin}USDT"
