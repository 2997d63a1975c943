// What the status page is written with: elements, numbers as people read them, pills, bars and dots.
// Nothing that comes from outside becomes markup: every text is a text node.
"use strict";

const EVERY = 2000;
const LATE = 3; // answers missed before the page calls itself old

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("p.quiet", {title: "x"}, "text", child)`. */
function h(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const svg = ["svg", "path", "line", "text", "g", "rect", "circle"].includes(tag);
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// -- words and numbers

const count = (number, one, many = one + "s") => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

function compact(number) {
  if (number === null || number === undefined) return "–";
  if (number !== 0 && number < 10) return number.toFixed(1).replace(/\.0$/, "");
  return number < 10000 ? Math.round(number).toLocaleString("en") : `${(number / 1000).toFixed(1)}k`;
}

function milliseconds(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const ms = seconds * 1000;
  const short = (value) => value.toFixed(value < 10 ? 1 : 0).replace(/\.0$/, "");
  return ms < 1000 ? `${short(ms)} ms` : `${short(ms / 1000)} s`;
}

function ago(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

const days = (number) => (number > 3650 ? "more than 10 years" : count(number, "day"));
const words = (name) => name.replaceAll("_", " ");
const pill = (kind, text) => h(kind ? `span.pill.${kind}` : "span.pill", {}, text);

function bar(share, kind, label) {
  const filled = h(`i.${kind}`);
  filled.style.width = `${Math.round(Math.min(1, Math.max(0, share)) * 100)}%`;
  return h("span.bar", { role: "img", "aria-label": label }, filled);
}

/** One dot for each, as long as they can be told apart. */
function dots(number, old) {
  const most = 60;
  const shown = Array.from({ length: Math.min(number, most) }, () => h(old ? "i.old" : "i"));
  return h("span.dots", { "aria-hidden": "true" }, shown, number > most ? `+${number - most}` : null);
}
