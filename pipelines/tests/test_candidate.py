"""A candidate beside the promoted config."""

from pipelines.candidate import differences


def test_settings_that_differ_are_told_with_both_values_and_those_that_are_new_with_none():
    promoted = {"interval": "1m", "params": {"stop_bps": 30.0, "target_bps": 60.0}, "orders": {"notional_usdt": 500.0}}
    candidate = {"interval": "1m", "params": {"stop_bps": 45.0, "target_bps": 60}, "orders": {"leverage": 2.0}}
    assert differences(promoted, candidate) == [
        ("stop_bps", "30", "45"),
        ("orders.leverage", "–", "2"),
        ("orders.notional_usdt", "500", "–"),
    ]
    assert differences(promoted, promoted) == []
