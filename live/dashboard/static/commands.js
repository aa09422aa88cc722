// The operator's hand: what a command would do is shown first, then it is confirmed, then the runner's answer is told.
import { ask, byId, el, say } from "./dom.js";
import { number, price, usdt } from "./format.js";

const WORDS = {
  pause: ["Pause entries", "Nothing new is entered; what is held goes on to its exits."],
  resume: ["Resume", "Entries are allowed again, and what had counted up to the limits begins anew."],
  reduce: ["Exits only", "Nothing new is entered, and entry orders that still stand are taken back."],
  flatten: ["Flatten", "Every position is closed at the market and the run halts."],
  close: ["Close", "The position is closed at the market; its config may enter again."],
};
const PATIENCE_MS = 15000;

// The token comes in the link that aster-dashboard prints, and stays in this tab.
export const token = () => {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem("token");
};

export const post = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json", Authorization: `Bearer ${token() ?? ""}` }, body: JSON.stringify(body) });

export class Commands {
  #plan = null;
  #opened = 0; // dialogs so far; what one asked for is nothing to the next
  #waiting = null;
  #answers = new Map(); // by command; the journal may tell one before the request that asked has returned

  constructor() {
    byId("dialog-cancel").addEventListener("click", () => byId("dialog").close());
    byId("dialog-go").addEventListener("click", () => this.#confirm());
    byId("dialog-form").addEventListener("submit", (event) => event.preventDefault());
    byId("dialog-word").addEventListener("input", () => this.#arm());
    byId("dialog-word").addEventListener("keydown", (event) => event.key === "Enter" && !byId("dialog-go").disabled && this.#confirm());
  }

  async open(action, symbol = null) {
    const mine = ++this.#opened;
    this.#plan = null;
    this.#waiting = null;
    const [title, does] = WORDS[action];
    say(byId("dialog-title"), symbol ? `${title} ${symbol}?` : `${title}?`);
    byId("dialog-body").replaceChildren(el("p", {}, does));
    say(byId("dialog-said"), "");
    say(byId("dialog-cancel"), "Cancel");
    say(byId("dialog-go"), symbol ? `${title} ${symbol}` : title);
    byId("dialog-go").hidden = false;
    byId("dialog-go").disabled = true;
    byId("dialog-word").value = "";
    byId("dialog-typing").hidden = true;
    byId("dialog").showModal();
    byId("dialog-cancel").focus();
    let plan;
    try {
      plan = await post("/api/commands", symbol ? { action, symbol } : { action });
    } catch (error) {
      if (mine === this.#opened) say(byId("dialog-said"), error.message);
      return;
    }
    if (mine !== this.#opened) return;
    this.#plan = plan;
    this.#show(plan);
    this.#arm();
  }

  #show(plan) {
    const body = byId("dialog-body");
    if (plan.closes.length) {
      body.append(
        el("ul", {}, plan.closes.map((each) => el("li", {}, `${each.side === "long" ? "sell" : "buy"} ${each.quantity} ${each.symbol} at the market, about ${price(each.mark_price, each.tick_size)}; unrealised ${usdt(each.unrealised_usdt, true)} USDT`))),
        el("p", { class: "note" }, `${plan.cancels.length} open orders go with it: ${plan.cancels.map((each) => `${each.symbol} ${each.leg}`).join(", ") || "none"}. Expected cost ${number(plan.expected_cost_usdt, 2)} USDT in fees and slippage.`));
    } else if (plan.action === "flatten") {
      body.append(el("p", { class: "note" }, "No position is open."));
    }
    if (plan.typed) {
      byId("dialog-typing").hidden = false;
      say(byId("dialog-ask"), `Type ${plan.typed} to confirm:`);
    }
  }

  #arm() {
    byId("dialog-go").disabled = !this.#plan || (this.#plan.typed !== null && byId("dialog-word").value.trim() !== this.#plan.typed);
  }

  async #confirm() {
    const opened = this.#opened;
    const { action, symbol, confirm, typed } = this.#plan;
    byId("dialog-go").disabled = true;
    say(byId("dialog-said"), "Sent; waiting for the runner …");
    let taken;
    try {
      taken = await post("/api/commands", { action, symbol, confirm, typed });
    } catch (error) {
      if (opened === this.#opened) say(byId("dialog-said"), error.message);
      return;
    }
    if (opened !== this.#opened) return;
    this.#waiting = taken.command_id;
    say(byId("dialog-cancel"), "Done");
    byId("dialog-go").hidden = true;
    const mine = this.#waiting;
    if (this.#answers.has(mine)) this.#tell(this.#answers.get(mine));
    setTimeout(() => this.#waiting === mine && say(byId("dialog-said"), "The runner has not answered yet; watch the events, or use aster-live ctl on its machine."), PATIENCE_MS);
  }

  // A journal event: it may be the answer that is waited for.
  hear(event) {
    if (event.kind !== "answer") return;
    this.#answers.set(event.command_id, event.text);
    if (event.command_id === this.#waiting) this.#tell(event.text);
  }

  #tell(text) {
    this.#waiting = null;
    say(byId("dialog-said"), `The runner answers: ${text}`);
  }
}
