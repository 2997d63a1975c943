// What the page remembers and draws: totals come in, rates and quantiles are made from two answers. Plots begin when the page is opened.

const LONGEST = 300; // seconds shown in the plots, at most
const SHORTEST = 60;
const LATELY = 60; // seconds

// -- history: one point for each two answers

const points = [];
let last = null;
/** Answers of the last minute, and the one before them. */
const answers = [];

/** How many of a kind were counted in the last minute. */
const lately = (of) => of(last.counts) - of(answers[0].counts);

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
  if (before?.counts.requests > now.counts.requests) answers.length = 0;
  answers.push(now);
  while (answers[1]?.now <= now.now - LATELY) answers.shift();
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
    figure.append(h("div.canvas", {}, this.svg), this.legend);
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
    this.high = Math.max(120, this.svg.clientHeight || HIGH);
    this.svg.setAttribute("viewBox", `0 0 ${this.wide} ${this.high}`);
    const values = points.flatMap((point) => this.series.map(([key]) => point[key])).filter((value) => value > 0);
    const axis = this.axis(values);
    const x = (point) => LEFT + (1 - (this.now - point.at) / span) * (this.wide - LEFT);
    const y = (value) => (this.high - BOTTOM) * (1 - axis.share(value)) + 4;
    const parts = axis.ticks.map((tick) => [
      h("line.grid", { x1: LEFT, x2: this.wide, y1: y(tick), y2: y(tick) }),
      h("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, this.show(tick)),
    ]);
    for (const [back, text, anchor = "middle"] of ticks) {
      parts.push(h("text", { x: x({ at: this.now - back }), y: this.high + 6, "text-anchor": anchor }, text));
    }
    for (const [key, area] of this.series) parts.push(this.line(key, x, y, area));
    if (this.at) parts.push(h("line.cursor", { x1: x(this.at), x2: x(this.at), y1: 4, y2: this.high - BOTTOM + 4 }));
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
    const floor = this.high - BOTTOM + 4;
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
