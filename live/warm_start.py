"""What a runner must know before it listens: the contracts' rules, and the bars that its first decision looks back on.

Bars come from the lake as far as it has them and by REST from there on; what a liquidation map was made of comes from
the lake alone, as nobody tells past open interest. Everything is logged as answers of REST.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.schema import interval_ms
from data.venues.aster import AsterRest
from data.wal import answer
from live.dispatch import first_open_ms, looks_at_map
from live.identity import CHECKOUT
from live.map_feed import MAP_HISTORY
from research.engine import TradingConfig

_CONTRACTS, _INTERVALS, _KLINES = "/fapi/v3/exchangeInfo", "/fapi/v3/fundingInfo", "/fapi/v3/klines"
_MOST_BARS = 1_000  # per request
_SHOWN = 5  # of many contracts


async def warm_start(
    rest: AsterRest, configs: Sequence[TradingConfig], since_ms: int, lake: Path | None
) -> list[bytes]:
    """Payloads of ANSWER records.

    Parameters
    ----------
    since_ms : when listening begins; bars that closed before are history.
    lake : to read bars from; None for REST alone.

    Raises
    ------
    Unavailable
        When the exchange does not answer.
    ValueError
        When it has no such contract or refuses a question, or the lake cannot be read.
    """
    firsts_ms = [first_open_ms(config, since_ms) for config in configs]
    funding = answer(_INTERVALS, {}, since_ms, await rest.get(_INTERVALS))
    rules = await rest.get(_CONTRACTS)
    _refuse_unknown(configs, rules)
    answers = [funding, answer(_CONTRACTS, {}, since_ms, rules, effective_ms=min(firsts_ms))]
    for config, first_ms in zip(configs, firsts_ms, strict=True):
        question = {"symbol": config.symbol, "interval": config.interval}
        length_ms = interval_ms(config.interval)
        if lake is not None:
            span = {"--start-ms": first_ms, "--end-ms": since_ms - length_ms}
            body = await _from_lake(lake, {"--symbol": config.symbol, "--interval": config.interval} | span)
            answers.append(answer(_KLINES, question, since_ms, body))
            first_ms = _first_missing(body, first_ms, length_ms)
        while first_ms + length_ms < since_ms:
            body = await rest.get(_KLINES, **question, startTime=first_ms, limit=_MOST_BARS)
            answers.append(answer(_KLINES, question, since_ms, body))
            opened = [row[0] for row in json.loads(body)]
            if len(opened) < _MOST_BARS:
                break
            first_ms = opened[-1] + length_ms
    if lake is not None:
        for symbol in dict.fromkeys(config.symbol for config in configs if looks_at_map(config)):
            body = await _from_lake(lake, {"--symbol": symbol, "--end-ms": since_ms})
            answers.append(answer(f"/lake/{MAP_HISTORY}", {"symbol": symbol}, since_ms, body))
    return answers


def _refuse_unknown(configs: Sequence[TradingConfig], rules: bytes) -> None:
    """Raise on a config whose contract the exchange does not have."""
    there = [contract["symbol"] for contract in json.loads(rules)["symbols"]]
    for config in configs:
        if config.symbol not in there:
            shown = f"{', '.join(there[:_SHOWN])}{' and more' if len(there) > _SHOWN else ''}"
            raise ValueError(
                f"the config trades {config.symbol}, and this exchange has {shown}: name an exchange that has it, or "
                "promote a config of another symbol"
            )


async def _from_lake(lake: Path, asked: Mapping[str, object]) -> bytes:
    """What the lake holds, read by a child process."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "live.history", "--lake", str(lake.resolve()),
        *(str(part) for pair in asked.items() for part in pair),
        cwd=CHECKOUT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, complained = await child.communicate()
    if child.returncode:
        words = complained.decode(errors="replace").strip().removeprefix("Error: ")
        raise ValueError(f"warm start from the lake: {words}")
    return printed


def _first_missing(body: bytes, first_ms: int, length_ms: int) -> int:
    """Open_time of the first bar that is not there."""
    there = {row[0] for row in json.loads(body)}
    while first_ms in there:
        first_ms += length_ms
    return first_ms
