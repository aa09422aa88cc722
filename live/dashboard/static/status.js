// Header, banner and tiles: what runs, whether what is shown is fresh, and whether it is safe.
import { byId, el, keyed, say } from "./dom.js";
import { age, clock, milliseconds, number, UNKNOWN, usdt } from "./format.js";

const WORDS = { running: "Running", silent: "Running, market silent", stopped: "Stopped", "no journal": "No journal yet" };

// What the page may claim: a tick needs fresh proof.
export const verdict = (view) => {
  const { link, seen } = view;
  if (!seen) return { word: link.state === "loading" ? "Connecting" : "Unknown", dot: "○", fresh: false };
  if (link.state === "disconnected") return { word: "Unknown", dot: "○", fresh: false };
  if (link.state === "stale") return { word: `${stateWord(seen.runner)}, view stale`, dot: "○", fresh: false };
  const isFresh = seen.runner.state === "running";
  return { word: stateWord(seen.runner), dot: seen.runner.level === "ACTIVE" && isFresh ? "●" : "■", fresh: isFresh };
};

const stateWord = (runner) => {
  if (runner.state !== "running" || runner.level === "ACTIVE") return WORDS[runner.state] ?? runner.state;
  return runner.level === "HALTED" ? "Halted" : "Exits only";
};

export const paintHeader = (view) => {
  const { link, seen } = view;
  const { word, dot } = verdict(view);
  const mode = seen?.runner.mode ?? null;
  say(byId("mode"), mode ? mode.toUpperCase() : "…");
  byId("mode").classList.toggle("real", mode === "real");
  say(byId("state-word"), word);
  say(byId("state-dot"), dot);
  document.title = `${mode ? mode.toUpperCase() : "Aster"} · ${word}`;
  const known = seen && link.state !== "disconnected";
  const hash = seen?.runner.config_hashes.map((each) => each.slice(0, 7)).join(", ");
  const heard = known && seen.runner.heard_age_s !== null ? seen.runner.heard_age_s + (link.silentSeconds ?? 0) : null;
  const facts = [
    ["last event", age(heard), ""],
    ["config", hash || UNKNOWN, "wide"],
    ["up", known ? age(seen.runner.up_s) : UNKNOWN, "wide"],
    ["clock offset", known ? milliseconds(seen.runner.clock_offset_ms) : UNKNOWN, "wide"],
    ["UTC", seen ? clock(seen.runner.now) : UNKNOWN, ""],
  ];
  keyed(
    byId("facts"), facts, ([name]) => name,
    ([name, , kind]) => el("div", { class: kind }, el("dt", {}, name), el("dd")),
    (node, [, value]) => say(node.lastChild, value),
  );
};

export const paintBanner = (view) => {
  const { link, seen } = view;
  const told = bannerOf(link, seen);
  const node = byId("banner");
  node.hidden = told === null;
  document.body.classList.toggle("old", seen !== null && !verdict(view).fresh);
  document.body.classList.toggle("loading", seen === null);
  if (told === null) return;
  const [kind, role, strong, rest] = told;
  node.className = `banner ${kind}`;
  if (node.getAttribute("role") !== role) node.setAttribute("role", role);
  // Only a change is announced; the countdown inside would be read out every second.
  if (node.dataset.kind !== kind + strong) {
    node.dataset.kind = kind + strong;
    node.replaceChildren(el("strong", {}, strong), el("span", { "aria-live": "off" }));
  }
  say(node.lastChild, ` ${rest}`);
};

const bannerOf = (link, seen) => {
  const at = seen ? `${clock(seen.runner.now)} UTC` : UNKNOWN;
  if (link.state === "loading" && link.retryAt !== null) {
    return ["cut", "alert", "No connection.", `Next try in ${link.retrySeconds} s. To act now: aster-live ctl flatten on the host, or the exchange.`];
  }
  if (link.state === "disconnected") {
    const next = link.retryAt === null ? "trying now" : `next try in ${link.retrySeconds} s`;
    return ["cut", "alert", "Disconnected.", `No connection to the dashboard; ${next}. Values are from ${at}. To act: aster-live ctl flatten on the host, or the exchange.`];
  }
  if (seen === null) return null;
  if (link.state === "stale") {
    return ["warn", "status", "Stale.", `Nothing received for ${Math.floor(link.silentSeconds)} s. Every number below is from ${at}. ${protects(seen)}`];
  }
  const { runner } = seen;
  if (runner.state === "no journal" && runner.reason) return ["cut", "alert", "No journal can be read.", runner.reason];
  if (runner.state === "no journal") return ["warn", "status", "No journal yet.", "Nothing was written by a runner so far; this page waits for it."];
  if (runner.state === "stopped") {
    return ["cut", "alert", "Stopped.", `No process writes the journal; its last word is from ${at}. ${protects(seen)}`];
  }
  if (runner.level === "HALTED" || runner.level === "REDUCING") {
    const since = runner.level_since ? ` ${clock(runner.level_since)} UTC` : "";
    const word = runner.level === "HALTED" ? `Halted${since}:` : `Exits only${since}:`;
    const kind = runner.level === "HALTED" ? ["halt", "alert"] : ["warn", "status"];
    return [...kind, word, `${runner.reason ?? "no reason given"}. Entries are off until the operator resumes. ${protects(seen)}`];
  }
  if (runner.state === "silent") {
    return ["warn", "status", "Stale.", `The runner has heard nothing for ${Math.floor(runner.heard_age_s)} s. Every number below is from ${at}. ${protects(seen)}`];
  }
  return runner.reason ? ["warn", "status", "Attention.", runner.reason] : null;
};

const protects = (seen) => {
  const held = seen.positions.length;
  if (seen.runner.mode === "real") return held ? "Stops already on the exchange keep working." : "No position is open.";
  return held ? "On paper nothing protects while the runner does not run." : "No position is open.";
};

export const paintTiles = (view) => {
  const { seen } = view;
  const isFresh = verdict(view).fresh;
  const tiles = seen ? tilesOf(seen) : TITLES.map((title) => ({ title, value: UNKNOWN, unit: "", good: true }));
  keyed(
    byId("tiles"), tiles, (tile) => tile.title,
    (tile) => el("div", { class: "tile" }, el("h3", {}, el("span", {}, tile.title), el("span")),
      el("p", {}, el("b"), " ", el("span", { class: "note" })), el("span", { class: "bar" }, el("i"))),
    (node, tile) => {
      const [heading, line, bar] = node.children;
      const mark = heading.lastChild;
      say(mark, !isFresh ? "unverified" : tile.good === null ? "" : tile.good ? "✓" : "✕ over");
      mark.className = isFresh && tile.good === false ? "chip over" : "";
      say(line.firstChild, tile.value);
      say(line.lastChild, tile.unit);
      bar.className = tile.share === undefined || tile.share === null ? "bar none" : "bar";
      bar.firstChild.style.width = `${Math.min(100, Math.max(0, (tile.share ?? 0) * 100))}%`;
    },
  );
};

const TITLES = ["Stops at the broker", "Naked today", "Unknown orders", "REST budget", "Drawdown today", "Exposure"];

// good: true is proven, false is over a limit, null is not known; nothing is claimed without proof.
const tilesOf = ({ runner, positions, account, unknown_orders, naked_today_s }) => {
  const stopped = positions.filter((each) => each.stop_state === "held").length;
  const [drawdown, most] = [account.daily_loss_limit_usdt, account.exposure_limit_usdt];
  const used = runner.weight_used;
  const shareOf = (value, limit) => (limit === null ? null : value / limit);
  return [
    { title: TITLES[0], value: `${stopped} of ${positions.length}`, unit: "positions", good: stopped === positions.length },
    { title: TITLES[1], value: number(naked_today_s, 2), unit: "s of 2 s, the longest", good: naked_today_s <= 2, share: naked_today_s / 2 },
    { title: TITLES[2], value: String(unknown_orders), unit: "open", good: unknown_orders === 0 },
    used === null
      ? { title: TITLES[3], value: UNKNOWN, unit: runner.mode === "real" ? "not told" : "no account is asked", good: null }
      : { title: TITLES[3], value: number((100 * used) / runner.weight_limit, 0), unit: `% of ${number(runner.weight_limit, 0)}/min`, good: used < runner.weight_limit, share: used / runner.weight_limit },
    {
      title: TITLES[4], value: usdt(account.drawdown_today_usdt), unit: drawdown === null ? "USDT" : `of ${number(drawdown, 0)} USDT`,
      good: drawdown === null ? null : -account.drawdown_today_usdt < drawdown, share: shareOf(-account.drawdown_today_usdt, drawdown),
    },
    {
      title: TITLES[5], value: number(account.exposure_usdt, 0), unit: most === null ? "USDT" : `of ${number(most, 0)} USDT`,
      good: most === null || account.exposure_usdt === null ? null : account.exposure_usdt <= most, share: shareOf(account.exposure_usdt, most),
    },
  ];
};
