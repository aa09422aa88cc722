"""``aster record`` and ``aster loopback``: the market side of the command line."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.live import Live
from rich.text import Text

from data.recorder_status import ALIVE, Status, read_statuses
from pipelines.options import Seconds, Utc, json_option, lake_folder, lake_option, symbol_list, symbols_option
from pipelines.terminal import ERRORS, output, print_json, print_rows

DEFAULT_CONFIG = Path(__file__).parent / "recorder.toml"
FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)


@click.group(invoke_without_command=True, subcommand_metavar="[status]")
@symbols_option
@click.option("--venue", default="aster", show_default=True, help="aster, loopback, or URL of a loopback exchange.")
@click.option(
    "--streams", default=None, help="Comma-separated: kline,bookTicker,markPrice,aggTrade,depth,forceOrder,trade."
)
@click.option("--depth", "depth_levels", type=click.Choice(["5", "10", "20"]), default=None, help="Levels of the book.")
@click.option("--run-length", type=Seconds(), default=None, help="Stop by itself after this long, such as 15m or 2d.")
@click.option("--flush-interval", type=Seconds(), default=None, help="How long rows wait at most, such as 60s.")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
    help="TOML with the settings; options go before it [pipelines/recorder.toml].",
)  # fmt: skip
@click.option(
    "--metrics-port", type=int, default=None, help="Serve Prometheus metrics on this machine; 0: a free port."
)
@click.option("--verbose", "-v", is_flag=True, help="Say on stderr what happens, line by line.")
@lake_option
@json_option
@click.pass_context
def record(
    context, symbols, venue, streams, depth_levels, run_length, flush_interval, config, metrics_port, verbose,
    lake_path, as_json,
):  # fmt: skip
    """Record the exchange's streams into the lake until Ctrl-C, or for --run-length.

    What arrives goes into a raw log first (LAKE/wal) and from there into the lake's tables every --flush-interval. A
    recorder that was killed has lost nothing it had written: the next one finishes its log. Connections that break
    are made again, and what was missed is asked for. `aster record status` tells from another terminal how it goes.

    Several recorders may share a lake as long as no two record the same stream. What each does is told line by line in
    LAKE/logs.

    --run-length and --flush-interval are time of the exchange: on a loopback exchange it passes as fast as that runs.
    """
    if context.invoked_subcommand:
        return
    import uvloop

    from data.config import load
    from data.recorder import RecorderConfig

    settings = load(RecorderConfig, config or DEFAULT_CONFIG)
    given = {
        "symbols": tuple(symbol_list(symbols)) if symbols else None,
        "streams": tuple(name.strip() for name in streams.split(",")) if streams else None,
        "depth_levels": int(depth_levels) if depth_levels else None,
        "run_length_s": run_length,
        "flush_interval_s": flush_interval,
        "metrics_port": metrics_port,
    }
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    if verbose:
        _say_what_happens()
    with _live_line(_recording_line) as tell:
        status = uvloop.run(_record(settings, venue, lake_folder(lake_path), tell))
    if as_json:
        print_json(asdict(status))
    else:
        print_rows(_by_table(status), f"recorded {', '.join(status.symbols)} into {status.lake}")
        print(_summary(status))
        for trouble in (*status.trouble, *status.notices):
            print(trouble)
    if status.dropped or status.unsealed_bytes:
        sys.exit(1)


async def _record(settings, venue: str, root: Path, tell: Callable[[Status], None]) -> Status:
    from data.clock import FollowedClock, RealClock
    from data.recorder import record as record_streams
    from data.venues.aster import Unavailable, venue_of

    stop = asyncio.Event()
    _on_signals(stop)
    try:
        place = await venue_of(venue)
        clock = FollowedClock() if place.is_loopback else RealClock()
        return await record_streams(settings, place, root, clock, stop=stop, tell=tell)
    except Unavailable as error:
        raise ConnectionError(f"venue {venue}: {error}; is it running?") from error


def _say_what_happens() -> None:
    """The recorder's log on stderr, for people."""
    from data.recorder_logs import LOG, Readable

    handler = logging.StreamHandler()
    handler.setFormatter(Readable())
    LOG.addHandler(handler)


def _on_signals(stop: asyncio.Event) -> None:
    """The first Ctrl-C or SIGTERM asks for a graceful end, the second does not ask."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(sign)
        stop.set()

    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, end)


@record.command("status")
@click.option("--watch", "is_watched", is_flag=True, help="Go on showing it, until Ctrl-C.")
@lake_option
@json_option
@click.pass_context
def status_command(context, is_watched, lake_path, as_json):
    """How the recorders of a lake are doing, or how they ended.

    The exit status is 0 while at least one of them is alive and none is in trouble.
    """
    from pipelines.recorder_view import show, watch

    root = lake_folder(lake_path or context.parent.params["lake_path"])
    statuses = watch(root) if is_watched else read_statuses(root)
    if as_json:
        first, *others = map(asdict, statuses)
        print_json(first | {"others": others} if others else first)
    elif not is_watched:
        show(statuses, output())
    alive = [status for status in statuses if status.state in ALIVE]
    failed = [status for status in statuses if status.state in ("failed", "killed")]
    if not alive or failed or any(status.trouble for status in alive):
        sys.exit(1)


def _by_table(status: Status) -> list[dict]:
    return [{"table": table, "rows landed": rows} for table, rows in status.landed.items()]


def _summary(status: Status) -> str:
    """One line: state, how long, what came, what became of it."""
    parts = [
        f"{status.state}: {status.now[:19]} UTC, {status.seconds:,.0f} s",
        f"{status.total_messages:,} messages ({status.messages_per_second:,.0f}/s)",
        f"{status.total_landed:,} rows landed",
        f"{status.connected} of {status.connections} connections, {status.reconnects} reconnects",
        f"{status.unsealed_bytes / 1e6:,.1f} MB to seal",
        f"{status.gaps_open} gaps to repair",
    ]
    if status.disk_full_in_s is not None:
        parts.append(f"disk full in {status.disk_full_in_s / 3_600:,.0f} h")
    counts = {"conflicts": status.conflicts, "quarantined": status.quarantined, "messages dropped": status.dropped}
    return ", ".join(parts + [f"{count:,} {what}" for what, count in counts.items() if count]) + f", pid {status.pid}"


def _recording_line(status: Status) -> str:
    """The recorder at work, on one line of a terminal."""
    kinds = "  ".join(f"{kind} {count:,}" for kind, count in status.messages.items())
    lag = "" if status.lag_ms is None else f"lag {status.lag_ms:,.0f}, p99 {status.lag_p99_ms:,.0f} ms  "
    full = "" if status.disk_full_in_s is None else f"disk full in {status.disk_full_in_s / 3_600:,.0f} h  "
    line = (
        f"{status.now[:19].replace('T', ' ')}  {status.state}  {status.messages_per_second:,.0f}/s  {lag}"
        f"connections {status.connected} of {status.connections}  reconnects {status.reconnects}  "
        f"gaps {status.gaps_open}  unsealed {status.unsealed_bytes / 1e6:,.1f} MB  {full}{kinds}"
    )
    return "  ".join((line, *status.trouble))


@contextmanager
def _live_line(line_of: Callable[..., str]) -> Iterator[Callable[..., None]]:
    """Yield a function that shows its argument as one line that changes; silent where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda told: None
        return
    with Live(console=ERRORS, transient=True, auto_refresh=False) as live:
        yield lambda told: live.update(Text(line_of(told), no_wrap=True, overflow="ellipsis"), refresh=True)


class Speed(click.ParamType):
    """``max``, or how many times faster than the machine's clock."""

    name = "speed"

    def convert(self, value, param, ctx):
        if value is None or isinstance(value, float):
            return value
        if value == "max":
            return None
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f"expected max, or a factor such as 1 or 60, got {value!r}", param, ctx)
        return speed


@click.command()
@click.option("--symbols", default=None, help="Comma-separated [BTCUSDT,ASTERUSDT; all of a recording].")
@click.option("--start", type=Utc(), default=None, help="UTC; where to begin [2026-01-05, or where the rows begin].")
@click.option("--days", type=float, default=1.0, show_default=True, help="Length of the synthetic market.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the synthetic market.")
@click.option("--market", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
              help="TOML of a synthetic market instead of --symbols, --days, --seed.")  # fmt: skip
@click.option("--recording", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None,
              help="Play what a lake holds instead of a synthetic market.")  # fmt: skip
@click.option("--end", type=Utc(), default=None, help="UTC, exclusive; of a recording.")
@click.option("--speed", type=Speed(), default="1", show_default=True,
              help="Times faster than real, or max: as fast as its clients follow.")  # fmt: skip
@click.option("--faults", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
              help="TOML of what it does wrong; see pipelines/faults.toml.")  # fmt: skip
@click.option("--accounts", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
              help="TOML of its test accounts: how many, deposit, fees, what AccountSettings has.")  # fmt: skip
@click.option("--agent", default=None, help="Address of an agent of yours that may act for the first account too.")
@click.option("--quiet-every", type=float, default=10.0, show_default=True,
              help="Market seconds after which it waits for its followers, who may then trade.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8730, show_default=True, help="REST; 0 for a free one.")
@click.option("--stream-port", type=int, default=0, show_default=True, help="WebSocket; 0 for a free one.")
@json_option
def loopback(
    symbols, start, days, seed, market, recording, end, speed, faults, accounts, agent, quiet_every, host, port,
    stream_port, as_json,
):  # fmt: skip
    """Serve an exchange on this machine that speaks Aster, until Ctrl-C.

    It plays a seeded synthetic market or a lake's recording. `aster record --venue loopback` records it, and
    `aster-live --mode paper --venue loopback` trades on it. It keeps test accounts, whose keys it tells at the start:
    anybody can know them, and nothing is behind them. With --json the first line says where it listens.
    """
    from data.config import load
    from data.loopback.account_settings import AccountSettings
    from data.loopback.faults import Faults

    if recording is not None:
        source = _recorded_source(recording, symbol_list(symbols), start, end)
    else:
        source = _synthetic_source(market, symbol_list(symbols), start, days, seed)
    wrong = None if faults is None else load(Faults, faults)
    settings = AccountSettings() if accounts is None else load(AccountSettings, accounts)
    settings = replace(settings, agent=agent or settings.agent)
    places = {"host": host, "port": port, "stream_port": stream_port}
    manner = {"speed": speed, "quiet_every_s": quiet_every, "faults": wrong, "accounts": settings}
    asyncio.run(_serve(source, as_json, start=start or source.start, **manner, **places))


def _synthetic_source(market: Path | None, symbols: list[str] | None, start: datetime | None, days: float, seed: int):
    from data.config import load
    from data.loopback.tape import SyntheticSource
    from data.synthetic import ALT_LIKE, BTC_LIKE, MarketSpec

    if market is not None:
        return SyntheticSource(load(MarketSpec, market))
    names = symbols or [BTC_LIKE.symbol, ALT_LIKE.symbol]
    specs = tuple(BTC_LIKE if name == BTC_LIKE.symbol else replace(ALT_LIKE, symbol=name) for name in names)
    return SyntheticSource(MarketSpec(symbols=specs, start=start or FIRST_DAY, days=days, seed=seed))


def _recorded_source(recording: Path, symbols: list[str] | None, start: datetime | None, end: datetime | None):
    from data.lake import Lake
    from data.loopback.tape import RecordingSource

    return RecordingSource(Lake(recording), symbols=symbols, start=start, end=end)


async def _serve(source, as_json: bool, *, speed: float | None, **settings) -> None:
    from data.loopback.server import Loopback

    stop = asyncio.Event()
    _on_signals(stop)
    async with Loopback(source, speed=speed, **settings) as exchange:
        keys = [vars(each) for each in exchange.office.keys]
        place = {"rest_url": exchange.rest_url, "stream_url": exchange.stream_url, "symbols": list(source.symbols),
                 "accounts": keys}  # fmt: skip
        if as_json:
            print_json(place)
        else:
            print(f"loopback exchange at {exchange.rest_url}, streams at {exchange.stream_url}")
            print(f"record it with: aster record --venue {exchange.rest_url} --symbols {','.join(source.symbols)}")
            for number, account in enumerate(keys):
                print(f"test account {number}: agent {account['agent']}, its private key {account['private_key']}")
                print(f"  or by V1: key {account['api_key']}, secret {account['api_secret']}")
        sys.stdout.flush()
        with _live_line(_serving_line) as tell:
            while not stop.is_set():
                tell(exchange)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), timeout=0.5)


def _serving_line(exchange) -> str:
    now = datetime.fromtimestamp(exchange.now_ns // 10**9, UTC)
    return f"{now:%Y-%m-%d %H:%M:%S}  {sum(exchange.frames_sent.values()):,} frames sent"
