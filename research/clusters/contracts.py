"""Contracts of the same asset in other multiples: 1000PEPEUSDT is a thousand of what PEPEUSDT is one of."""

import re

_NAME = re.compile(r"(?:(?P<thousands>10{3,})(?=[A-Z])|(?P<million>1M)(?=[A-Z]{3})|(?P<k>k)(?=[A-Z]))?(?P<asset>.+)")


def units(symbol: str) -> float:
    """How many units of its asset a contract is: 1000 for 1000PEPEUSDT and kPEPE, 1e6 for 1MBABYDOGEUSDT, else 1."""
    name = _NAME.fullmatch(symbol)
    if name["thousands"]:
        return float(name["thousands"])
    return 1e6 if name["million"] else 1e3 if name["k"] else 1.0


def asset(symbol: str) -> str:
    """The asset of a contract with its quote: PEPEUSDT for 1000PEPEUSDT."""
    return _NAME.fullmatch(symbol)["asset"]
