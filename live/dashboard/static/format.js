// Numbers and times as people read them; the same digits, spaces and signs as research/formats.py.
const NARROW = "\u202f";
const MINUS = "\u2212";
export const UNKNOWN = "\u2013";

export const number = (value, decimals, signed = false) => {
  if (value === null || value === undefined || Number.isNaN(value)) return UNKNOWN;
  const [whole, rest] = Math.abs(value).toFixed(decimals).split(".");
  const digits = whole.replace(/\B(?=(\d{3})+$)/g, NARROW) + (rest ? `.${rest}` : "");
  if (!/[1-9]/.test(digits)) return digits;
  return (value < 0 ? MINUS : signed ? "+" : "") + digits;
};

export const usdt = (value, signed = false) => {
  if (value === null || value === undefined || Math.abs(value) < 99999.995) return number(value, 2, signed);
  const large = Math.abs(value) >= 999950;
  return number(value / (large ? 1e6 : 1e3), large ? 2 : 1, signed) + NARROW + (large ? "M" : "k");
};

// Money in a legend: 200 k, 10 M.
export const brief = (value) => (value >= 1e6 ? `${own(value / 1e6)}${NARROW}M` : value >= 1e3 ? `${own(value / 1e3)}${NARROW}k` : own(value));

export const bps = (value, signed = false) => number(value, 1, signed);

export const decimalsOf = (step) => {
  const [digits, power] = step.toExponential().split("e");
  return Math.max(0, (digits.split(".")[1] || "").length - Number(power));
};
export const price = (value, tick) => number(value, tick ? decimalsOf(tick) : 2);

export const significant = (value) => {
  if (value === null || value === undefined) return UNKNOWN;
  return number(value, value === 0 ? 0 : Math.max(0, 5 - Math.floor(Math.log10(Math.abs(value)))));
};

// A quantity or price whose step is not at hand: its own digits, at most seven of them.
export const own = (value) => (value === null || value === undefined ? UNKNOWN : number(value, decimalsOf(Number(value.toPrecision(7)) || 1)));

export const age = (seconds) => {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${seconds.toFixed(0)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  const all = Math.round(seconds / 3600);
  return `${Math.floor(all / 24)} d ${String(all % 24).padStart(2, "0")} h`;
};

export const milliseconds = (value) => (value === null || value === undefined ? UNKNOWN : `${number(value, 0, true)} ms`);

export const clock = (time) => (time ? new Date(time).toISOString().slice(11, 19) : UNKNOWN);
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
export const day = (time) => {
  const date = new Date(time);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
};
export const moment = (time) => (time ? `${day(time)} ${clock(time)}` : UNKNOWN);
