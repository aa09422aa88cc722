"""exchangeInfo as dated instrument rows."""

import json
from datetime import UTC, datetime

import pytest

from data.convert import import_path
from data.exchange_info import instruments, read_exchange_info
from data.lake import Lake

BNB = {
    "symbol": "BNBUSDT",
    "contractType": "PERPETUAL",
    "onboardDate": 1640847600000,
    "status": "TRADING",
    "underlyingType": "COIN",
    "triggerProtect": "0.0200",
    "liquidationFee": "0.025000",
    "marketTakeBound": "0.02",
    "filters": [
        {"minPrice": "6.600", "maxPrice": "100000", "filterType": "PRICE_FILTER", "tickSize": "0.100"},
        {"stepSize": "0.01", "filterType": "LOT_SIZE", "maxQty": "100000", "minQty": "0.01"},
        {"stepSize": "0.01", "filterType": "MARKET_LOT_SIZE", "maxQty": "2000", "minQty": "0.01"},
        {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
        {"limit": 10, "filterType": "MAX_NUM_ALGO_ORDERS"},
        {"notional": "5", "filterType": "MIN_NOTIONAL"},
        {"multiplierDown": "0.9800", "multiplierUp": "1.0200", "filterType": "PERCENT_PRICE"},
    ],
}
ANSWER = {"serverTime": 1768185214423, "symbols": [BNB]}


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def test_filters_become_columns():
    row = instruments(ANSWER, source="rest")[0].row(0, named=True)
    assert (row["symbol"], row["status"], row["source"]) == ("BNBUSDT", "TRADING", "rest")
    assert (row["tick_size"], row["step_size"], row["min_quantity"]) == (0.1, 0.01, 0.01)
    assert (row["max_quantity"], row["market_max_quantity"], row["min_notional_usdt"]) == (100_000, 2_000, 5)
    assert (row["price_multiplier_up"], row["price_multiplier_down"]) == (1.02, 0.98)
    assert (row["max_orders"], row["max_conditional_orders"]) == (200, 10)
    assert (row["liquidation_fee"], row["trigger_protect"], row["market_take_bound"]) == (0.025, 0.02, 0.02)
    assert row["onboard_time"] == datetime(2021, 12, 30, 7, tzinfo=UTC)
    assert row["brackets"] is None
    assert row["funding_interval_hours"] is None


def test_rows_are_in_force_from_the_servers_time_or_from_when_we_say():
    assert instruments(ANSWER, source="rest")[0]["event_time"].dt.epoch("ms").to_list() == [1768185214423]
    since = datetime(2025, 9, 1, tzinfo=UTC)
    assert instruments(ANSWER, source="rest", effective=since)[0]["event_time"].to_list() == [since]
    with pytest.raises(ValueError, match="with a time zone, got 2025-09-01T00:00:00; add"):
        instruments(ANSWER, source="rest", effective=datetime(2025, 9, 1))


def test_test_contracts_are_left_out_and_entries_without_filters_are_kept_aside(lake, tmp_path):
    path = tmp_path / "exchangeInfo.json"
    odd = {"symbol": "ODDUSDT", "status": "TRADING", "filters": []}
    symbols = [BNB, BNB | {"symbol": "TESTUSDT"}, odd, odd | {"symbol": "TESTOUSDT"}]
    path.write_text(json.dumps(ANSWER | {"symbols": symbols}), encoding="utf-8")
    import_path(lake, path, format="exchange-info")
    assert lake.symbols("instruments") == ["BNBUSDT"]
    assert lake.scan("quarantine").select("symbol", "table").rows() == [("ODDUSDT", "instruments")]


def test_what_most_contracts_lack_is_read_where_one_has_it():
    lacking = {name: value for name, value in BNB.items() if name != "liquidationFee"}
    symbols = [lacking | {"symbol": f"A{number}USDT"} for number in range(150)]
    rows, unreadable = instruments(ANSWER | {"symbols": [*symbols, BNB]}, source="rest")
    assert (rows["liquidation_fee"].drop_nulls().to_list(), rows.height, unreadable) == ([0.025], 151, [])


@pytest.mark.parametrize("spoilt", [{"liquidationFee": "n/a"}, {"onboardDate": "soon"}, {"onboardDate": 10**30}])
def test_a_contract_that_cannot_be_read_affects_no_other(spoilt):
    odd = BNB | {"symbol": "ODDUSDT"} | spoilt
    rows, unreadable = instruments(ANSWER | {"symbols": [odd, BNB]}, source="rest")
    assert (rows["symbol"].to_list(), unreadable) == (["BNBUSDT"], [odd])


def test_a_listing_of_values_that_do_not_go_together_is_refused_as_such():
    odd = BNB | {"filters": [*BNB["filters"][:3], {"limit": [200], "filterType": "MAX_NUM_ORDERS"}]}
    with pytest.raises(ValueError, match="exchangeInfo: "):
        instruments(ANSWER | {"symbols": [BNB, odd]}, source="rest")


def test_a_file_that_is_no_exchange_info_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("id,price", encoding="utf-8")
    with pytest.raises(ValueError, match="expected the JSON answer of exchangeInfo"):
        read_exchange_info(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="expected an object with serverTime and symbols"):
        read_exchange_info(path)


def test_the_real_answer_lands_once_per_effective_time(lake, real_data):
    path = real_data / "exchangeInfo-response.json"
    since = datetime(2025, 9, 1, tzinfo=UTC)
    assert import_path(lake, path, format="exchange-info", effective=since).total("landed") == 290
    assert import_path(lake, path, format="exchange-info", effective=since).total("already_present") == 290
    assert lake.instrument("ETHUSDT", datetime(2025, 9, 24, tzinfo=UTC))["status"] == "TRADING"
    assert import_path(lake, path, format="exchange-info", symbol="ETHUSDT").total("landed") == 1
