// The status page: asks /status every two seconds and shows the answer. Totals come in, rates and quantiles are made here from two answers.
// Nothing that comes from outside becomes markup: every text is a text node.
"use strict";

const EVERY = 2000;
const LONGEST = 300; // seconds shown in the plots, at most
const SHORTEST = 60;
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
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`;
}

function ago(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

const days = (number) => (number > 3650 ? "more than 10 years" : count(number, "day"));
const words = (name) => name.replaceAll("_", " ");
const pill = (kind, text) => h(`span.pill.${kind}`, {}, text);

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

// -- history: one point for each two answers

const points = [];
let last = null;

function quantile(before, after, share) {
  const total = after.count - before.count;
  if (total <= 0) return null;
  const wanted = share * total;
  let [lower, below] = [0, 0];
  for (const [index, [bound, number]] of after.buckets.entries()) {
    const inside = number - before.buckets[index][1];
    if (inside >= wanted) return lower + ((wanted - below) / Math.max(1, inside - below)) * (bound - lower);
    [lower, below] = [Number(bound), inside];
  }
  return lower; // beyond the last bound nothing more is known
}

const failed = (counts) => (counts.by_status["5xx"] ?? 0) + (counts.by_status["4xx"] ?? 0);

function remember(now) {
  const before = last;
  last = now;
  if (!before) return;
  const seconds = now.now - before.now;
  const requests = now.counts.requests - before.counts.requests;
  if (requests < 0 || seconds <= 0) return void (points.length = 0); // another supervisor
  const [old, young] = [before.counts.duration_seconds, now.counts.duration_seconds];
  points.push({
    at: now.now,
    gap: seconds > EVERY / 1000 * LATE,
    ok: (requests - failed(now.counts) + failed(before.counts)) / seconds,
    error: (failed(now.counts) - failed(before.counts)) / seconds,
    p50: quantile(old, young, 0.5),
    p99: quantile(old, young, 0.99),
  });
  while (points[0].at < now.now - LONGEST) points.shift();
}

// -- plots

const WIDE = 600;
const HIGH = 176;
const LEFT = 44;
const BOTTOM = 18;

/** How far back the plots look, and where their time axis says so. */
function times() {
  const span = Math.min(LONGEST, Math.max(SHORTEST, points.length ? last.now - points[0].at : 0));
  const step = span > 90 ? 60 : 30;
  const ticks = [[0, "now", "end"]];
  for (let back = step; back < span - step / 3; back += step) ticks.push([back, step < 60 ? `${back} s` : `${back / 60} min`]);
  return { span, ticks };
}

/** Ticks of a linear axis from zero. */
function linear(most) {
  const step = [1, 2, 5, 10].map((n) => n * 10 ** Math.floor(Math.log10(most / 3))).find((n) => most / n <= 4);
  const ticks = [];
  for (let tick = 0; tick <= most; tick += step) ticks.push(tick);
  return { ticks, share: (value) => value / most };
}

/** Ticks of a logarithmic axis, one for each power of ten. */
function logarithmic(least, most) {
  const from = Math.floor(Math.log10(least));
  const to = Math.max(from + 1, Math.ceil(Math.log10(most)));
  const ticks = Array.from({ length: to - from + 1 }, (_, index) => 10 ** (from + index));
  return { ticks, share: (value) => (Math.log10(value) - from) / (to - from) };
}

class Plot {
  constructor(figure, name, series, axis, show) {
    Object.assign(this, { name, series, axis, show, at: null });
    this.svg = h("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", tabindex: "0" });
    this.legend = h("figcaption");
    figure.append(this.svg, this.legend);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.point((((event.clientX - box.left) / box.width) * this.wide - LEFT) / (this.wide - LEFT));
    });
    for (const leaving of ["pointerleave", "blur"]) this.svg.addEventListener(leaving, () => this.point(null));
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !points.length) return;
      event.preventDefault();
      const index = this.at === null ? points.length : points.indexOf(this.at);
      this.at = points[Math.min(points.length - 1, Math.max(0, index + step))];
      this.draw();
    });
  }

  /** `share`: of the time that is shown. */
  point(share) {
    const wanted = share === null ? null : this.now - this.span * (1 - share);
    const distance = (point) => Math.abs(point.at - wanted);
    this.at = wanted === null ? null : points.reduce((a, b) => (a && distance(a) < distance(b) ? a : b), null);
    this.draw();
  }

  draw() {
    this.now = last?.now ?? 0;
    const { span, ticks } = times();
    this.span = span;
    this.wide = Math.max(260, this.svg.clientWidth || WIDE);
    this.svg.setAttribute("viewBox", `0 0 ${this.wide} ${HIGH}`);
    const values = points.flatMap((point) => this.series.map(([key]) => point[key])).filter((value) => value > 0);
    const axis = this.axis(values);
    const x = (point) => LEFT + (1 - (this.now - point.at) / span) * (this.wide - LEFT);
    const y = (value) => (HIGH - BOTTOM) * (1 - axis.share(value)) + 4;
    const parts = axis.ticks.map((tick) => [
      h("line.grid", { x1: LEFT, x2: this.wide, y1: y(tick), y2: y(tick) }),
      h("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, this.show(tick)),
    ]);
    for (const [back, text, anchor = "middle"] of ticks) {
      parts.push(h("text", { x: x({ at: this.now - back }), y: HIGH + 6, "text-anchor": anchor }, text));
    }
    for (const [key, area] of this.series) parts.push(this.line(key, x, y, area));
    if (this.at) parts.push(h("line.cursor", { x1: x(this.at), x2: x(this.at), y1: 4, y2: HIGH - BOTTOM + 4 }));
    this.svg.replaceChildren(...parts.flat());
    this.tell();
  }

  line(key, x, y, area) {
    const runs = [[]];
    for (const point of points) {
      if (point.gap || point[key] === null) runs.push([]);
      if (point[key] !== null) runs.at(-1).push([x(point), y(Math.max(point[key], area ? 0 : 1e-6))]);
    }
    const path = (run) => run.map(([left, top], index) => `${index ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`).join("");
    const drawn = runs.filter((run) => run.length);
    const floor = HIGH - BOTTOM + 4;
    const lines = drawn.map((run) => path(run) + (run.length === 1 ? "h.01" : "")).join("");
    const filled = drawn.map((run) => `${path(run)}L${run.at(-1)[0]} ${floor}L${run[0][0]} ${floor}Z`).join("");
    return [area ? h(`path.area.a-${key}`, { d: filled }) : null, h(`path.plot.s-${key}`, { d: lines })].filter(Boolean);
  }

  /** The same in words: of the moment that is pointed at, else of the last one. */
  tell() {
    const point = this.at ?? points.at(-1);
    const when = this.at ? `${ago(this.now - this.at.at)} ago` : "";
    const value = (key) => (point && point[key] !== null ? this.show(point[key]) : "–");
    this.legend.replaceChildren(
      ...this.series.map(([key, , text]) => h(`span.key.k-${key}`, {}, `${text} `, h("b", {}, value(key)))),
      h("span", {}, when),
    );
    const said = this.series.map(([key, , text]) => `${text} ${value(key)}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.name}${when ? `, ${when}` : ", now"}: ${said}. Arrow keys look back.`);
  }
}

const plots = [
  new Plot($("rate"), "Requests per second", [["ok", true, "answered"], ["error", true, "refused or failed (4xx, 5xx)"]],
    (values) => linear(Math.max(1, ...values) * 1.08), compact),
  new Plot($("latency"), "Duration of requests", [["p50", false, "half within"], ["p99", false, "99 of 100 within"]],
    (values) => logarithmic(Math.min(0.001, ...values), Math.max(0.1, ...values)), milliseconds),
];

// -- sections

function figures({ counts }) {
  const point = points.at(-1);
  const all = point ? point.ok + point.error : null;
  const tile = (name, value, unit) => h("div", {}, h("dl", {}, h("dt", {}, name), h("dd", {}, value, unit ? h("small", {}, ` ${unit}`) : null)));
  return [
    tile("Requests", compact(all), "/s"),
    tile("In flight", compact(counts.in_flight)),
    tile("Half within", milliseconds(point?.p50)),
    tile("99 of 100 within", milliseconds(point?.p99)),
    tile("4xx and 5xx", all ? `${((point.error / all) * 100).toFixed(point.error ? 1 : 0)}` : "–", "%"),
    tile("Connections", compact(counts.connections), count(counts.streams, "stream")),
  ];
}

/** Its state in a word, and how good that is. */
function standing(peer) {
  if (peer.set_aside) return ["bad", "set aside"];
  if (peer.state === "unchecked") return peer.connect_failures_in_a_row ? ["warn", "failing"] : ["good", "not checked"];
  return [peer.good ? "good" : peer.state === "unknown" ? "warn" : "bad", peer.state];
}

function peerRow(peer, most, now) {
  const [kind, state] = standing(peer);
  const since = peer.since ? `for ${ago(now - peer.since)}` : "";
  const check = peer.last_check;
  const why = peer.sentence ? [peer.sentence, check?.detail].filter(Boolean).join(": ") : "";
  const refused = peer.connect_failures_in_a_row ? `${count(peer.connect_failures_in_a_row, "connection")} in a row failed` : "";
  return h("tr", {},
    h("th", { scope: "row" }, peer.name, why || refused ? h("div.why", {}, [why, refused].filter(Boolean).join("; ")) : null),
    h("td", {}, pill(kind, state), " ", h("span.quiet", {}, since)),
    h("td.number", { "data-name": "check" }, check ? milliseconds(check.took_ms / 1000) : "–"),
    h("td.number", { "data-name": "in flight" }, String(peer.in_flight),
      bar(peer.in_flight / most, "other", `${peer.in_flight} of at most ${most}`)));
}

function upstreams({ upstreams, now }) {
  return upstreams.map((upstream) => {
    const identity = upstream.identity;
    const most = Math.max(4, ...upstream.peers.map((peer) => peer.in_flight));
    const shows = identity ? ` shows ${identity.subject}, ${days(identity.days_left)} left` : "";
    return h("table", {},
      h("caption", {}, h("b", {}, upstream.name), h("span.quiet", {}, shows)),
      h("thead", {}, h("tr", {}, ["Peer", "State"].map((name) => h("th", { scope: "col" }, name)),
        ["Last check", "In flight"].map((name) => h("th.number", { scope: "col" }, name)))),
      h("tbody", {}, upstream.peers.map((peer) => peerRow(peer, most, now))));
  });
}

function generations({ generations, last_reload: reload, reloads, restarts, now }) {
  const kinds = { serving: "good", draining: "warn", starting: "warn", killed: "bad" };
  const rows = generations.map((one) => h("li", {},
    h("div.split", {},
      h("span", {}, h("b", {}, `Generation ${one.generation} `), pill(kinds[one.state] ?? "", one.state)),
      h("span.quiet", {}, `${one.cause}, ${ago(now - one.since)}`)),
    one.streams === null ? null : h("div.quiet", {}, `${count(one.streams, "stream")}, ${count(one.connections, "connection")}`),
    one.streams ? dots(one.streams, one.state !== "serving") : null));
  const told = reload
    ? [pill(reload.result === "ok" ? "good" : "bad", reload.result === "ok" ? "reloaded" : "reload refused"), ` ${ago(now - reload.at)} ago`]
    : ["Never reloaded"];
  const totals = `${reloads.ok} well, ${reloads.failed} refused, ${count(restarts, "restart")}`;
  rows.push(h("li", {}, h("div.split", {}, h("span", {}, ...told), h("span.quiet", {}, totals)), reload?.reason ? h("div.why", {}, reload.reason) : null));
  return [h("ul.rows", {}, rows)];
}

function faults({ counts }) {
  const kinds = Object.entries(counts.faults).filter(([, number]) => number).sort(([, a], [, b]) => b - a);
  if (!kinds.length) return [h("p.quiet", {}, "Nothing failed here.")];
  const most = kinds[0][1];
  return [h("ul.rows", {}, kinds.map(([kind, number]) => h("li", {},
    h("div.split", {}, h("span", {}, words(kind)), h("span", {}, number.toLocaleString("en"))),
    bar(number / most, "bad", `${words(kind)}: ${number}`))))];
}

function owners({ registry, counts, members }) {
  const { claimed, released, lost } = counts.sessions;
  const line = (name, value) => h("div.split", {}, h("dt.quiet", {}, name), h("dd", {}, value));
  const lines = [
    line("registry", registry.error ? pill("bad", `${registry.kind} does not answer`) : pill("good", registry.kind)),
    registry.sessions === undefined ? null : line("sessions kept", registry.sessions.toLocaleString("en")),
    line("begun, ended, lost", [claimed, released, lost].map((number) => number.toLocaleString("en")).join(" · ")),
    line("forwarded to other members", counts.forwarded.toLocaleString("en")),
  ];
  if (members) {
    lines.push(line("this member", h("b", {}, members.me)));
    for (const { name, address } of members.others) lines.push(line(name, h("span.quiet", {}, address)));
    if (!members.others.length) lines.push(line("other members", "none in sight"));
  }
  return [h("dl.rows", {}, lines), registry.error ? h("p.why", {}, registry.error) : null];
}

function listeners({ listeners }) {
  return [h("ul.rows", {}, listeners.map((one) => h("li", {},
    h("div.split", {}, h("b", {}, one.name), h("span", {}, pill(one.tls ? "good" : "", one.tls ? "TLS" : "plaintext"),
      ` ${one.leads.map(({ path, upstream }) => `${path} → ${upstream}`).join(", ")}`)),
    h("div.quiet", {}, one.addresses.join(", ")))))];
}

function certificates({ certificates }) {
  if (!certificates.length) return [h("p.quiet", {}, "None in use.")];
  // One and the same is used in several places.
  const all = new Map();
  for (const one of certificates) {
    const key = `${one.serial} ${one.subject} ${one.role}`;
    all.set(key, { ...one, by: [...(all.get(key)?.by ?? []), one.by] });
  }
  const soonest = [...all.values()].sort((a, b) => a.days_left - b.days_left).slice(0, 8);
  const kind = (left) => (left < 7 ? "bad" : left < 30 ? "warn" : "good");
  return [h("ul.rows", {}, soonest.map((one) => h("li", {},
    h("div.split.whole", {}, h("span", {}, one.subject), one.days_left < 0 ? pill("bad", "expired") : h("span", {}, days(one.days_left))),
    bar(one.days_left / 90, kind(one.days_left), `${one.subject}: ${days(one.days_left)} left`),
    h("div.why", {}, `${one.role === "shown" ? "shown" : "trusted"} by ${one.by.join(", ")}; until ${new Date(one.not_after * 1000).toISOString().slice(0, 10)}`))))];
}

const sections = { figures, upstreams, generations, faults, owners, listeners, certificates };

function show(status) {
  $("state").className = `pill ${status.ready ? "good" : "bad"}`;
  const said = status.ready ? "ready" : `not ready: ${status.reasons.join(", ")}`;
  if ($("state").textContent !== said) $("state").textContent = said;
  $("about").textContent = `${status.version} · generation ${status.generation} · ${count(status.counts.requests, "request")}`;
  for (const [id, section] of Object.entries(sections)) $(id).replaceChildren(...section(status).filter(Boolean));
  for (const plot of plots) plot.draw();
}

// -- the round

let going = true;
let missed = 0;
let asking = false;

async function round() {
  if (!going || document.hidden || asking) return;
  asking = true;
  try {
    const answer = await fetch("/status", { cache: "no-store", signal: AbortSignal.timeout(EVERY * 2) });
    const status = await answer.json();
    if (!answer.ok) throw new Error(status.error);
    remember(status);
    show(status);
    missed = 0;
  } catch (error) {
    missed += 1;
    $("trouble").textContent = `No answer from Outrigger (${error.message}); what you see is old.`;
  } finally {
    asking = false;
    $("trouble").hidden = missed < LATE;
    document.documentElement.classList.toggle("stale", missed >= LATE);
  }
}

$("live").addEventListener("click", () => {
  going = !going;
  $("live").setAttribute("aria-pressed", String(going));
  $("live").textContent = going ? "Live" : "Paused";
  round();
});
document.addEventListener("visibilitychange", round);
addEventListener("resize", () => plots.forEach((plot) => plot.draw()));
setInterval(round, EVERY);
setTimeout(round, EVERY / 4);
round();
