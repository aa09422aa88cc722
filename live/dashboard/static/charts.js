// What both charts share: axes in the page's colours, UTC, a cursor for the keyboard; and the equity chart.
import { byId, colour, el, say } from "./dom.js";
import { clock, day, moment, number, usdt } from "./format.js";

export const utc = (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC");
const isNarrow = () => innerWidth < 700;

export const timeAxis = (isShown = true) => ({
  stroke: () => colour("muted"),
  grid: { stroke: () => colour("grid"), width: 1 },
  ticks: { show: false },
  font: "11px Inter, Segoe UI, Roboto, Arial, sans-serif",
  size: isShown ? 24 : 4,
  space: isNarrow() ? 70 : 90,
  values: (plot, splits, at, space, step) => splits.map((each) => (!isShown ? "" : step >= 86400 ? day(each * 1e3) : clock(each * 1e3).slice(0, 5))),
});

export const valueAxis = (label, text) => ({
  stroke: () => colour("muted"),
  grid: { stroke: () => colour("grid"), width: 1 },
  ticks: { show: false },
  font: "11px Inter, Segoe UI, Roboto, Arial, sans-serif",
  labelFont: "11px Inter, Segoe UI, Roboto, Arial, sans-serif",
  label: isNarrow() ? null : label,
  labelSize: isNarrow() ? 0 : 18,
  size: 58,
  values: (plot, splits) => splits.map(text),
});

// Arrow keys move the cursor of a focused chart; what is under it is read out.
export const listenToKeys = (place, plots, read) => {
  place.tabIndex = 0;
  place.setAttribute("role", "application");
  place.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    const [first] = plots();
    if (!step || !first) return;
    event.preventDefault();
    const times = first.data[0];
    const now = first.cursor.idx ?? times.length - 1;
    const next = Math.min(times.length - 1, Math.max(0, now + step));
    plots().forEach((plot) => plot.setCursor({ left: plot.valToPos(times[next], "x"), top: 0 }));
    say(byId("reading"), read(next));
  });
};

export class EquityChart {
  #plots = [];
  #points = [];
  #width = 0;

  constructor() {
    listenToKeys(byId("equity"), () => this.#plots, (at) => this.#read(at));
    byId("equity").setAttribute("aria-label", "Equity and drawdown; arrow keys move along time");
  }

  show(points) {
    this.#points = points;
    this.draw();
  }

  draw() {
    const place = byId("equity");
    if (this.#points.length < 2) {
      this.#plots = [];
      place.replaceChildren(el("p", { class: "empty" }, "Not enough closed trades for a curve."));
      say(byId("equity-note"), "");
      return;
    }
    const times = this.#points.map(([time]) => time / 1e3);
    const net = this.#points.map(([, value]) => value);
    let peak = 0;
    const drawdown = net.map((value) => value - (peak = Math.max(peak, value)));
    const data = [[times, net], [times, drawdown]];
    if (this.#plots.length && this.#width === place.clientWidth) {
      this.#plots.forEach((plot, at) => plot.setData(data[at]));
    } else {
      this.#plots.forEach((plot) => plot.destroy());
      this.#width = place.clientWidth;
      place.replaceChildren();
      const common = { width: this.#width, tzDate: utc, legend: { show: false }, cursor: { sync: { key: "equity" }, y: false, drag: { x: true, y: false } } };
      const stepped = uPlot.paths.stepped({ align: 1 });
      const money = (value) => number(value, Math.max(...net.map(Math.abs)) < 20 ? 1 : 0);
      this.#plots = [
        new uPlot({
          ...common, height: 180, axes: [timeAxis(false), valueAxis("net, USDT", money)],
          series: [{}, { stroke: () => colour("ink"), width: 1.6, paths: stepped, points: { show: false } }],
        }, data[0], place),
        new uPlot({
          ...common, height: 96, axes: [timeAxis(), valueAxis("drawdown", money)],
          series: [{}, { stroke: () => colour("ins"), fill: () => colour("grid"), width: 1, paths: stepped, points: { show: false } }],
        }, data[1], place),
      ];
    }
    const worst = Math.min(...drawdown);
    say(byId("equity-note"), `Now ${usdt(net.at(-1), true)} USDT after fees and funding, worst drawdown ${usdt(worst)} USDT, ${day(times[0] * 1e3)} ${clock(times[0] * 1e3).slice(0, 5)} to ${day(times.at(-1) * 1e3)} ${clock(times.at(-1) * 1e3).slice(0, 5)} UTC.`);
  }

  redraw() {
    this.#width = 0;
    this.draw();
  }

  #read(at) {
    const [time, net] = this.#points[at];
    return `${moment(time)} UTC, net ${usdt(net, true)} USDT`;
  }
}
