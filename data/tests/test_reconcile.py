"""The recorded trades against the exchange's own bars."""

from datetime import timedelta

from data.lake import Lake
from data.reconcile import reconcile
from data.tests.test_ledger import A_MINUTE, MIDNIGHT, bars, trades


def test_trades_and_bars_are_compared_minute_by_minute(tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    lake.append("trades", trades(0, 59, 60, 125, 300, quantity=[1.0, 2.5, 0.1, 4.0, 7.0]), origin="test")
    lake.append("klines", bars(0, 1, 3, 9, volume=[3.5, 0.3, 0.0, 1.0]), origin="test")
    lake.append("klines", bars(0, interval="5m", volume=99.0), origin="test")
    told = reconcile(lake, "BTCUSDT", MIDNIGHT, MIDNIGHT + 5 * A_MINUTE)
    assert told.rows() == [
        (MIDNIGHT, 3.5, 3.5, 0.0),
        (MIDNIGHT + A_MINUTE, 0.1, 0.3, 0.2),  # the bar counts what aggregate trades leave out
        (MIDNIGHT + 2 * A_MINUTE, 4.0, None, None),  # no bar
        (MIDNIGHT + 3 * A_MINUTE, 0.0, 0.0, 0.0),  # nothing was traded
    ]


def test_sums_of_binary_fractions_leave_no_residual(tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    lake.append("trades", trades(0, 1, 2, quantity=0.1), origin="test")
    lake.append("klines", bars(0, volume=0.3), origin="test")
    assert reconcile(lake, "BTCUSDT", MIDNIGHT, MIDNIGHT + timedelta(hours=1))["residual"].to_list() == [0.0]
