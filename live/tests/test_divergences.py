"""The 27 ways in which prior-art 003's live run and its backtest differ (live.md §1A), in their order: none can here.

Each test says first what live did there, then what the backtest did. ``both`` trades a market by the backtest and by
the runner, refuses any difference in any field of any trade, and returns the trades.
"""

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data import schema
from data.lake import Lake
from live import exchange_orders
from live.brokers.cases import Cases
from live.brokers.risk_keeper import RiskKeeper
from live.brokers.set_up import set_up
from live.config import load_chosen
from live.dispatch import first_open_ms
from live.feed import BarClosed, Gap
from live.journal import Journal, read_journal
from live.journal_trades import trades
from live.known_row import KnownRows
from live.order_evidence import PositionSeen
from live.readings import NS_PER_MS, Quote
from live.recordings import replayed as on_recording
from live.recordings import run
from live.risk import Level
from live.tests.conftest import FIRST_MS, MINUTE_MS, SYMBOL
from live.tests.quiet_market import HEAVY, INSTRUMENT, LOUD, QUIET, a_gap, moved, plain_config, quiet_bars
from live.tests.random_stream import kline_frame, klines_row
from live.tests.real_run import RULES
from live.tests.test_promotion import refused
from live.tests.told_and_stored import heard
from research import engine, features
from research.bars import build_bars
from research.engine import TradingConfig
from research.fills import breakeven_floor_bps
from research.order_settings import Costs
from research.recorded import Substitutions
from research.strategies import momentum
from research.strategies.gates import opening_loss_limit_bps

CONFIG = plain_config()
NOTHING: dict[int, dict[str, float]] = {}
A_STOP = {HEAVY + 2: moved(99.6)}  # the entry is at 100.01, its stop at 99.71
AGAIN = {"open": 100.0, "high": 100.5, "low": 100.0, "close": 100.5, "volume": 60.0}  # another bar that asks to buy
DOWN = {"open": 100.0, "high": 100.0, "low": 99.5, "close": 99.5, "volume": 60.0}  # one that asks to sell


@pytest.fixture
def both(replayed, tmp_path) -> Callable[..., list[dict]]:
    """Trades of a config, by row names; backtest and runner made the same: ``both(config, planted, side=1)``."""
    names = count()

    def trade(config: TradingConfig = CONFIG, planted=NOTHING, **told) -> list[dict]:
        bars = quiet_bars(planted, symbol=config.symbol, **told)
        path, _ = replayed((config, bars), path=tmp_path / f"{next(names)}.sqlite")
        listed = trades(path, config.config_hash, config.symbol)
        assert_frame_equal(listed, engine.backtest(config, bars, min_coverage=0.0).trades, check_exact=True)
        return listed.to_dicts()

    return trade


def row_of(trade: dict) -> int:
    """The row that decided it."""
    return (round(trade["entry_row_time"].timestamp() * 1_000) - FIRST_MS) // MINUTE_MS


def with_params(**params) -> TradingConfig:
    return replace(CONFIG, params={**CONFIG.params, **params})


def level_on_an_account_that_pays(fee_bps: float) -> Level:
    """Of the risk state, once the account was asked what it pays."""

    async def told(value: Any) -> Any:
        return value

    flat = PositionSeen(
        symbol=SYMBOL, position_side="BOTH", amount=Decimal(0), entry_price=Decimal(0), told_ms=FIRST_MS, leverage=1,
        is_isolated=True,
    )  # fmt: skip
    reader = SimpleNamespace(
        positions=lambda *_: told((flat,)), fees_bps=lambda *_: told((fee_bps, 0.0)), brackets=lambda *_: told([])
    )
    quiet = SimpleNamespace(event=lambda *_, **__: None, alert=lambda *_: None, now_ms=lambda: FIRST_MS)
    risk = RiskKeeper(RULES.risk, Cases(), quiet)
    seat = SimpleNamespace(config=CONFIG, terms=engine.terms_of(CONFIG.costs, CONFIG.orders, INSTRUMENT))
    asyncio.run(set_up(quiet, reader, RULES, {SYMBOL: seat}, risk, quiet, quiet))
    return risk.state.level


def test_d01_one_formula_caps_the_loss_at_opening(both):
    """min(10, max(5, 2s)) against min(10, 5 + 2s): at a spread of 1 bps 5 against 7."""
    assert [opening_loss_limit_bps(spread) for spread in (0.0, 1.0, 2.5, 4.0, 5.0)] == [5.0, 5.0, 5.0, 8.0, 10.0]
    narrow = {"bid_price": 100.0, "ask_price": 100.01}
    for loss_bps, trades_made in ((4.9, 1), (5.1, 0), (6.9, 0)):
        assert len(both(planted={HEAVY: narrow | {"mark_price": 100.01 / (1 + loss_bps / 1e4)}})) == trades_made


def test_d02_the_widest_spread_is_the_configs(both):
    """An option of the command line against 2 ticks in the code."""
    wide = {HEAVY: {"bid_price": 99.98}}  # three ticks
    assert [len(both(with_params(max_spread_ticks=ticks), wide)) for ticks in (2.0, 3.0)] == [0, 1]
    assert with_params(max_spread_ticks=2.0).config_hash != with_params(max_spread_ticks=3.0).config_hash


def test_d03_a_spread_has_one_unit_and_nothing_falls_back_to_another(both):
    """Without ticks a raw price <= the cap against bps <= the same cap."""
    assert both(with_params(max_spread_ticks=2.0), {HEAVY: {"bid_price": 99.96}}) == []  # 0.05 USDT are five ticks
    assert both(planted={HEAVY: {"bid_price": np.nan, "ask_price": np.nan}}) == []
    assert [name for name in momentum.Params._fields if "spread" in name] == ["max_spread_ticks"]


def test_d04_prices_have_the_grid_of_their_time(tmp_path):
    """The tick size at the start of the run against today's, applied to all of history."""
    lake = Lake(tmp_path / "lake", create=True)
    told = {"venue": "aster", "symbol": SYMBOL, "interval": "1m", "source": "rest"}
    closes = pl.DataFrame({"open_time": [FIRST_MS + MINUTE_MS * minute for minute in range(10)]})
    ohlc = {name: pl.lit(100.0) for name in ("open", "high", "low", "close", "volume")}
    values = {name: pl.lit(value) for name, value in told.items()}
    lake.append("klines", schema.conform(closes.with_columns(**values, **ohlc), schema.KLINES), origin="test")
    grids = pl.DataFrame({"event_time": [FIRST_MS, FIRST_MS + 5 * MINUTE_MS], "tick_size": [0.1, 0.01]})
    contract = INSTRUMENT | {"venue": "aster", "symbol": SYMBOL, "source": "rest"}
    rest = {name: pl.lit(value) for name, value in contract.items() if name != "tick_size"}
    lake.append("instruments", schema.conform(grids.with_columns(**rest), schema.INSTRUMENTS), origin="test")

    def tick_size(first: int, end: int) -> float:
        start, stop = (datetime.fromtimestamp(FIRST_MS / 1e3 + 60 * minute, UTC) for minute in (first, end))
        bars = build_bars(lake, SYMBOL, start, stop, latency_ms=150, substitutions=Substitutions(mark="last"))
        return engine.terms_of(CONFIG.costs, CONFIG.orders, bars.instrument).tick_size

    assert (tick_size(0, 5), tick_size(5, 10)) == (0.1, 0.01)
    with pytest.raises(ValueError, match=r"tick_size of BNBUSDT changes from 0\.1 to 0\.01"):
        tick_size(0, 10)


def test_d05_a_bar_is_the_final_one_of_the_exchange_and_comes_once(tmp_path):
    """The bars of which a poll saw the end, nine in ten, against the last state within the minute of receipt."""
    random, told, finals = np.random.default_rng(1), [], []
    for minute in range(5):
        open_ms = FIRST_MS + MINUTE_MS * minute
        running, final = klines_row(open_ms, random, 600.0), klines_row(open_ms, random, 600.0)
        told += [(open_ms + 59_000, kline_frame(running, open_ms + 59_000, is_final=False))]
        told += [(open_ms + MINUTE_MS + at, kline_frame(final, open_ms + MINUTE_MS)) for at in (40, 90)]
        finals.append([float(final[4]), float(final[5])])
    events, rows = heard(Lake(tmp_path / "lake", create=True), *told)
    assert [list(event.inputs) for event in events] == finals
    assert rows.select("close", "volume").rows() == [tuple(final) for final in finals]
    assert [event.time_ms for event in events] == rows["avail_time"].dt.epoch("ms").to_list()


def test_d06_no_return_spans_a_gap(both):
    """A return over several minutes against rows joined as if there had been no gap."""
    assert len(both()) == 1
    assert both(planted={HEAVY - 1: a_gap()}) == []


def test_d07_an_order_meets_the_market_after_its_decision(both):
    """The next touch after a second or more against the mean price of the very minute that made the signal."""
    [trade] = both(planted={HEAVY: {"exec_bid": 100.01, "exec_ask": 100.02}})
    assert trade["entry_price"] == 100.02  # not 100.01, which was seen at the decision; nor the bar's own mean
    bar_end_ms = FIRST_MS + MINUTE_MS * (HEAVY + 1)
    assert round(trade["entry_time"].timestamp() * 1_000) == bar_end_ms + 300 + CONFIG.costs.latency_ms


def test_d08_a_stop_fills_where_it_triggers(both):
    """At the market after its trigger against the mean price of the minute: 99.10 where the stop was 99.75."""
    through = {"exec_low": 99.1, "exec_mark_low": 99.1, "exec_close": 99.1, "exec_mark_close": 99.1}
    [trade] = both(planted={HEAVY + 2: through})
    assert (trade["reason"], trade["stop_price"]) == ("stop", 99.71)
    assert trade["exit_price"] == pytest.approx(99.71 * (1 - 1e-4), abs=1e-9)  # half the spread is 1 bps
    [gap] = both(planted=A_STOP)  # opened beyond it
    assert gap["exit_price"] == pytest.approx(99.6 * (1 - 1e-4), abs=1e-9)


def test_d09_the_mark_triggers_stops_and_the_last_price_the_rest(both):
    """Stop on the mark, target and trailing order on the contract against everything on the last price."""
    [held] = both(planted={HEAVY + 2: {"exec_low": 99.0}, HEAVY + 3: {"exec_mark_high": 101.0}})
    [stopped] = both(planted={HEAVY + 2: {"exec_mark_low": 99.0}})
    [won] = both(planted={HEAVY + 2: {"exec_high": 101.0}})
    assert [trade["reason"] for trade in (held, stopped, won)] == ["open", "stop", "target"]
    contract = exchange_orders.contract_of(INSTRUMENT | {"symbol": SYMBOL}, is_hedge=False)
    sent = exchange_orders.stop(contract, "s", 1, 99.71), exchange_orders.target(contract, "t", 1, 100.62)
    assert [dict(each.parameters)["workingType"] for each in sent] == ["MARK_PRICE", "CONTRACT_PRICE"]


def test_d10_a_callback_that_the_exchange_does_not_have_is_refused_everywhere(both):
    """callbackRate = bps / 1e4, which the exchange rejects, against callbacks of 2 to 15 bps that fill."""
    for callback_bps, reason in ((6.0, "callback_bps 6 is under 10"), (450.0, "callback_bps 450 is above 400")):
        config = with_params(callback_bps=callback_bps)
        for trade in (both, lambda config: engine.backtest(config, quiet_bars(), min_coverage=0.0)):
            with pytest.raises(ValueError, match=reason):
                trade(config)
    contract = exchange_orders.contract_of(INSTRUMENT | {"symbol": SYMBOL}, is_hedge=False)
    sent = exchange_orders.trailing(contract, "r", 1, contract.quantity(0.5), 10.0, 100.22)
    assert dict(sent.parameters)["callbackRate"] == "0.1"  # percent


def test_d11_the_stop_stays_beside_the_trailing_order_which_arms_within_a_bar(both):
    """Stop beside trailing order, armed by a tick, against a stop that the callback replaces, armed by a bar."""
    armed = {"exec_high": 100.3, "exec_close": 100.3, "exec_low": 100.25, "exec_open": 100.25}  # activation: 100.22
    on_top = {"exec_open": 100.3, "exec_high": 100.3, "exec_low": 100.3, "exec_close": 100.3}
    [stopped] = both(planted={HEAVY + 2: armed, HEAVY + 3: on_top | {"exec_mark_low": 99.0}})
    assert stopped["reason"] == "stop"
    [trailed] = both(planted={HEAVY + 2: {"exec_high": 100.3, "exec_close": 100.1}})
    assert (trailed["reason"], trailed["exit_time"]) == ("trailing", stopped["exit_time"].replace(minute=52))
    assert trailed["exit_price"] == pytest.approx(100.3 * (1 - 1e-3) * (1 - 1e-4), abs=1e-9)


def test_d12_a_gain_at_opening_lowers_no_floor(both):
    """max(0, opening loss) against the raw one, which may be negative."""
    floor_bps = 2 * 4.0 + 1.0 / 8.0  # two fees and an hour of 1 bps per 8 h
    assert breakeven_floor_bps(4.0, -3.0, 1.0, 8.0) == floor_bps
    [trade] = both(with_params(activation_bps=0.0), {HEAVY: {"mark_price": 100.05}})  # bought 4 bps under the mark
    wanted = 100.01 * (1 + (floor_bps + 0.5) / 1e4)
    assert trade["activation_price"] == math.ceil(wanted * 100) / 100 == 100.1


def test_d13_the_fee_is_the_configs_and_an_account_that_pays_another_enters_nothing(both):
    """4 bps of a command line against 4 bps of a file, slippage 0: neither asked the account."""
    with pytest.raises(TypeError, match="taker_fee_bps"):
        Costs(slippage_bps=0.5, latency_ms=150, maker_fee_bps=0.0)
    [trade] = both(replace(CONFIG, costs=replace(CONFIG.costs, taker_fee_bps=3.5, slippage_bps=0.5)), A_STOP)
    turnover_usdt = 0.5 * (trade["entry_price"] + trade["exit_price"])
    assert trade["fees_usdt"] == pytest.approx(turnover_usdt * 3.5 / 1e4, abs=1e-9)
    assert trade["entry_price"] == pytest.approx(100.01 * (1 + 0.5 / 1e4), abs=1e-9)
    for fee_bps, level in ((4.0, Level.ACTIVE), (3.5, Level.REDUCING)):
        assert level_on_an_account_that_pays(fee_bps) is level


def test_d14_a_signal_while_holding_changes_nothing(both):
    """Signals are ignored in a position against an exit and a reversal with an order of twice the size."""
    against = {HEAVY + 2: DOWN}
    assert [trade["side"] for trade in both(planted={HEAVY: {"volume": QUIET}} | against)] == [-1]  # it is a signal
    [trade] = both(planted=against)
    assert (trade["side"], trade["reason"], row_of(trade)) == (1, "open", HEAVY)


@pytest.mark.parametrize(("cooldown_bars", "second"), [(2, HEAVY + 5), (3, HEAVY + 6)])
def test_d15_both_cool_down_after_an_exit(both, cooldown_bars, second):
    """Ten minutes against none."""
    higher = {"open": 100.5, "high": 101.0, "low": 100.5, "close": 101.0, "volume": 120.0}
    paused = replace(CONFIG, orders=replace(CONFIG.orders, cooldown_bars=cooldown_bars))
    listed = both(paused, A_STOP | {HEAVY + 5: AGAIN, HEAVY + 6: higher})
    assert [row_of(trade) for trade in listed] == [HEAVY, second]


def test_d16_both_keep_the_same_hours_and_a_start_needs_no_warming_up(both):
    """No entries from 23:00, flat at 23:50, down, then blind for up to an hour, against trading around the clock."""
    kept = [replace(CONFIG, orders=replace(CONFIG.orders, entry_hours=hours)) for hours in ((23,), (22, 0))]
    assert [len(both(config)) for config in kept] == [1, 0]  # it is 23:49
    [trade] = both()  # and it is held over midnight
    assert trade["exit_time"].hour == 0
    began_ms = FIRST_MS + 20_000
    history_bars = (FIRST_MS - first_open_ms(CONFIG, began_ms)) // MINUTE_MS
    assert history_bars >= CONFIG.params["volume_window_bars"] - 1  # asked for before the first bar that is heard


def test_d17_the_daily_limit_stops_both_and_what_only_an_account_knows_is_on_record(both, recorded, tmp_path):
    """A daily blocker of 5 % and a margin kill against neither."""
    once_more = A_STOP | {20: AGAIN, 35: AGAIN}  # before midnight and after
    assert [row_of(trade) for trade in both(planted=once_more)] == [HEAVY, 20]
    limited = replace(CONFIG, orders=replace(CONFIG.orders, max_daily_loss_usdt=0.2))  # the stop costs 0.25
    assert [row_of(trade) for trade in both(limited, once_more)] == [HEAVY, 35]
    seat = on_recording(CONFIG, recorded(CONFIG, quiet_bars()))
    seat.desk.gate = lambda time_ms, notional_usdt: "HALTED: margin"
    with Journal(tmp_path / "halted.sqlite") as journal:
        run([seat], journal)
    told = read_journal(tmp_path / "halted.sqlite").filter(pl.col("kind").is_in(["decision", "missed"]))
    assert told["kind"].to_list() == ["decision", "missed"]
    assert json.loads(told["body"][1])["cause"] == "HALTED: margin"


def test_d18_a_size_is_a_notional_rounded_up_and_never_compounds(both):
    """A fixed notional, steps rounded up, against everything there is of 100 USDT, compounding, unrounded."""
    first, second = both(planted=A_STOP | {HEAVY + 5: AGAIN})
    assert first["net_pnl_usdt"] < 0.0
    assert first["quantity"] == second["quantity"] == 0.5  # 50 USDT at 100.01 are 0.49995
    small = replace(CONFIG, orders=replace(CONFIG.orders, notional_usdt=1.0))
    assert [trade["quantity"] for trade in both(small)] == [0.05]  # the exchange's minimum is 5 USDT


def test_d19_a_symbol_trades_beside_others_as_it_does_alone(both, replayed):
    """Five symbols on one balance against each with its own."""
    pairs = [(plain_config(symbol=name), quiet_bars(A_STOP, symbol=name)) for name in ("BNBUSDT", "ETHUSDT")]
    path, _ = replayed(*pairs)
    for config, _ in pairs:
        assert trades(path, config.config_hash, config.symbol).to_dicts() == both(config, A_STOP)


def test_d20_funding_is_paid_by_both(both):
    """Paid against never charged."""
    due = {HEAVY + 3: {"funding_per_unit": 0.01}}
    [long], [short] = both(planted=due), both(planted=due, side=-1)
    assert (long["funding_usdt"], short["funding_usdt"]) == (0.5 * 0.01, -0.51 * 0.01)
    assert long["net_pnl_usdt"] == long["gross_pnl_usdt"] - long["fees_usdt"] - long["funding_usdt"]


def test_d21_an_order_that_the_market_has_left_is_missed_by_both(both):
    """Filled in part or not at all against always in full, without latency."""
    filled, missed = ({HEAVY: {"exec_bid": 100.0, "exec_ask": ask}} for ask in (100.03, 100.04))
    assert [trade["entry_price"] for trade in both(planted=filled)] == [100.03]  # two ticks beyond the touch
    assert both(planted=missed) == []


def test_d22_a_bar_that_cannot_be_leaves_the_window_unknown_to_both(both):
    """A variance of 0 against NaN for the window."""
    broken = {HEAVY - 3: {"high": 99.0, "low": 100.0}}
    assert both(planted=broken) == []
    assert len(both(planted={HEAVY - 5: broken[HEAVY - 3]})) == 1  # outside the window of five
    arrays = features.arrays_of(quiet_bars(broken))
    assert np.isnan(features.compute(arrays, ["volatility_bps_5"])["volatility_bps_5"][HEAVY - 3 : HEAVY + 2]).all()


def test_d23_a_row_that_is_not_known_stays_a_row(both, recorded):
    """Nothing of the kind against rows with any NaN dropped, their neighbours then taken for consecutive."""
    bars = quiet_bars({5: a_gap(), 8: {"funding_rate": np.nan}, 9: {"bid_price": np.nan}})
    told = [event for event in recorded(CONFIG, bars).events() if isinstance(event, (BarClosed, Gap))]
    assert [event.row.open_ms for event in told] == [FIRST_MS + MINUTE_MS * row for row in range(bars.frame.height)]
    assert [isinstance(event, Gap) for event in told] == [row == 5 for row in range(bars.frame.height)]
    assert len(both(planted={5: a_gap()})) == 1 and both(planted={HEAVY - 8: a_gap()}) == []  # in the ten of the volume


@pytest.mark.parametrize(("volatility", "volume"), [(3, 7), (7, 13), (15, 4)])
def test_d24_both_take_any_window(both, volatility, volume):
    """Any T and V against 10, 30 and 60."""
    windows = {"volatility_window_bars": float(volatility), "volume_window_bars": float(volume)}
    assert [row_of(trade) for trade in both(with_params(**windows))] == [HEAVY]
    mean = (LOUD + QUIET * (volume - 1)) / volume
    heaviest = [with_params(**windows, volume_multiple=LOUD / mean + sign * 1e-6) for sign in (-1, 1)]
    assert [len(both(config)) for config in heaviest] == [1, 0]


def test_d25_a_stale_quote_lets_nothing_in(both):
    """The last quote at a poll against one of any age."""
    assert [len(both(planted={HEAVY: {"quote_age_ms": age}})) for age in (2_000.0, 2_001.0)] == [1, 0]
    assert [len(both(planted={HEAVY: {"mark_age_ms": age}})) for age in (3_000.0, 3_001.0)] == [1, 0]
    quote = Quote(FIRST_MS * NS_PER_MS, 1, FIRST_MS, 99.99, 1.0, 100.01, 1.0)
    rows = KnownRows(INSTRUMENT | {"funding_interval_hours": 8.0}, None, MINUTE_MS)
    assert rows.row(FIRST_MS, FIRST_MS + 2_001, None, quote, None, None, {})["quote_age_ms"] == 2_001.0


@pytest.mark.parametrize(("side", "levels"), [(1, (99.71, 100.62, 100.22)), (-1, (100.28, 99.39, 99.79))])
def test_d26_levels_lie_on_the_grid_the_same_way_for_either_side(both, side, levels):
    """Target and stop rounded down, whichever side, against not rounded: 99.70997 and 100.61006 of a long."""
    [trade] = both(side=side)
    assert tuple(trade[name] for name in ("stop_price", "target_price", "activation_price")) == levels
    contract = exchange_orders.contract_of(INSTRUMENT | {"symbol": SYMBOL}, is_hedge=False)
    stop = dict(exchange_orders.stop(contract, "s", side, trade["stop_price"]).parameters)
    assert stop["stopPrice"] == str(levels[0])


def test_d27_what_trades_is_what_was_swept_and_every_config_of_the_grid_can_be_executed(promoted):
    """A config that was in no grid against a ranking, in sample, of 6,561 others."""
    path = promoted(CONFIG)
    assert load_chosen(path).config == CONFIG
    path.write_text(path.read_text().replace("momentum_multiple = 1.0", "momentum_multiple = 12.0"))
    with pytest.raises(ValueError, match="it was edited after promotion; promote again"):
        load_chosen(path)
    assert "it is not approved" in refused(load_chosen(promoted(CONFIG)))[0]
    ends = product(*({min(values), max(values)} for values in momentum.GRID.values()))
    corners = [with_params(**dict(zip(momentum.GRID, corner, strict=True))) for corner in ends]
    assert not any(engine.refusals(config, INSTRUMENT) for config in corners)
