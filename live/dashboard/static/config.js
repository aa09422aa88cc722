// The configuration page: what runs, and a candidate that is edited, checked by the server and saved as a file.
import { ask, byId, el, say } from "./dom.js";
import { moment } from "./format.js";
import { post, token } from "./commands.js";

let configs = null;
let based = null;
let edited = {};

// Every value that is no table gets a field under its dotted name.
const leaves = (value, path = []) =>
  value !== null && typeof value === "object" && !Array.isArray(value)
    ? Object.entries(value).flatMap(([key, item]) => leaves(item, [...path, key]))
    : [[path, value]];

const put = (target, path, value) => {
  const last = path.at(-1);
  const parent = path.slice(0, -1).reduce((part, key) => (part[key] ??= {}), target);
  parent[last] = value;
};

const valueOf = (text, before) => {
  if (typeof before === "number") return text.trim() === "" ? null : Number(text);
  if (Array.isArray(before)) return text.split(",").filter((each) => each.trim() !== "").map((each) => (typeof before[0] === "number" ? Number(each) : each.trim()));
  return text;
};

const start = (config, hash) => {
  based = hash;
  edited = structuredClone(config);
  const groups = new Map();
  for (const [path, value] of leaves(config)) {
    const group = path.length > 1 ? path.slice(0, -1).join(".") : "config";
    groups.set(group, [...(groups.get(group) ?? []), [path, value]]);
  }
  byId("form").replaceChildren(...[...groups].map(([name, fields]) => el("fieldset", {}, el("legend", {}, name), ...fields.map(([path, value]) => field(path, value)))));
  byId("save").disabled = true;
  byId("changes").replaceChildren();
  byId("problems").replaceChildren();
  say(byId("said"), "");
};

const field = (path, before) => {
  const name = path.join(".");
  const input = el("input", { id: name, name, value: Array.isArray(before) ? before.join(", ") : String(before), inputmode: typeof before === "number" ? "decimal" : "text", autocomplete: "off" });
  input.addEventListener("input", () => {
    put(edited, path, valueOf(input.value, before));
    byId("save").disabled = true;
  });
  return el("p", {}, el("label", { for: name }, path.at(-1)), input);
};

const show = (checked) => {
  const words = checked.is_valid ? `Valid; its hash would be ${checked.config_hash.slice(0, 12)}.` : "Not valid.";
  say(byId("said"), checked.saved_as ? `Saved as ${checked.saved_as}, hash ${checked.config_hash.slice(0, 12)}.` : words);
  byId("problems").replaceChildren(...checked.problems.map((each) => el("li", {}, el("span", { class: "chip warn" }, "!"), " ", each)));
  const rows = checked.changes.map((each) => el("tr", {}, el("th", { scope: "row" }, each.key), el("td", { class: "right" }, String(each.running ?? "–")), el("td", { class: "right strong" }, String(each.candidate ?? "–"))));
  byId("changes").replaceChildren(rows.length
    ? el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Changed"), el("th", { scope: "col", class: "right" }, "running"), el("th", { scope: "col", class: "right" }, "candidate"))), el("tbody", {}, ...rows))
    : el("p", { class: "note" }, "Nothing differs from what runs."));
  byId("save").disabled = !checked.is_valid || checked.saved_as !== null;
};

const send = (path) => post(path, { config: edited, based_on: based }).then(show).catch((error) => say(byId("said"), error.message));

const load = async () => {
  configs = await ask("/api/config");
  const { running, candidate } = configs;
  say(byId("running-note"), running.length ? "" : "no runner has written a journal yet");
  byId("running").replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ["Hash", "Symbol", "Strategy", "Mode", "Since, UTC"].map((each) => el("th", { scope: "col" }, each)))),
    el("tbody", {}, ...running.map((each) => el("tr", {}, el("th", { scope: "row" }, each.config_hash.slice(0, 12)), el("td", {}, each.symbol), el("td", {}, each.config.strategy), el("td", {}, each.mode), el("td", {}, moment(each.started)))))));
  say(byId("candidate-note"), candidate ? `last saved ${moment(configs.candidate_saved)} UTC, hash ${configs.candidate_hash.slice(0, 12)}` : "none saved yet");
  const choices = running.map((each) => [`Start from ${each.symbol} ${each.config_hash.slice(0, 7)}`, each.config, each.config_hash]);
  if (candidate) choices.push(["Start from the saved candidate", candidate, configs.candidate_hash]);
  byId("bases").replaceChildren(...choices.map(([text, config, hash]) => el("button", { type: "button", class: "small", click: () => start(config, hash) }, text)));
  if (choices.length) start(choices[0][1], choices[0][2]);
  say(byId("how"), `Saving writes ${configs.candidate_path} and touches nothing that runs. Try it with: aster-live --config ${configs.candidate_path} --mode paper. No sweep and no gate has seen it.`);
  const mayAct = token() !== null;
  for (const name of ["check", "save"]) byId(name).title = mayAct ? "" : "Open the link that aster-dashboard printed to act";
  byId("check").disabled = !mayAct;
};

byId("check").addEventListener("click", () => send("/api/config/check"));
byId("save").addEventListener("click", () => send("/api/config"));
load().catch((error) => say(byId("said"), error.message));
