// Lists beside the charts: slippage, recorder, signals, liquidations, events, and all trades.
import { byId, el, keyed, say, svg } from "./dom.js";
import { age, bps, clock, moment, number, own, price, significant, usdt, UNKNOWN } from "./format.js";

const FEW = 20;
const MOST_EVENTS = 200;

export const paintSlippage = (rows) => {
  const known = rows.flatMap((row) => [row.model_bps, row.low_bps, row.high_bps]).filter((each) => each !== null);
  const low = Math.min(0, ...known);
  const high = Math.max(1, ...known);
  const x = (value) => `${4 + (92 * (value - low)) / (high - low)}%`;
  const axis = { symbol: "", ticks: [0, 1, 2, 5, 10, 20, 50].filter((each) => each <= high).slice(-3) };
  keyed(byId("slippage"), [...rows, axis], (row) => row.symbol,
    () => el("div", { class: "dumbbell" }, el("span"), svg("svg", { role: "img" }), el("span", { class: "right" })),
    (node, row) => {
      const [name, drawing, text] = node.children;
      if (row.ticks) {
        drawing.setAttribute("aria-hidden", "true");
        drawing.replaceChildren(...row.ticks.map((each) => svg("text", { x: x(each), y: 12, "text-anchor": "middle" }, String(each))));
        return;
      }
      say(name, row.symbol);
      const difference = row.median_bps === null || row.model_bps === null ? null : row.median_bps - row.model_bps;
      say(text, row.entries < FEW ? `n ${row.entries} < ${FEW}` : `${bps(difference, true)} · n ${number(row.entries, 0)}`);
      node.classList.toggle("few", row.entries < FEW);
      drawing.setAttribute("aria-label", `${row.symbol}: model ${bps(row.model_bps)} bps, median of ${row.entries} entries ${bps(row.median_bps)} bps`);
      const line = (from, to, width) => svg("line", { x1: x(from), x2: x(to), y1: 13, y2: 13, stroke: "var(--ink)", "stroke-width": width });
      drawing.replaceChildren(
        svg("line", { x1: x(0), x2: x(0), y1: 0, y2: 26, stroke: "var(--grid)" }),
        ...(row.median_bps === null ? [] : [line(row.low_bps, row.high_bps, 1), line(row.model_bps, row.median_bps, 2)]),
        svg("circle", { cx: x(row.model_bps), cy: 13, r: 5, fill: "var(--surface)", stroke: "var(--ins)", "stroke-width": 2 }),
        ...(row.median_bps === null ? [] : [svg("circle", { cx: x(row.median_bps), cy: 13, r: 5, fill: row.entries < FEW ? "var(--ins)" : "var(--ink)" })]),
      );
    });
};

export const paintRecorders = (recorders) => {
  const place = byId("recorder");
  const symbols = new Set(recorders.flatMap((each) => each.symbols));
  const open = recorders.reduce((sum, each) => sum + each.connected, 0);
  say(byId("recorder-note"), recorders.length ? `${symbols.size} ${symbols.size === 1 ? "symbol" : "symbols"}, ${open} ${open === 1 ? "socket" : "sockets"}, ${recorders.map((each) => each.state).join(", ")}` : "");
  if (!recorders.length) {
    place.replaceChildren(el("p", { class: "empty" }, "No recorder has run on this lake; start one with aster record."));
    return;
  }
  if (!place.querySelector("table")) {
    const headings = [["Stream", ""], ["per s", "right"], ["60 min", "right optional"], ["last", "right"], ["gaps", "right"]];
    place.replaceChildren(
      el("table", {}, el("thead", {}, el("tr", {}, headings.map(([text, align]) => el("th", { scope: "col", class: align }, text)))), el("tbody")),
      el("p", { class: "note" }));
  }
  const streams = recorders.flatMap((each) => each.streams.map((stream) => ({ ...stream, key: `${each.number}-${stream.name}` })));
  keyed(place.querySelector("tbody"), streams, (each) => each.key,
    () => el("tr", {}, el("th", { scope: "row" }), el("td", { class: "right" }), el("td", { class: "optional" }, svg("svg", { class: "spark", "aria-hidden": "true" })), el("td", { class: "right" }), el("td", { class: "right" }, el("span"))),
    (node, each) => {
      const [name, rate, spark, last, gaps] = node.children;
      say(name, each.name);
      say(rate, number(each.per_s, each.per_s !== null && each.per_s < 10 ? 1 : 0));
      say(last, each.silent_s === null ? UNKNOWN : age(each.silent_s));
      say(gaps.firstChild, each.gaps_lost ? `! ${each.gaps_lost} lost` : String(each.gaps_open));
      gaps.firstChild.className = each.gaps_lost || each.gaps_open ? "chip warn" : "";
      const most = Math.max(1, ...each.per_minute);
      const points = each.per_minute.map((count, at) => `${(64 * at) / 59},${17 - (15 * count) / most}`).join(" ");
      spark.firstChild.replaceChildren(svg("polyline", { points, fill: "none", stroke: "var(--muted)" }));
    });
  const lags = recorders.map((each) => each.lag_p99_ms).filter((each) => each !== null);
  const lag = lags.length ? `Arrival lag p99 ${number(Math.max(...lags), 0)} ms. ` : "";
  say(place.lastChild, lag + recorders.flatMap((each) => [...each.trouble, ...each.notices]).join(" "));
};

export const paintSignals = (batch) => {
  const place = byId("signals");
  const signals = Object.values(batch.signals);
  const rows = signals.map((each) => [each.symbol, each.signal, each.compact ? `${significant(each.entry_price)} → ${significant(each.take_profit)}, stop ${significant(each.stop_loss)}` : each.reason]);
  const omitted = Object.entries(batch.omitted).map(([symbol, reason]) => [symbol, UNKNOWN, reason]);
  const all = [...rows, ...omitted];
  if (!all.length) place.replaceChildren(el("p", { class: "empty" }, "No signal is stored in the lake; run aster signals."));
  else place.replaceChildren(el("table", {}, el("tbody", {}, all.map(([symbol, word, text]) => el("tr", {},
    el("th", { scope: "row" }, symbol),
    el("td", { class: word === "LONG" ? "long" : word === "SHORT" ? "short" : "" }, word === "LONG" ? "▲ long" : word === "SHORT" ? "▼ short" : word.toLowerCase()),
    el("td", { class: "note" }, text))))));
};

export const paintLiquidations = (orders) => {
  const place = byId("liquidations");
  if (!orders.length) {
    place.replaceChildren(el("p", { class: "empty" }, "No liquidation is recorded in this lake."));
    return;
  }
  if (!place.querySelector("table")) {
    const headings = [["UTC", ""], ["Symbol", ""], ["Closed", ""], ["Price", "right"], ["USDT", "right"]];
    place.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, headings.map(([text, align]) => el("th", { scope: "col", class: align }, text)))), el("tbody")));
  }
  keyed(place.querySelector("tbody"), orders, (each) => `${each.time}${each.symbol}${each.price}${each.quantity}`,
    (each) => el("tr", {}, el("td", {}, clock(each.time)), el("td", {}, each.symbol), el("td", {}, each.closed === "long" ? "▼ long" : "△ short"),
      el("td", { class: "right" }, own(each.price)), el("td", { class: "right" }, usdt(each.usdt))),
    () => undefined);
};

export class Events {
  // One that comes while the earlier ones are being fetched is there before them: each has its place by its number.
  add(event) {
    if (!event.is_shown) return;
    const list = byId("events");
    let next = list.firstElementChild;
    while (next && Number(next.dataset.seq) > event.seq) next = next.nextElementSibling;
    if (next && Number(next.dataset.seq) === event.seq) return;
    list.insertBefore(el("li", { class: "new", "data-seq": event.seq }, el("time", { datetime: event.time }, clock(event.time)),
      el("div", {}, event.symbol ? el("b", {}, event.symbol) : null, event.symbol ? el("br") : null, event.text)), next);
    while (list.children.length > MOST_EVENTS) list.lastChild.remove();
  }

  clear() {
    byId("events").replaceChildren();
  }
}

export const paintAlerts = (troubles) =>
  keyed(byId("alerts"), troubles, (each) => each, (each) => el("li", {}, el("span", { class: "chip warn" }, "!"), " ", el("span", {}, each)), () => undefined);

const COLUMNS = [
  ["number", "#", "right", (each) => number(each.number, 0)],
  ["exit_time", "Exit, UTC", "", (each) => moment(each.exit_time)],
  ["symbol", "Symbol", "", (each) => each.symbol],
  ["side", "Side", "", (each) => (each.side === "long" ? "▲ long" : "▼ short")],
  ["quantity", "Quantity", "right", (each) => own(each.quantity)],
  ["entry_price", "Entry", "right", (each, ticks) => price(each.entry_price, ticks[each.symbol])],
  ["exit_price", "Exit", "right", (each, ticks) => price(each.exit_price, ticks[each.symbol])],
  ["reason", "Reason", "", (each) => each.reason],
  ["fees_usdt", "Fees", "right", (each) => usdt(each.fees_usdt)],
  ["funding_usdt", "Funding", "right", (each) => usdt(each.funding_usdt, true)],
  ["net_usdt", "Net, USDT", "right", (each) => usdt(each.net_usdt, true)],
];
const ROW_PX = 28;
const BEYOND = 8; // rows above and below what the window shows, so that a short scroll finds them there
const SHOWN = 16 + 2 * BEYOND;

const ranked = (values) => {
  const places = new Map([...new Set(values)].sort().map((value, place) => [value, place]));
  return Float64Array.from(values, (value) => places.get(value));
};

// What a column is sorted by: numbers, whatever it holds; what is unknown stands below everything.
const keysOf = (rows, name) => {
  const values = rows.map((row) => row[name]);
  if (name.endsWith("_time")) return Float64Array.from(values, (value) => Date.parse(value));
  if (typeof values[0] === "string") return ranked(values);
  return Float64Array.from(values, (value) => value ?? -Infinity);
};

// All closed trades; only a window of rows is ever in the page, and its rows are written over.
export class Trades {
  rows = [];
  ticks = {};
  #order = ["number", -1];
  #sorted = [];
  #keys = new Map();

  constructor() {
    this.before = gap();
    this.after = gap();
    this.shown = Array.from({ length: SHOWN }, () => el("tr", {}, COLUMNS.map(([, , align]) => el("td", { class: align }))));
    this.body = el("tbody", {}, this.before, this.shown, this.after);
    this.buttons = COLUMNS.map(([name, text]) => el("button", { type: "button", class: "sort", click: () => this.sort(name) }, text));
    this.window = el("div", { class: "window", tabindex: "0", role: "region", "aria-label": "All trades" },
      el("table", {}, el("thead", {}, el("tr", {}, COLUMNS.map(([, , align], place) => el("th", { scope: "col", class: align }, this.buttons[place])))), this.body));
    this.window.addEventListener("scroll", () => this.#paint(), { passive: true });
  }

  add(trades) {
    this.rows.push(...trades);
    this.#keys.clear();
    this.#arrange();
  }

  clear() {
    this.rows = [];
    this.#keys.clear();
    this.#arrange();
  }

  sort(name) {
    this.#order = [name, this.#order[0] === name ? -this.#order[1] : -1];
    this.window.scrollTop = 0;
    this.#arrange();
  }

  #arrange() {
    const place = byId("trades");
    if (!this.rows.length) {
      place.replaceChildren(el("p", { class: "empty" }, "No trade has ended yet."));
      say(byId("trades-note"), "");
      return;
    }
    if (!place.contains(this.window)) place.replaceChildren(this.window);
    const [name, direction] = this.#order;
    if (!this.#keys.has(name)) this.#keys.set(name, keysOf(this.rows, name));
    const keys = this.#keys.get(name);
    this.#sorted = Uint32Array.from(this.rows.keys()).sort((a, b) => direction * (keys[a] - keys[b]) || b - a);
    COLUMNS.forEach(([key], at) => {
      const heading = this.buttons[at].parentNode;
      if (key === name) heading.setAttribute("aria-sort", direction < 0 ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
    say(byId("trades-note"), `${number(this.rows.length, 0)} closed, by ${COLUMNS.find(([key]) => key === name)[1].toLowerCase()} ${direction < 0 ? "↓" : "↑"}`);
    this.#paint();
  }

  #paint() {
    const first = Math.max(0, Math.min(Math.floor(this.window.scrollTop / ROW_PX) - BEYOND, this.#sorted.length - SHOWN));
    this.shown.forEach((line, at) => {
      const row = this.rows[this.#sorted[first + at]];
      line.hidden = row === undefined;
      if (row === undefined) return;
      COLUMNS.forEach(([name, , , text], place) => {
        const cell = line.children[place];
        say(cell, text(row, this.ticks));
        if (name === "side") cell.className = row.side;
      });
    });
    this.before.firstChild.style.height = `${first * ROW_PX}px`;
    this.after.firstChild.style.height = `${Math.max(0, this.#sorted.length - first - SHOWN) * ROW_PX}px`;
  }
}

const gap = () => el("tr", { class: "gap", "aria-hidden": "true" }, el("td", { colspan: COLUMNS.length }));
