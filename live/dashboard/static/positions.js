// Open positions, each with a ladder from its stop to its target.
import { byId, el, keyed, say, svg } from "./dom.js";
import { age, bps, clock, decimalsOf, number, price, usdt, UNKNOWN } from "./format.js";

const HEADINGS = [
  ["symbol", "Symbol", ""], ["quantity", "Quantity", "right"], ["entry", "Entry", "right"], ["mark", "Mark", "right"],
  ["stop", "Stop", "right"], ["target", "Target", "right"], ["ladder", "stop · ○ entry · ▼ mark · target", "right"],
  ["unrealised", "Unrealised", "right"], ["age", "Open for", "right"], ["close", "", "right"],
];

export const paintPositions = (view, onClose) => {
  const { seen, fresh } = view;
  const place = byId("positions");
  say(byId("positions-note"), seen.runner.mode === "real" ? "stops are read back from the exchange" : "stops lie at the paper broker");
  if (!seen.positions.length) {
    const last = seen.last_trade;
    const before = last ? `Last exit ${clock(last.exit_time)}, ${last.symbol}, ${usdt(last.net_usdt, true)} USDT net.` : "No trade yet.";
    const next = seen.runner.level !== "ACTIVE" ? " Entries are off." : seen.next_decision ? ` Next decision at ${clock(seen.next_decision).slice(0, 5)} UTC.` : "";
    if (!place.querySelector(".empty")) place.replaceChildren(el("p", { class: "empty" }));
    say(place.firstChild, `No open position. ${before}${next}`);
    return;
  }
  if (!place.querySelector("table")) place.replaceChildren(table());
  keyed(place.querySelector("tbody"), seen.positions, (each) => each.trade_id, (each) => row(each, onClose), (node, each) => update(node, each, fresh, view.may));
};

const table = () =>
  el("table", { class: "many", role: "table" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
      HEADINGS.map(([name, text, align]) => el("th", { class: `${align} c-${name}`, scope: "col", role: "columnheader" },
        text || el("span", { class: "away" }, "Command"))))),
    el("tbody", { role: "rowgroup" }));

const row = (position, onClose) =>
  el("tr", { role: "row" }, HEADINGS.map(([name, text, align]) => {
    const attributes = { class: `${align} c-${name}`, role: "cell", "data-heading": text };
    if (name === "symbol") return el("th", { ...attributes, scope: "row", role: "rowheader" }, el("b"), " ", el("span"), el("span", { class: "sub" }));
    if (name === "close") {
      return el("td", { class: "right c-close", role: "cell" },
        el("button", { type: "button", class: "small", click: () => onClose(position.symbol), "aria-label": `Close ${position.symbol}` }, "Close…"));
    }
    if (name === "ladder") return el("td", attributes, svg("svg", { class: "ladder", role: "img", viewBox: "0 0 230 34" }));
    return el("td", attributes, el("span"), el("span", { class: "sub" }));
  }));

const update = (node, position, fresh, may) => {
  const tick = position.tick_size;
  const cells = Object.fromEntries(HEADINGS.map(([name], place) => [name, node.children[place]]));
  const put = (name, text, sub = "") => {
    say(cells[name].firstChild, text);
    say(cells[name].lastChild, sub);
  };
  say(cells.symbol.children[0], position.symbol);
  say(cells.symbol.children[1], position.side === "long" ? "▲ long" : "▼ short");
  cells.symbol.children[1].className = position.side;
  say(cells.symbol.children[2], `${position.is_adopted ? "adopted, " : ""}${number(position.notional_usdt, 0)} USDT`);
  put("quantity", number(position.quantity, decimalsOf(position.step_size)));
  put("entry", price(position.entry_price, tick));
  put("mark", price(position.mark_price, tick));
  const proof = position.stop_state !== "held" ? "✕ missing" : fresh ? "✓" : "last seen,";
  put("stop", price(position.stop_price, tick), `${proof} ${bps(position.stop_distance_bps)} bps`);
  cells.stop.firstChild.className = "strong";
  cells.stop.lastChild.className = position.stop_state === "held" ? "sub" : "sub chip over";
  put("target", price(position.target_price, tick), position.target_distance_bps === null ? "" : `${bps(position.target_distance_bps)} bps`);
  put("unrealised", usdt(position.unrealised_usdt, true), `funding ${number(-position.funding_usdt, 2, true)}`);
  cells.unrealised.firstChild.className = "strong";
  put("age", age(position.open_s));
  cells.close.firstChild.disabled = !may;
  ladder(cells.ladder.firstChild, position);
};

// Low price left, high price right; the way from entry to mark is filled by side.
const ladder = (node, { side, stop_price: stop, target_price: target, entry_price: entry, mark_price: mark, tick_size: tick }) => {
  const known = [stop, target, entry, mark].filter((each) => each !== null);
  const low = Math.min(...known);
  const high = Math.max(...known);
  const x = (value) => 8 + (214 * (value - low)) / (high - low || 1);
  const end = (value, isStop) =>
    value === null ? null : svg("rect", { x: x(value) - 2, y: 10, width: 4, height: 20, rx: 1, class: isStop ? "end full" : "end", fill: isStop ? "var(--ink)" : "var(--surface)", stroke: "var(--ink)" });
  node.setAttribute("aria-label", `${side}: stop ${price(stop, tick)}, entry ${price(entry, tick)}, mark ${price(mark, tick)}, target ${price(target, tick)}`);
  node.replaceChildren(...[
    svg("line", { x1: 8, x2: 222, y1: 20, y2: 20, stroke: "var(--rule)", "stroke-width": 2 }),
    mark === null || entry === null ? null : svg("line", { x1: x(entry), x2: x(mark), y1: 20, y2: 20, stroke: `var(--${side})`, "stroke-width": 4 }),
    end(stop, true),
    end(target, false),
    entry === null ? null : svg("circle", { cx: x(entry), cy: 20, r: 4.5, fill: "var(--surface)", stroke: "var(--ink)", "stroke-width": 1.5 }),
    mark === null ? null : svg("path", { d: `M${x(mark) - 6} 4h12l-6 9z`, fill: "var(--ink)" }),
  ].filter((each) => each !== null));
};

export const paintSums = (seen) => {
  const { account, performance } = seen;
  const today = performance.today;
  const held = seen.positions.length;
  const positions = held === 0 ? "no position" : held === 1 ? "1 position" : `${held} positions`;
  sums("today", [
    [`Gross, ${today.trades} exits`, usdt(today.gross_usdt, true)],
    ["Fees", usdt(-today.fees_usdt, true)],
    ["Funding", usdt(-today.funding_usdt, true)],
    ["Net realised", usdt(today.net_usdt, true), "total"],
    [`Unrealised after fees, ${positions}`, usdt(account.unrealised_usdt, true)],
  ]);
  const all = performance.since_start;
  sums("account", [
    ["Balance with unrealised", usdt(account.balance_usdt)],
    ["Available", usdt(account.available_usdt)],
    ["Margin in use", usdt(account.margin_usdt)],
    ["Own fills of 24 h", usdt(account.volume_24h_usdt)],
    [`Net realised, ${number(all.trades, 0)} trades`, usdt(account.realised_usdt, true)],
    ["Winning trades", performance.win_rate === null ? UNKNOWN : `${number(performance.win_rate * 100, 1)}\u202f%`],
    ["Profit factor", number(performance.profit_factor, 2)],
    ["Worst drawdown", usdt(performance.worst_drawdown_usdt)],
  ]);
  say(byId("account-note"), seen.runner.mode === "paper" ? "a paper run has no wallet" : "since the journal began");
};

const sums = (name, rows) =>
  keyed(byId(name), rows.map((row, place) => [place, ...row]), ([place]) => place,
    ([, , , kind]) => el("div", { class: kind ?? "" }, el("dt"), el("dd")),
    (node, [, label, value]) => {
      say(node.firstChild, label);
      say(node.lastChild, value);
    });
