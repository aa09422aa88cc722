"""Routes of what the lake tells: maps, signals, liquidations, open interest, coverage, recorders, health."""

from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response

from live.dashboard import answers, maps, market, views
from live.dashboard.maps import Filters
from live.dashboard.watch import State

if TYPE_CHECKING:
    from live.dashboard.app import Desk

_SYMBOL = r"^[A-Z0-9]{1,40}$"
_LATEST_MS = 4_102_444_800_000  # 2100

Symbol = Annotated[str, Path(pattern=_SYMBOL, examples=["BTCUSDT"])]
OneSymbol = Annotated[str | None, Query(pattern=_SYMBOL, examples=["BTCUSDT"])]
Source = Annotated[
    Literal["aster", "binance", "hyperliquid", "okx", "force_orders", "hybrid"] | None,
    Query(description="whose open interest the map is made of; the first of these that the lake has"),
]
Wanted = Annotated[float, Query(ge=0.0, le=1e15)]

_CLUSTER = {
    "cluster_id": 128, "side": "long", "state": "ACTIVE", "active": True, "price_level": 61482.0,
    "price_lo": 61206.0, "price_hi": 61759.3, "distance_from_price": 0.754, "dist_bps": -75.4,
    "open_interest": 265451.6, "leverage_tier": 56.8, "strength": 0.85, "confidence": None,
}  # fmt: skip
_MAP_EXAMPLE = {
    "symbol": "BTCUSDT", "available": True, "reason": None, "source": "aster", "current_price": 61949.2, "count": 1,
    "clusters": [_CLUSTER],
}  # fmt: skip
_SIGNAL_EXAMPLE = {
    "venue": "aster",
    "signals": {
        "BTCUSDT": {
            "symbol": "BTCUSDT", "signal": "LONG", "entry_price": 89175.1, "stop_loss": 87387.0,
            "take_profit": 89874.2, "confidence": None, "risk_reward": 0.39,
            "reason": "Strong short liquidation cluster at $89,427 (strength: 0.85, OI: $3.5M by aster)",
            "compact": {"dir": "LONG", "entry": 89175.1, "sl": 87387.0, "tp": 89874.2, "conf": None, "rr": 0.39},
        }
    },
    "omitted": {"XAUUSDT": "no open interest of XAUUSDT at aster in the lake"},
}  # fmt: skip


def _example(content: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": content}}}, 404: {"description": "no lake"}}


def lake_routes(desk: "Desk") -> APIRouter:
    """Everything that is read from the lake."""
    routes = APIRouter(tags=["lake"])

    @routes.get("/api/heatmap", responses=_example(["BTCUSDT"]))
    async def mapped() -> list[str]:
        """Symbols that the lake has a map of."""
        return await desk.brief(("mapped",), lambda: maps.symbols(desk.lake))

    @routes.get("/api/heatmap/{symbol}", responses=_example(_MAP_EXAMPLE))
    async def heatmap(
        symbol: Symbol,
        source: Source = None,
        side: Literal["long", "short"] | None = None,
        min_strength: Annotated[float, Query(ge=0.0, le=1.0)] = 0.0,
        max_distance: Annotated[float, Query(ge=0.0, le=100.0, description="per cent of the mark")] = 100.0,
        min_open_interest: Wanted = 0.0,
        min_leverage: Wanted = 0.0,
        max_leverage: Wanted = 1_000.0,
        active: bool | None = None,
        is_intact: Annotated[bool, Query(description="leave out what is broken or gone")] = True,
    ) -> dict[str, Any]:
        """The clusters of the newest map that pass all filters, strongest first (prior-art 002)."""
        filters = Filters(
            side=side, min_strength=min_strength, max_distance=max_distance, min_open_interest=min_open_interest,
            min_leverage=min_leverage, max_leverage=max_leverage, active=active, is_intact=is_intact,
        )  # fmt: skip
        return await clusters(symbol, source, filters)

    @routes.get("/api/heatmap/{symbol}/best", responses=_example({**_MAP_EXAMPLE, "best": _CLUSTER}))
    async def best(
        symbol: Symbol,
        source: Source = None,
        side: Literal["long", "short"] | None = None,
        max_distance: Annotated[float, Query(ge=0.0, le=100.0, description="per cent of the mark")] = 100.0,
    ) -> dict[str, Any]:
        """The one strongest cluster; null where none passes (prior-art 002)."""
        told = await clusters(symbol, source, Filters(side=side, max_distance=max_distance))
        return {**told, "clusters": told["clusters"][:1], "best": next(iter(told["clusters"]), None)}

    async def clusters(symbol: str, source: str | None, filters: Filters) -> dict[str, Any]:
        make = partial(maps.clusters, desk.lake, symbol, source, filters)
        return await desk.brief(("clusters", symbol, source, filters), make)

    @routes.get("/api/heatmap/{symbol}/picture", responses=_example({"symbol": "BTCUSDT", "available": False}))
    async def picture(
        symbol: Symbol, source: Source = None, days: Annotated[int, Query(ge=1, le=30)] = 1
    ) -> dict[str, Any]:
        """The map of the last days, small enough to be drawn: colour classes by price row and time column."""
        make = partial(maps.picture, desk.lake, symbol, source, days)
        return await desk.long(("picture", symbol, source, days), make)

    @routes.get("/api/liquidations")
    async def liquidations(
        symbol: OneSymbol = None,
        since_ms: Annotated[int | None, Query(ge=0, le=_LATEST_MS)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> list[answers.Liquidation]:
        """Forced orders of everybody, newest first; at most one per symbol and second is told (prior-art 001)."""
        make = partial(market.liquidations, desk.lake, symbol, views.moment(since_ms), limit)
        return await desk.brief(("liquidations", symbol, since_ms, limit), make)

    @routes.get("/api/signals", responses=_example(_SIGNAL_EXAMPLE))
    async def signals() -> dict[str, Any]:
        """The newest signal of each symbol; those without one that still holds are left out with their reason
        (prior-art 000's batch of 002's objects)."""
        return await desk.brief(("signals",), lambda: market.signals(desk.lake, datetime.now(UTC)))

    @routes.get("/api/stats", response_model=answers.Stats)
    async def stats() -> Response:
        """How trading went (prior-art 001) and how much open interest there is (prior-art 002)."""
        watch = desk.watch
        held = views.positions(watch.book, watch.pulse.marks, watch.now_ms)
        states = await desk.brief(("open interest",), partial(maps.open_interest, desk.lake)) if desk.has_lake else []
        totals = [state["total_oi_usd"] for state in states if state["total_oi_usd"] is not None]
        told = answers.Stats(
            performance=views.performance(watch.book, held, watch.now_ms),
            open_interest=[_open_interest(state) for state in states],
            total_oi_usd=sum(totals) if totals else None,
        )
        return _as_json(told)

    @routes.get("/api/coverage")
    async def coverage(
        symbol: OneSymbol = None, days: Annotated[int, Query(ge=1, le=90)] = 14
    ) -> list[dict[str, int | float | str | bool | date | datetime | None]]:
        """How complete the lake's last days are by table, symbol and day, most damaged first."""
        return await desk.long(("coverage", symbol, days), partial(market.coverage_rows, desk.lake, symbol, days))

    @routes.get("/api/recorders")
    async def recorders() -> list[answers.Recorder]:
        """How the recorders of the lake are; empty where there is no lake, or nothing was ever recorded into it."""
        return await desk.brief(("recorders",), desk.recorders.look) if desk.has_lake else []

    @routes.get("/api/health", response_model=answers.Health)
    async def health() -> Response:
        """Whether everything that should live does."""
        told = await recorders()
        runner = views.runner(desk.watch, desk.commands.are_taken)
        troubles = [f"recorder {each.number}: {sentence}" for each in told for sentence in each.trouble]
        troubles += [f"recorder {each.number} is {each.state}" for each in told if each.state in ("killed", "failed")]
        if runner.state != State.RUNNING:
            troubles.insert(0, f"the runner is not running: {runner.state}")
        if runner.reason is not None:
            troubles.insert(0, f"the runner is {runner.level}: {runner.reason}")
        seen = answers.Health(
            is_well=not troubles,
            runner=runner,
            recorders=told,
            lake=str(desk.place.lake) if desk.has_lake else None,
            troubles=troubles,
        )
        return _as_json(seen)

    return routes


def _as_json(told: answers.Answer) -> Response:
    """Checked when it was made; FastAPI would check it again."""
    return Response(told.model_dump_json(), media_type="application/json")


def _open_interest(state: dict[str, Any]) -> answers.OpenInterest:
    return answers.OpenInterest(time=state["ts"], **{name: state[name] for name in _OPEN_INTEREST})


_OPEN_INTEREST = (
    "symbol", "source", "total_oi_usd", "long_oi_usd", "short_oi_usd", "long_short_ratio", "ratio_source",
    "placed_share",
)  # fmt: skip
