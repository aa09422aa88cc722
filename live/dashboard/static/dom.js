// Elements from data. Text is always text: nothing here, or anywhere on these pages, parses HTML.
const SVG = "http://www.w3.org/2000/svg";

const built = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
};

export const el = (tag, attributes = {}, ...children) => built(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => built(document.createElementNS(SVG, tag), attributes, children);
export const byId = (name) => document.getElementById(name);

export const say = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

// Bring the children of a node in line with items: what stays keeps its node, and so its focus.
export const keyed = (parent, items, keyOf, create, update) => {
  const there = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  const wanted = items.map((item) => {
    const key = String(keyOf(item));
    const node = there.get(key) ?? create(item);
    node.dataset.key = key;
    update(node, item);
    there.delete(key);
    return node;
  });
  there.forEach((node) => node.remove());
  wanted.forEach((node, place) => {
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
  });
};

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export const ask = async (path, options) => {
  const answer = await fetch(path, options);
  const told = await answer.json();
  if (!answer.ok) throw new Error(typeof told.detail === "string" ? told.detail : `${path}: ${answer.status}`);
  return told;
};
