"""Contracts over time: what is stored again, and what is not."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from data.instruments import ABSENT, bracket_rows, changed, fingerprint
from data.schema import INSTRUMENTS, conform

NOON = datetime(2026, 5, 28, 12, tzinfo=UTC)
STEPS = [
    {"bracket": 1, "initialLeverage": 50, "notionalCap": 5000, "notionalFloor": 0, "maintMarginRatio": 0.01, "cum": 0},
    {
        "bracket": 2,
        "initialLeverage": 20,
        "notionalCap": 9000,
        "notionalFloor": 5000,
        "maintMarginRatio": 0.02,
        "cum": 50,
    },
]


def listing(hour: int, **statuses: str) -> pl.DataFrame:
    """A listing of so many hours after noon: contracts and their statuses."""
    moment = NOON + timedelta(hours=hour)
    rows = [
        {"venue": "aster", "symbol": symbol, "event_time": moment, "status": status, "tick_size": 0.1, "source": "rest"}
        for symbol, status in statuses.items()
    ]
    return conform(pl.DataFrame(rows), INSTRUMENTS)


def told(rows: pl.DataFrame) -> list[tuple]:
    return rows.select("symbol", (pl.col("event_time") - NOON).dt.total_hours(), "status").rows()


def test_a_listing_that_says_nothing_new_adds_nothing():
    first = listing(0, BTCUSDT="TRADING", ETHUSDT="TRADING")
    assert told(changed(INSTRUMENTS.empty(), first)) == [("BTCUSDT", 0, "TRADING"), ("ETHUSDT", 0, "TRADING")]
    assert changed(first, listing(1, ETHUSDT="TRADING", BTCUSDT="TRADING")).is_empty()


def test_only_the_contract_that_changed_gets_a_row_once():
    first = listing(0, BTCUSDT="TRADING", ETHUSDT="TRADING")
    later = [listing(hour, BTCUSDT="TRADING", ETHUSDT="SETTLING") for hour in (1, 2)]
    assert told(changed(first, pl.concat(later))) == [("ETHUSDT", 1, "SETTLING")]
    cheaper = later[0].with_columns(tick_size=pl.when(pl.col("symbol") == "BTCUSDT").then(0.01).otherwise(0.1))
    assert told(changed(pl.concat([first, listing(1, ETHUSDT="SETTLING")]), cheaper)) == [("BTCUSDT", 1, "TRADING")]


def test_a_contract_that_is_no_longer_listed_keeps_its_history_and_ends_absent_until_it_returns():
    first = listing(0, BTCUSDT="TRADING", OLDUSDT="SETTLING")
    went = changed(first, listing(1, BTCUSDT="TRADING"))
    assert told(went) == [("OLDUSDT", 1, ABSENT)]
    stored = pl.concat([first, went])
    assert changed(stored, listing(2, BTCUSDT="TRADING")).is_empty()
    assert told(changed(stored, listing(3, BTCUSDT="TRADING", OLDUSDT="TRADING"))) == [("OLDUSDT", 3, "TRADING")]
    of_another_venue = first.with_columns(venue=pl.lit("binance"))
    assert told(changed(of_another_venue, listing(1, BTCUSDT="TRADING"))) == [("BTCUSDT", 1, "TRADING")]


def test_brackets_stay_in_force_although_listings_do_not_name_them():
    first = listing(0, BTCUSDT="TRADING", ETHUSDT="TRADING")
    body = json.dumps([{"symbol": "BTCUSDT", "brackets": STEPS}, {"symbol": "NEWUSDT", "brackets": STEPS}]).encode()
    known = bracket_rows(first, body, effective=NOON + timedelta(hours=1))
    assert told(known) == [("BTCUSDT", 1, "TRADING")]
    assert [step["maintenance_amount_usdt"] for step in known["brackets"][0]] == [0, 50]
    assert [step["max_leverage"] for step in known["brackets"][0]] == [50, 20]
    stored = pl.concat([first, known])
    assert changed(stored, listing(2, BTCUSDT="TRADING", ETHUSDT="TRADING")).is_empty()
    (row,) = changed(stored, listing(3, BTCUSDT="CLOSE", ETHUSDT="TRADING")).to_dicts()
    assert (row["status"], row["brackets"]) == ("CLOSE", known["brackets"][0].to_list())
    alone = json.dumps({"symbol": "BTCUSDT", "brackets": STEPS}).encode()  # the shape with a symbol asked for
    assert bracket_rows(stored, alone, effective=NOON + timedelta(hours=2)).is_empty()


def test_a_file_without_brackets_is_refused():
    with pytest.raises(ValueError, match="expected the answer of leverageBracket"):
        bracket_rows(listing(0, BTCUSDT="TRADING"), b'{"code":-2015,"msg":"Invalid"}', effective=NOON)
    with pytest.raises(ValueError, match="with a time zone"):
        bracket_rows(INSTRUMENTS.empty(), b"[]", effective=datetime(2026, 1, 1))


def test_answers_that_differ_only_by_when_they_were_given_have_one_fingerprint(real_data):
    info = json.loads((real_data / "exchangeInfo-response.json").read_text(encoding="utf-8"))

    def of(**changes) -> str:
        return fingerprint("exchangeInfo", json.dumps(info | changes).encode())

    assert of(serverTime=1, symbols=info["symbols"][::-1]) == of()
    delisted = [info["symbols"][0] | {"status": "CLOSE"}, *info["symbols"][1:]]
    assert len({of(), of(symbols=delisted), of(symbols=info["symbols"][1:])}) == 3

    funding = {"symbol": "BTCUSDT", "time": 1, "fundingIntervalHours": 8}
    same, other = funding | {"time": 2}, funding | {"fundingIntervalHours": 4}
    prints = [fingerprint("fundingInfo", json.dumps([each]).encode()) for each in (funding, same, other)]
    assert prints[0] == prints[1] != prints[2]
    reference = {
        "symbol": "BTCUSDT",
        "time": 1_780_000_000_000,
        "references": [{"exchange": "x", "symbol": "BTC", "weight": "1"}],
    }
    later = reference | {"time": 1_780_000_000_001}
    prints = [fingerprint("indexreferences", json.dumps(each).encode()) for each in (reference, later)]
    assert prints[0] == prints[1] != fingerprint("indexreferences", json.dumps(reference | {"references": []}).encode())
    with pytest.raises(KeyError):
        fingerprint("klines", b"[]")
