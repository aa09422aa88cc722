// The liquidation map: colour classes by price and time, candles of the mark, recorded liquidations, our own levels.
import { ask, byId, colour, el, say } from "./dom.js";
import { brief, clock, day, moment, own, usdt } from "./format.js";
import { listenToKeys, timeAxis, utc, valueAxis } from "./charts.js";

const UNSEEN = 255;
const AHEAD = 0.07; // of the width, for labels right of the present
const EVERY_MS = 60000;

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

export class LiquidationMap {
  #map = null;
  #plot = null;
  #image = null;
  #symbol = null;
  #days = 1;
  #levels = [];
  #mark = null;
  #symbols = [];

  constructor() {
    listenToKeys(byId("map"), () => (this.#plot ? [this.#plot] : []), (at) => this.#read(at));
    byId("map").setAttribute("aria-label", "Liquidation map; arrow keys move along time");
    setInterval(() => document.hidden || this.load(), EVERY_MS);
  }

  async start() {
    try {
      this.#symbols = await ask("/api/heatmap");
    } catch (error) {
      this.say(error.message);
      return;
    }
    this.#symbol = this.#symbols.find((each) => each === this.#symbol) ?? this.#symbols.find((each) => each.startsWith("BTC")) ?? this.#symbols[0];
    if (!this.#symbol) {
      this.say("The lake has no liquidation map; build one with aster clusters --symbol SYMBOL.");
      return;
    }
    this.#choices();
    await this.load();
  }

  async load() {
    if (!this.#symbol) return;
    const [symbol, days] = [this.#symbol, this.#days];
    try {
      const map = await ask(`/api/heatmap/${symbol}/picture?days=${days}`);
      if (symbol === this.#symbol && days === this.#days) this.#take(map);
    } catch (error) {
      if (!this.#map) this.say(error.message);
    }
  }

  // Our own stop and target, and the last mark heard, drawn over the map.
  own(positions) {
    const mine = positions.filter((each) => each.symbol === this.#symbol);
    const levels = mine.flatMap((each) => [["stop", each.stop_price, each.side], ["target", each.target_price, each.side]]).filter(([, at]) => at !== null);
    const mark = mine[0]?.mark_price ?? null;
    if (mark === this.#mark && String(levels) === String(this.#levels)) return; // drawing takes longer than all else on the page
    [this.#levels, this.#mark] = [levels, mark];
    this.#plot?.redraw(false);
  }

  redraw() {
    if (!this.#map) return;
    this.#image = null;
    this.#draw();
  }

  #choices() {
    const spans = [[1, "24 h"], [7, "7 d"], [30, "30 d"]];
    const button = (text, isChosen, choose) => el("button", { type: "button", class: "small", "aria-pressed": String(isChosen), click: choose }, text);
    byId("map-choices").replaceChildren(
      ...this.#symbols.slice(0, 12).map((each) => button(each, each === this.#symbol, () => this.#choose(each, this.#days))),
      el("span", { class: "note" }),
      ...spans.map(([days, text]) => button(text, days === this.#days, () => this.#choose(this.#symbol, days))));
    say(byId("map-title"), `${this.#symbol} liquidation map, ${spans.find(([days]) => days === this.#days)[1]}`);
  }

  #choose(symbol, days) {
    [this.#symbol, this.#days] = [symbol, days];
    this.#choices();
    this.load();
  }

  // Why there is nothing to show.
  say(why) {
    this.#plot?.destroy();
    this.#plot = this.#map = null;
    byId("map").replaceChildren(el("p", { class: "empty" }, why));
    say(byId("map-note"), "");
    byId("map-legend").replaceChildren();
  }

  #take(map) {
    if (!map.available) {
      this.say(map.reason);
      return;
    }
    const bytes = Uint8Array.from(atob(map.classes), (letter) => letter.charCodeAt(0));
    this.#map = { ...map, bytes };
    this.#image = null;
    this.#draw();
    const [low, high] = [map.edges_usdt[0], map.edges_usdt.at(-1)];
    byId("map-legend").replaceChildren(
      el("span", {}, `estimated USDT per ${own(map.row_usdt)} step`), el("span", { class: "ramp", "aria-hidden": "true" }, ...Array.from({ length: 6 }, () => el("i"))),
      el("span", {}, `${brief(low)} – ${brief(high)}+`));
    const share = map.placed_share === null ? "" : `, ${Math.round(map.placed_share * 100)}\u202f% of it placed`;
    say(byId("map-note"), `Estimate from open interest of ${map.source}${share}; colours fixed in USDT; until ${moment(map.until)} UTC. Triangles are recorded liquidations: ▼ long closed, △ short closed (lower bound). Hatched: nobody listened.`);
  }

  #draw() {
    const place = byId("map");
    const map = this.#map;
    const start = map.start_ms / 1e3;
    const span = (map.columns * map.column_ms) / 1e3;
    const times = Array.from({ length: map.columns }, (_, at) => start + ((at + 0.5) * map.column_ms) / 1e3);
    this.#plot?.destroy();
    place.replaceChildren();
    this.#plot = new uPlot({
      width: place.clientWidth,
      height: innerWidth < 700 ? 320 : 430,
      tzDate: utc,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { range: [start, start + span * (1 + AHEAD)] }, y: { range: [map.low_usdt, map.low_usdt + map.rows * map.row_usdt] } },
      axes: [timeAxis(), valueAxis("mark price, USDT", own)],
      series: [{}, { show: true, stroke: "transparent", points: { show: false } }],
      hooks: { drawClear: [(plot) => this.#mass(plot)], draw: [(plot) => this.#above(plot)] },
    }, [times, times.map(() => null)], place);
  }

  // One pixel per cell, stretched without smoothing: a step stays a step.
  #cells() {
    if (this.#image) return this.#image;
    const { columns, rows, bytes } = this.#map;
    const canvas = new OffscreenCanvas(columns, rows);
    const pixels = new ImageData(columns, rows);
    const ramp = [1, 2, 3, 4, 5, 6].map((each) => rgb(colour(`m${each}`)));
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        const kind = bytes[row * columns + column];
        if (kind === 0 || kind === UNSEEN) continue;
        pixels.data.set([...ramp[kind - 1], 255], ((rows - 1 - row) * columns + column) * 4);
      }
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    this.#image = canvas;
    return canvas;
  }

  #mass(plot) {
    const { ctx } = plot;
    const map = this.#map;
    const left = plot.valToPos(map.start_ms / 1e3, "x", true);
    const right = plot.valToPos((map.start_ms + map.columns * map.column_ms) / 1e3, "x", true);
    ctx.save();
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(this.#cells(), left, plot.bbox.top, right - left, plot.bbox.height);
    const width = (right - left) / map.columns;
    ctx.strokeStyle = colour("rule");
    for (let column = 0; column < map.columns; column += 1) {
      if (map.bytes[column] !== UNSEEN) continue;
      const x = left + (column + 0.5) * width;
      ctx.setLineDash([2, 4]);
      ctx.beginPath();
      ctx.moveTo(x, plot.bbox.top);
      ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  #above(plot) {
    const { ctx } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    ctx.clip();
    this.#candles(plot);
    this.#marks(plot);
    this.#lines(plot);
    ctx.restore();
  }

  #candles(plot) {
    const { ctx } = plot;
    const { candles } = this.#map;
    const wide = candles.length > 1 ? (candles[1][0] - candles[0][0]) / 1e3 : 60;
    const pixels = Math.max(1, (plot.valToPos(wide, "x", true) - plot.valToPos(0, "x", true)) * 0.7);
    ctx.strokeStyle = ctx.fillStyle = colour("ink");
    ctx.lineWidth = devicePixelRatio;
    const surface = colour("surface");
    for (const [time, open, high, low, close] of candles) {
      const x = plot.valToPos(time / 1e3 + wide / 2, "x", true);
      const [top, bottom] = [Math.max(open, close), Math.min(open, close)].map((each) => plot.valToPos(each, "y", true));
      ctx.beginPath();
      ctx.moveTo(x, plot.valToPos(high, "y", true));
      ctx.lineTo(x, plot.valToPos(low, "y", true));
      ctx.stroke();
      if (pixels < 2.5) continue;
      ctx.fillStyle = close >= open ? surface : colour("ink");
      ctx.fillRect(x - pixels / 2, top, pixels, Math.max(1, bottom - top));
      ctx.strokeRect(x - pixels / 2, top, pixels, Math.max(1, bottom - top));
    }
  }

  #marks(plot) {
    const { ctx } = plot;
    const most = Math.max(1, ...this.#map.marks.map(([, , sum]) => sum));
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.lineJoin = "round";
    for (const [time, at, sum, closedLong] of this.#map.marks) {
      const size = (3.5 + 6 * Math.sqrt(sum / most)) * devicePixelRatio;
      const x = plot.valToPos(time / 1e3, "x", true);
      const y = plot.valToPos(at, "y", true);
      const way = closedLong ? 1 : -1;
      ctx.beginPath();
      ctx.moveTo(x - size, y - way * size * 0.7);
      ctx.lineTo(x + size, y - way * size * 0.7);
      ctx.lineTo(x, y + way * size * 0.9);
      ctx.closePath();
      ctx.fillStyle = closedLong ? colour("liq") : colour("surface");
      ctx.strokeStyle = closedLong ? colour("surface") : colour("liq");
      ctx.fill();
      ctx.stroke();
    }
  }

  #lines(plot) {
    const { ctx } = plot;
    const { left, width } = plot.bbox;
    const last = this.#mark ?? this.#map.candles.at(-1)?.[4] ?? null;
    ctx.font = `${11 * devicePixelRatio}px Inter, Segoe UI, Roboto, Arial, sans-serif`;
    ctx.lineWidth = devicePixelRatio;
    if (last !== null) {
      const y = plot.valToPos(last, "y", true);
      ctx.strokeStyle = colour("ink");
      ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(left, y);
      ctx.lineTo(left + width, y);
      ctx.stroke();
      ctx.setLineDash([]);
    }
    const labels = last === null ? [] : [[`mark ${own(last)}`, plot.valToPos(last, "y", true)]];
    for (const [name, at, side] of this.#levels) {
      const y = plot.valToPos(at, "y", true);
      ctx.strokeStyle = colour(side);
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(left + width * 0.87, y);
      ctx.lineTo(left + width, y);
      ctx.stroke();
      labels.push([`${name} ${own(at)}`, y]);
    }
    this.#labels(plot, labels);
  }

  // From the top down, each below the one before it: two levels that are close keep both their words.
  #labels(plot, labels) {
    const height = 14 * devicePixelRatio;
    let free = plot.bbox.top + height;
    const { top, height: tall } = plot.bbox;
    for (const [text, y] of labels.filter(([, y]) => y >= top && y <= top + tall).sort(([, a], [, b]) => a - b)) {
      const at = Math.max(y - 2 * devicePixelRatio, free);
      this.#label(plot, text, at);
      free = at + height;
    }
  }

  #label(plot, text, bottom) {
    const { ctx } = plot;
    const x = plot.bbox.left + plot.bbox.width - 4 * devicePixelRatio;
    const wide = ctx.measureText(text).width;
    ctx.fillStyle = colour("surface");
    ctx.fillRect(x - wide - 3 * devicePixelRatio, bottom - 14 * devicePixelRatio, wide + 6 * devicePixelRatio, 14 * devicePixelRatio);
    ctx.fillStyle = colour("ink");
    ctx.textAlign = "right";
    ctx.fillText(text, x, bottom - 3 * devicePixelRatio);
  }

  #read(at) {
    const map = this.#map;
    const time = map.start_ms + (at + 0.5) * map.column_ms;
    const candle = map.candles.findLast(([begin]) => begin <= time);
    const masses = Array.from({ length: map.rows }, (_, row) => map.bytes[row * map.columns + at]);
    if (masses[0] === UNSEEN) return `${day(time)} ${clock(time)} UTC, nobody listened`;
    const row = masses.indexOf(Math.max(...masses));
    const kind = masses[row];
    const most = kind ? `most at ${own(map.low_usdt + (row + 0.5) * map.row_usdt)}, ${usdt(map.edges_usdt[kind - 1])} USDT or more` : "nothing estimated";
    return `${day(time)} ${clock(time)} UTC, mark ${candle ? own(candle[4]) : "unknown"}, ${most}`;
  }
}
