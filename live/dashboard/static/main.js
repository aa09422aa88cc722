// The first page: what comes over the stream is kept here and painted a few times a second at most.
import { ask, byId } from "./dom.js";
import { EquityChart } from "./charts.js";
import { Commands, token } from "./commands.js";
import { Link } from "./link.js";
import { LiquidationMap } from "./map.js";
import { paintPositions, paintSums } from "./positions.js";
import { paintBanner, paintHeader, paintTiles, verdict } from "./status.js";
import { Events, paintAlerts, paintLiquidations, paintRecorders, paintSignals, paintSlippage, Trades } from "./tables.js";

const PAINT_MS = 250;
const LAKE_MS = 5000;
const SIGNALS_MS = 30000;
const EVENTS_SHOWN = 1000;

const view = { link: null, seen: null, fresh: false, may: false };
const commands = new Commands();
const events = new Events();
const trades = new Trades();
const equity = new EquityChart();
const map = new LiquidationMap();

let paintedAt = -PAINT_MS;
let isDue = false;

const paint = () => {
  isDue = false;
  if (document.hidden) return;
  paintedAt = performance.now();
  const { link, seen } = view;
  view.fresh = verdict(view).fresh;
  view.may = token() !== null && link.state === "live" && Boolean(seen?.runner.takes_commands);
  paintHeader(view);
  paintBanner(view);
  paintTiles(view);
  paintActions(seen);
  if (seen === null) return;
  paintPositions(view, (symbol) => commands.open("close", symbol));
  paintSums(seen);
  paintSlippage(seen.slippage);
  map.own(seen.positions);
};

const soon = () => {
  if (isDue) return;
  isDue = true;
  setTimeout(() => requestAnimationFrame(paint), Math.max(0, paintedAt + PAINT_MS - performance.now()));
};

const paintActions = (seen) => {
  const pause = byId("pause");
  const isOpen = seen === null || seen.runner.level === "ACTIVE";
  pause.textContent = isOpen ? "Pause entries" : "Resume…";
  const why = token() === null ? "Open the link that aster-dashboard printed to act" : seen?.runner.takes_commands === false ? "This runner takes no commands from here" : "";
  for (const button of [pause, byId("flatten")]) {
    button.disabled = !view.may;
    button.title = why;
  }
};

// Closed trades and the curve made of them: only what is new is fetched.
let isFetching = false;
const fetchTrades = async () => {
  if (isFetching || view.seen === null || view.seen.performance.since_start.trades === trades.rows.length) return;
  isFetching = true;
  try {
    if (view.seen.performance.since_start.trades < trades.rows.length) trades.clear();
    const told = await ask(`/api/trades?after=${trades.rows.length}&limit=20000`);
    trades.ticks = view.seen.runner.tick_sizes;
    trades.add(told.trades);
    equity.show((await ask("/api/equity")).points);
  } catch {
    // The stream says that the server is away; this is asked again with its next pulse.
  } finally {
    isFetching = false;
  }
};

const fetchEvents = async (head) => {
  events.clear();
  const told = await ask(`/api/events?after=${Math.max(0, head - EVENTS_SHOWN)}&limit=${EVENTS_SHOWN}`).catch(() => []);
  told.forEach((event) => events.add(event));
};

const quietly = (path, show) => ask(path).then(show).catch(() => undefined);

// Everything of the lake; without one nothing is asked, and the page says so.
let hasMap = false;
const showLake = (health) => {
  paintAlerts(health.troubles);
  paintRecorders(health.recorders);
  if (health.lake === null) {
    map.say("There is no lake here; start aster-dashboard with --lake FOLDER.");
    paintSignals({ signals: {}, omitted: {} });
    paintLiquidations([]);
    return;
  }
  quietly("/api/liquidations?limit=8", paintLiquidations);
  if (performance.now() - signalsAt > SIGNALS_MS) {
    signalsAt = performance.now();
    quietly("/api/signals", paintSignals);
  }
  if (!hasMap) map.start();
  hasMap = true;
};

let signalsAt = -SIGNALS_MS;
const fetchLake = () => {
  if (!document.hidden && view.link.state === "live") quietly("/api/health", showLake);
};

view.link = new Link({
  pulse: (overview) => {
    const isFirst = view.seen === null || view.seen.runner.epoch !== overview.runner.epoch;
    view.seen = overview;
    if (isFirst) {
      trades.clear();
      equity.show([]);
      fetchEvents(overview.runner.head);
      fetchLake();
    }
    fetchTrades();
    soon();
  },
  journal: (event) => {
    events.add(event);
    commands.hear(event);
  },
  resync: () => {
    trades.clear();
    if (view.seen) fetchEvents(view.seen.runner.head);
  },
  changed: soon,
});

byId("pause").addEventListener("click", () => commands.open(view.seen.runner.level === "ACTIVE" ? "pause" : "resume"));
byId("flatten").addEventListener("click", () => commands.open("flatten"));
document.addEventListener("visibilitychange", soon);
setInterval(soon, 1000);
setInterval(fetchLake, LAKE_MS);

const redraw = () => {
  equity.redraw();
  map.redraw();
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let resized = null;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(redraw, 150);
});
