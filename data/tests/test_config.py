"""Configuration: what is refused, and how it says so."""

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

from data.config import canonical_json, config_hash, load, parse_utc


class Side(Enum):
    LONG = "long"
    SHORT = "short"


@dataclass(frozen=True, kw_only=True)
class Costs:
    taker_fee_bps: float
    maker_fee_bps: float
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Leg:
    symbol: str
    side: Side = Side.LONG

    def __post_init__(self):
        if not self.symbol:
            raise ValueError("symbol: expected a symbol, got nothing")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    costs: Costs
    start: datetime
    day: date = date(2026, 1, 1)
    lookback_bars: int = 20
    is_dry: bool = True
    executor: Literal["local", "ray"] = "local"
    thresholds: tuple[float, ...] = ()
    band: tuple[int, int] | None = None
    legs: tuple[Leg, ...] = ()
    folder: Path = Path("runs")
    limits: dict[str, float] = dataclasses.field(default_factory=dict)
    extra: Any = None


TOML = """
start = 2026-01-31
day = 2026-02-01
lookback_bars = 5
executor = "ray"
thresholds = [1, 2.5]
band = [1, 2]
folder = "elsewhere"
limits = {BTCUSDT = 3}

[costs]
taker_fee_bps = 4
maker_fee_bps = 1.5

[[legs]]
symbol = "BTCUSDT"
side = "short"
"""
COSTS = {"taker_fee_bps": 4.0, "maker_fee_bps": 1.0}


@pytest.fixture
def sweep_toml(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.toml"
    path.write_text(TOML)
    return path


def complaint(text: str, tmp_path: Path) -> str:
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        load(Sweep, path)
    return str(caught.value)


def test_a_file_becomes_the_dataclass_with_everything_in_its_type(sweep_toml):
    assert load(Sweep, sweep_toml) == Sweep(
        costs=Costs(taker_fee_bps=4.0, maker_fee_bps=1.5),
        start=datetime(2026, 1, 31, tzinfo=UTC),
        day=date(2026, 2, 1),
        lookback_bars=5,
        executor="ray",
        thresholds=(1.0, 2.5),
        band=(1, 2),
        legs=(Leg(symbol="BTCUSDT", side=Side.SHORT),),
        folder=Path("elsewhere"),
        limits={"BTCUSDT": 3.0},
    )


def test_a_whole_number_in_a_float_field_is_a_float(sweep_toml):
    assert isinstance(load(Sweep, sweep_toml).costs.taker_fee_bps, float)


def test_a_time_without_a_zone_is_utc_and_another_zone_is_converted():
    naive = load(Sweep, {"costs": COSTS, "start": datetime(2026, 1, 1, 12)}, "x")
    assert naive.start == datetime(2026, 1, 1, 12, tzinfo=UTC)
    text = load(Sweep, {"costs": COSTS, "start": "2026-01-01T12:00:00+02:00"}, "x")
    assert text.start == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert text.start.tzinfo is UTC


def test_a_misspelt_key_is_refused_with_its_section_and_the_nearest_name(tmp_path):
    found = complaint("start = 2026-01-31\n[costs]\ntaker_fee_bp = 4\nmaker_fee_bps = 1", tmp_path)
    assert found == "sweep.toml [costs]: unknown key 'taker_fee_bp'; did you mean taker_fee_bps?"


def test_a_key_like_no_other_is_refused_with_the_known_ones(tmp_path):
    found = complaint("start = 2026-01-31\n[costs]\nzzz = 4", tmp_path)
    assert found == "sweep.toml [costs]: unknown key 'zzz'; known keys: taker_fee_bps, maker_fee_bps, note"


def test_money_without_a_number_is_refused(tmp_path):
    found = complaint("start = 2026-01-31\n[costs]\ntaker_fee_bps = 4", tmp_path)
    assert found == "sweep.toml [costs]: missing key 'maker_fee_bps'; it has no default"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('lookback_bars = "5"', "lookback_bars: expected a whole number, got the text '5'"),
        ("lookback_bars = 5.0", "lookback_bars: expected a whole number, got the number 5.0"),
        ("lookback_bars = true", "lookback_bars: expected a whole number, got true"),
        ("is_dry = 1", "is_dry: expected true or false, got the number 1"),
        ('executor = "dask"', "executor: expected one of 'local', 'ray', got the text 'dask'"),
        ("thresholds = 1", "thresholds: expected an array, got the number 1"),
        ("thresholds = [nan]", "[thresholds]: 0: expected a finite number, got the number nan"),
        ("band = [1, 2, 3]", "band: expected an array of 2, got the array [1, 2, 3]"),
        ("day = 2026-01-01T00:00:00", "day: expected a date, got the datetime datetime.datetime(2026, 1, 1, 0, 0)"),
        ('day = "soon"', "day: expected an ISO date, got the text 'soon'"),
        ("folder = 3", "folder: expected a path, got the number 3"),
        ("limits = 3", "limits: expected a table of keys, got the number 3"),
        ('legs = [{symbol = "A", side = "up"}]', "[legs.0]: side: expected one of 'long', 'short', got the text 'up'"),
        ('legs = [{symbol = ""}]', "[legs.0]: symbol: expected a symbol, got nothing"),
        ("legs = [3]", "[legs.0]: expected a table of keys, got the number 3"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_place(line, expected, tmp_path):
    whole = f"start = 2026-01-31\n{line}\n[costs]\ntaker_fee_bps = 4\nmaker_fee_bps = 1"
    assert complaint(whole, tmp_path).removeprefix("sweep.toml").lstrip(": ") == expected


def test_text_that_is_no_toml_is_refused_with_the_file(tmp_path):
    assert complaint("start = ", tmp_path).startswith("sweep.toml: not TOML: ")


def test_a_mapping_is_named_by_the_caller():
    with pytest.raises(ValueError, match=r"^chosen \[costs\]: missing key 'taker_fee_bps'"):
        load(Sweep, {"costs": {}, "start": "2026-01-01"}, "chosen")


def test_canonical_json_sorts_keys_and_keeps_every_digit():
    class Point(NamedTuple):
        x: float
        y: int

    value = {"b": Point(0.1, 2), "a": [Side.LONG, None, True], "t": datetime(2026, 1, 1, tzinfo=UTC), "p": Path("a/b")}
    assert canonical_json(value) == (
        b'{"a":["long",null,true],"b":{"x":0.1,"y":2},"p":"a/b","t":"2026-01-01T00:00:00+00:00"}'
    )


def test_canonical_json_of_a_config_reads_back_as_the_same_config(sweep_toml):
    sweep = load(Sweep, sweep_toml)
    assert load(Sweep, json.loads(canonical_json(sweep)), "again") == sweep


def test_numpy_numbers_hash_like_python_numbers():
    assert config_hash({"a": np.int64(3), "b": np.float64(0.5)}) == config_hash({"b": 0.5, "a": 3})


def test_the_hash_changes_with_the_value_only():
    one = config_hash(Costs(taker_fee_bps=4.0, maker_fee_bps=1.0))
    assert one == config_hash(Costs(maker_fee_bps=1.0, taker_fee_bps=4.0))
    assert one != config_hash(Costs(taker_fee_bps=4.5, maker_fee_bps=1.0))
    assert len(one) == 64


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_numbers_without_json_are_refused(value):
    with pytest.raises(ValueError, match="finite"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: 2}, {3}, datetime(2026, 1, 1), b"x"])
def test_values_without_a_canonical_form_are_refused(value):
    with pytest.raises(TypeError, match="canonical JSON"):
        canonical_json(value)


def test_utc_text_is_read_with_or_without_a_zone():
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_utc("2026-01-31T12:00") == noon
    assert parse_utc("2026-01-31T12:00:00Z") == noon
    assert parse_utc(" 2026-01-31T13:00+01:00 ") == noon
    assert parse_utc("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)


def test_text_that_is_no_time_is_refused_with_an_example():
    with pytest.raises(ValueError, match="such as 2026-01-31"):
        parse_utc("yesterday")
