// The stream of one page: it reconnects by itself where it stopped, and knows how old what it has is.
const STALE_MS = 5000;
const LONGEST_MS = 8000;

export class Link {
  // handlers: pulse(overview), journal(event), resync(), changed() when the link itself changes.
  constructor(handlers) {
    this.handlers = handlers;
    this.last = null;
    this.state = "loading";
    this.heardAt = null;
    this.retryAt = null;
    this.waitMs = 500;
    this.#open();
    setInterval(() => this.#judge(), 500);
  }

  get silentSeconds() {
    return this.heardAt === null ? null : (performance.now() - this.heardAt) / 1000;
  }

  get retrySeconds() {
    return this.retryAt === null ? null : Math.max(0, Math.ceil((this.retryAt - performance.now()) / 1000));
  }

  #open() {
    this.retryAt = null;
    const source = new EventSource(this.last === null ? "/api/stream" : `/api/stream?after=${this.last}`);
    this.source = source;
    source.addEventListener("pulse", (message) => {
      this.#heard(message);
      this.handlers.pulse(JSON.parse(message.data));
    });
    source.addEventListener("journal", (message) => {
      this.#heard(message);
      this.handlers.journal(JSON.parse(message.data));
    });
    source.addEventListener("resync", (message) => {
      this.#heard(message);
      this.handlers.resync();
    });
    source.addEventListener("error", () => this.#lost(source));
  }

  #heard(message) {
    if (message.lastEventId !== "") this.last = Number(message.lastEventId);
    this.heardAt = performance.now();
    this.waitMs = 500;
    this.#become("live");
  }

  #lost(source) {
    if (source !== this.source) return;
    source.close();
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_MS);
    this.retryAt = performance.now() + this.waitMs;
    setTimeout(() => this.#open(), this.waitMs);
    this.#become(this.heardAt === null ? "loading" : "disconnected");
  }

  #judge() {
    const isSilent = this.heardAt !== null && performance.now() - this.heardAt > STALE_MS;
    if (this.state === "live" && isSilent) this.#become("stale");
    else if (this.state !== "live") this.handlers.changed();
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.handlers.changed();
  }
}
