"""Routes of the runner's state, the stream, commands and configs."""

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Header, HTTPException, Query, Response
from sse_starlette import EventSourceResponse

from live import journal as journals
from live.dashboard import answers, stream, views, words
from live.dashboard.candidate import Checked, Configs, Edited, plain
from live.dashboard.commands import Plan, Taken, Wanted
from live.dashboard.journal_reader import Event
from live.dashboard.metrics import CONTENT_TYPE, metrics_text

if TYPE_CHECKING:
    from live.dashboard.app import Desk

MOST_CLIENTS = 200
_LARGEST = 2**53  # that JSON numbers keep
_TRADES_AT_ONCE = 20_000
_HEARTBEAT_S = 15
_GIVE_UP_S = 30.0  # on a client that takes nothing any more

After = Annotated[int, Query(ge=0, le=_LARGEST, description="number of the last one that is known already")]


def state_routes(desk: "Desk") -> APIRouter:
    """Everything that needs no lake."""
    routes = APIRouter(tags=["runner"])
    watch = desk.watch

    def positions() -> list[answers.Position]:
        return views.positions(watch.book, watch.pulse.marks, watch.now_ms)

    def tell(event: Event) -> answers.Event:
        ticks = {symbol: run.instrument["tick_size"] for (_, symbol), run in watch.book.runs.items()}
        return words.event(event, ticks)

    @lru_cache(maxsize=1_000)  # told to every page that listens
    def told(epoch: int, seq: int) -> str:
        (event,) = watch.after(seq - 1, 1)
        return tell(event).model_dump_json()

    @routes.get("/api/overview", response_model=answers.Overview)
    async def overview() -> Response:
        """All of the page's first screen, of one moment."""
        return Response(desk.overview_json(), media_type="application/json")

    @routes.get("/api/positions", response_model=list[answers.Position])
    async def open_positions() -> Response:
        """Open positions with the stop that protects each (prior-art 001)."""
        return desk.state("positions", positions)

    @routes.get("/api/account", response_model=answers.Account)
    async def account() -> Response:
        """Balance, profit and loss, exposure (prior-art 001)."""
        return desk.state("account", lambda: views.account(watch, positions()))

    @routes.get("/api/trades")
    async def trades(after: After = 0, limit: Annotated[int, Query(ge=1, le=_TRADES_AT_ONCE)] = 500) -> answers.Trades:
        """Closed trades after a number, as they were booked (prior-art 001)."""
        closed = watch.book.closed
        return answers.Trades(total=len(closed), trades=[views.trade(row) for row in closed[after : after + limit]])

    @routes.get("/api/equity", response_model=answers.Equity)
    async def equity() -> Response:
        """Net of closed trades over time."""
        return desk.state("equity", lambda: views.equity(watch.book))

    @routes.get("/api/orders", response_model=list[answers.Order])
    async def orders(
        state: Annotated[Literal["open", "ended"], Query(description="ended: the last 500")] = "open",
    ) -> Response:
        """Our orders, oldest first."""
        found = watch.book.orders.values() if state == "open" else watch.book.ended
        return desk.state(f"orders {state}", lambda: [views.order(each) for each in found])

    @routes.get("/api/events")
    async def events(after: After = 0, limit: Annotated[int, Query(ge=1, le=1_000)] = 200) -> list[answers.Event]:
        """Events of the journal after a number, in order."""
        return [tell(event) for event in watch.after(after, limit)]

    @routes.get(
        "/api/stream",
        response_class=EventSourceResponse,
        responses={200: {"content": {"text/event-stream": {"example": "id: 42\nevent: journal\ndata: {}\n\n"}}}},
    )
    async def listen(
        after: Annotated[int | None, Query(ge=0, le=_LARGEST)] = None,
        last_event_id: Annotated[str | None, Header(pattern=r"^\d{1,15}$")] = None,
    ) -> EventSourceResponse:
        """Server-sent events: `journal` with the event's number as id, `pulse` with the overview, `resync`."""
        if desk.clients >= MOST_CLIENTS:
            raise HTTPException(503, f"{MOST_CLIENTS} pages listen already; close some")
        known = after if last_event_id is None else int(last_event_id)

        async def sent():
            desk.clients += 1
            try:
                async for event in stream.events(
                    watch, known, lambda event: told(watch.epoch, event.seq), lambda: desk.overview_json().decode()
                ):
                    yield event
            finally:
                desk.clients -= 1

        return EventSourceResponse(sent(), ping=_HEARTBEAT_S, send_timeout=_GIVE_UP_S)

    @routes.get("/api/parity")
    async def parity() -> answers.Parity:
        """Whether the journal is what it was, event for event, and how fills differ from what the config assumes."""
        head, problem = await asyncio.to_thread(_chain, desk)
        return answers.Parity(
            events=watch.book.head,
            chain_head=head,
            is_chain_sound=problem is None,
            reason=problem,
            slippage=views.slippage(watch.book),
        )

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE: {}}}})
    async def metrics() -> Response:
        """Figures for Prometheus."""

        def told() -> bytes:
            seen = answers.Overview.model_validate_json(desk.overview_json())
            return metrics_text(seen, desk.clients).encode()

        return Response(desk.once("metrics", told), media_type=CONTENT_TYPE)

    @routes.post("/api/commands", responses={403: {"description": "not confirmed as asked"}})
    async def command(wanted: Wanted) -> Plan | Taken:
        """In two steps: without `confirm`, what it would do; with it, the command is left for the runner."""
        if wanted.confirm is not None:
            return await asyncio.to_thread(desk.commands.take, wanted)
        open_orders = [views.order(each) for each in watch.book.orders.values()]
        return desk.commands.plan(wanted, positions(), open_orders, lambda each: views.closing_cost(watch.book, each))

    def running() -> list[answers.Config]:
        return [
            answers.Config(
                config_hash=run.config_hash,
                symbol=run.symbol,
                mode=run.mode,
                resolution=run.resolution,
                started=views.moment(run.start_ms),
                assumptions=list(run.assumptions),
                config=plain(run.config),
            )
            for run in watch.book.runs.values()
        ]

    def check(edited: Edited) -> Checked:
        base = next((each for each in running() if each.config_hash == edited.based_on), None)
        symbol = edited.config.get("symbol")
        run = next((run for run in watch.book.runs.values() if run.symbol == symbol), None)
        return desk.candidate.check(edited, base, {} if run is None else run.instrument)

    @routes.get("/api/config")
    async def configs() -> Configs:
        """What runs, by its hash, and the candidate that was saved last (prior-art 001)."""
        return await asyncio.to_thread(desk.candidate.configs, running())

    @routes.post("/api/config/check")
    async def check_candidate(edited: Edited) -> Checked:
        """What is wrong with a candidate, and what it changes."""
        return check(edited)

    @routes.post("/api/config")
    async def save_candidate(edited: Edited) -> Checked:
        """Write the candidate's file. What runs is not touched: start `aster-live --config` with it (prior-art 001)."""
        return await asyncio.to_thread(desk.candidate.save, edited, check(edited))

    return routes


def _chain(desk: "Desk") -> tuple[str | None, str | None]:
    """Hash of the journal's last event, and what is wrong with its chain."""
    try:
        return journals.read_journal(desk.place.journal)["hash"].last(), None
    except (LookupError, ValueError, OSError) as error:
        return None, str(error)
