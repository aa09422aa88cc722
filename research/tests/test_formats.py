from datetime import UTC, datetime

import pytest

from research import formats


def test_thousands_are_parted_by_a_narrow_space_and_minus_is_a_real_minus():
    assert formats.number(-1234567.891, 2) == "−1\u202f234\u202f567.89"


def test_what_is_unknown_is_a_dash_and_never_a_zero():
    texts = [show(value) for show in (formats.bps, formats.usdt, formats.percent, formats.count, formats.age)
             for value in (None, float("nan"))]  # fmt: skip
    assert set(texts) == {"–"}


def test_a_value_that_rounds_to_zero_has_no_sign():
    assert formats.usdt(-0.001, signed=True) == "0.00"
    assert formats.bps(0.04) == "0.0"


def test_a_change_says_plus():
    assert formats.bps(1.14) == "+1.1"
    assert formats.usdt(35.69, signed=True) == "+35.69"


def test_a_price_has_the_decimals_of_its_tick():
    assert formats.price(77665.9, 0.1) == "77\u202f665.9"
    assert formats.price(0.5361, 0.00010) == "0.5361"
    assert formats.price(95000.0, 5.0) == "95\u202f000"
    assert formats.quantity(0.041, 0.001) == "0.041"


def test_a_setting_is_told_as_it_was_set_and_never_as_a_power_of_ten():
    settings = (2e6, -10.0, 1.5, 0.25, 1.23456, 51_234.56, 0.0)
    told = ["2\u202f000\u202f000", "−10", "1.5", "0.25", "1.235", "51\u202f235", "0"]
    assert [formats.setting(value) for value in settings] == told
    assert formats.setting(float("nan")) == "–"


def test_large_money_is_shortened():
    assert formats.usdt(99_999.99) == "99\u202f999.99"
    assert formats.usdt(239_000.0) == "239.0\u202fk"
    assert formats.usdt(-3_120_000.0) == "−3.12\u202fM"
    assert formats.usdt(999_990.0) == "1.00\u202fM"


def test_a_fraction_prints_as_percent():
    assert formats.percent(-0.061) == "−6.1\u202f%"


def test_ages_choose_their_unit():
    seconds = [0.4, 42, 59.6, 42 * 60, 3 * 3600 + 8 * 60, 12 * 86400 + 4 * 3600]
    assert [formats.age(one) for one in seconds] == ["0.4 s", "42 s", "1 min", "42 min", "3 h 08 min", "12 d 04 h"]


def test_a_moment_is_utc_to_the_minute():
    assert formats.moment(datetime(2026, 2, 15, 14, 3, tzinfo=UTC)) == "15 Feb 2026 14:03 UTC"


def test_a_tick_of_zero_is_refused():
    with pytest.raises(ValueError, match="above zero"):
        formats.price(1.0, 0.0)
