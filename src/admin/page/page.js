// The status page: asks /status every two seconds and shows the answer, one function a section.

// -- sections

function figures({ counts }) {
  const point = points.at(-1);
  const all = point ? point.ok + point.error : null;
  const tile = (name, value, unit) => h("div", {}, h("dl", {}, h("dt", {}, name), h("dd", {}, value, unit ? h("small", {}, ` ${unit}`) : null)));
  return [
    tile("Requests", compact(all), "/s"),
    tile("In flight", compact(counts.in_flight)),
    tile("Half within", milliseconds(point?.p50), "p50"),
    tile("99 of 100 within", milliseconds(point?.p99), "p99"),
    tile("4xx and 5xx", all ? `${((point.error / all) * 100).toFixed(point.error ? 1 : 0)}` : "–", "%"),
    tile("Connections", compact(counts.connections), count(counts.streams, "stream")),
  ];
}

/** Its state in a word, and how good that is. */
function standing(peer) {
  if (peer.set_aside) return ["bad", "set aside"];
  if (peer.state === "unchecked") return peer.connect_failures_in_a_row ? ["warn", "failing"] : ["", "not checked"];
  return [peer.good ? "good" : peer.state === "unknown" ? "warn" : "bad", peer.state];
}

function peerRow(peer, most, now) {
  const [kind, state] = standing(peer);
  const since = peer.since ? `for ${ago(now - peer.since)}` : "";
  const check = peer.last_check;
  const why = peer.sentence ? [peer.sentence, check?.detail].filter(Boolean).join(": ") : "";
  const refused = peer.connect_failures_in_a_row ? `${count(peer.connect_failures_in_a_row, "connection")} in a row failed` : "";
  const named = `${peer.host}:${peer.port}`;
  const at = peer.address && peer.address !== peer.host ? peer.address : null;
  const where = [peer.name === named ? null : named, at].filter(Boolean).join(", ");
  return h("tr", {},
    h("th", { scope: "row" }, peer.name, " ", where ? h("span.quiet", {}, where) : null, why || refused ? h("div.why", {}, [why, refused].filter(Boolean).join("; ")) : null),
    h("td.whole", {}, pill(kind, state), " ", h("span.quiet", {}, since)),
    h("td.number", { "data-name": "check" }, check ? milliseconds(check.took_ms / 1000) : "–"),
    h("td.number", { "data-name": "in flight" }, String(peer.in_flight),
      bar(peer.in_flight / most, "other", `${peer.in_flight} of at most ${most}`)));
}

function upstreams({ upstreams, now }) {
  return upstreams.map((upstream) => {
    const identity = upstream.identity;
    const most = Math.max(4, ...upstream.peers.map((peer) => peer.in_flight));
    const shows = identity ? ` shows ${identity.name}, ${days(identity.days_left)} left` : "";
    const well = upstream.peers.filter((peer) => peer.good).length;
    const sum = pill(well === upstream.peers.length ? "good" : well ? "warn" : "bad", `${well} of ${upstream.peers.length} well`);
    return h("table", {},
      h("caption", {}, h("b", {}, upstream.name), " ", upstream.checked || well < upstream.peers.length ? sum : null, h("span.quiet", {}, shows)),
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

/** What went wrong, by kind, with a heading for each sort; what still does so has a colour. */
function faults({ counts }) {
  const sorts = [["faults", "failed by Outrigger", "bad"], ["normalised", "answers of upstreams, mended", "warn"], ["handshake_failures", "TLS handshakes", "bad"]];
  const told = sorts.map(([sort, name, colour]) => {
    const kinds = Object.entries(counts[sort]).filter(([, number]) => number).sort(([, a], [, b]) => b - a);
    const most = kinds[0]?.[1];
    const rows = kinds.map(([kind, number]) => {
      const fresh = lately((then) => then[sort][kind] ?? 0);
      return h("li", {},
        h("div.split", {}, h("span", {}, words(kind)),
          h("span", {}, fresh ? h(`span.${colour}-ink`, {}, `${fresh.toLocaleString("en")} in the last minute, `) : null, number.toLocaleString("en"))),
        bar(number / most, fresh ? colour : "other", `${words(kind)}: ${number}`));
    });
    return rows.length ? [h("h3.quiet", {}, name), h("ul.rows", {}, rows)] : [];
  });
  return told.some((part) => part.length) ? told.flat() : [h("p.quiet", {}, "Nothing failed here.")];
}

const line = (name, value) => h("div.split", {}, h("dt.quiet", {}, name), h("dd", {}, value));

function owners({ registry, counts }) {
  const { claimed, released, lost } = counts.sessions;
  const lines = [
    line("registry", registry.error ? pill("bad", `${registry.kind} does not answer`) : pill("good", registry.kind)),
    registry.sessions === undefined ? null : line("sessions kept", registry.sessions.toLocaleString("en")),
    line("begun", claimed.toLocaleString("en")),
    line("ended", released.toLocaleString("en")),
    line("requests of lost sessions", lately((then) => then.sessions.lost) ? pill("bad", lost.toLocaleString("en")) : lost.toLocaleString("en")),
  ];
  return [h("dl.rows", {}, lines), registry.error ? h("p.why", {}, registry.error) : null];
}

const MOST_MEMBERS = 12;

function members({ members, counts }) {
  $("h-members").parentElement.hidden = !members;
  if (!members) return [];
  const lines = [line(h("b.me", {}, members.me), "this one")];
  for (const { name, address } of members.others.slice(0, MOST_MEMBERS)) lines.push(line(name, address));
  if (!members.others.length) lines.push(line("others", "none in sight"));
  if (members.others.length > MOST_MEMBERS) lines.push(line("and", count(members.others.length - MOST_MEMBERS, "other")));
  const share = counts.requests ? ` (${((counts.forwarded / counts.requests) * 100).toFixed(0)} %)` : "";
  lines.push(line("requests sent on to them", counts.forwarded.toLocaleString("en") + share));
  return [h("dl.rows", {}, lines)];
}

function listeners({ listeners }) {
  return [h("ul.rows", {}, listeners.map((one) => h("li", {},
    h("div.split", {}, h("b", {}, one.name), h("span", {}, pill(one.tls ? "good" : "", one.tls ? "TLS" : "plaintext"),
      ` ${one.leads.map(({ path, upstream }) => `${path} → ${upstream}`).join(", ")}`)),
    h("div.quiet", {}, one.addresses.join(", ")))))];
}

function left({ days_left: number, nearness }, kind) {
  if (nearness === "past") return pill("bad", "expired");
  return kind === "good" ? h("span", {}, days(number)) : pill(kind, days(number));
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
  const kinds = { past: "bad", close: "bad", soon: "warn", far: "good" };
  return [h("ul.rows", {}, soonest.map((one) => h("li", {},
    h("div.split.whole", {}, h("span", { title: one.subject }, one.name), left(one, kinds[one.nearness])),
    bar(one.days_left / 90, kinds[one.nearness], `${one.name}: ${days(one.days_left)} left`),
    h("div.why", {}, `${one.role === "shown" ? "shown" : "trusted"} by ${one.by.join(", ")}; until ${new Date(one.not_after * 1000).toISOString().slice(0, 10)}`))))];
}

const sections = { figures, upstreams, generations, faults, owners, members, listeners, certificates };

/** What needs somebody: drawn anew only when it is another, since its links may have the focus, and are read aloud. */
function attention({ attention }) {
  const said = JSON.stringify(attention);
  if ($("attention").dataset.said === said) return;
  $("attention").dataset.said = said;
  $("attention").hidden = !attention.length;
  $("attention").replaceChildren(...attention.map(({ level, about, text }) => h(`li.${level}`, {},
    h("b", {}, level === "bad" ? "Act" : "Look"), h("a", { href: `#h-${about}` }, text))));
}

/** Name and colour of the tab: one of several members is found, and seen to be ill, without being opened. */
function tab({ attention, members, ready }) {
  const kind = !ready || attention.some(({ level }) => level === "bad") ? "bad" : attention.length ? "warn" : "good";
  const troubles = attention.length ? `(${attention.length}) ` : "";
  document.title = `${troubles}${ready ? "" : "not ready · "}${members ? `${members.me} · ` : ""}Outrigger`;
  colour({ good: "0d9488", warn: "d97706", bad: "e11d48" }[kind]);
}

function colour(rgb) {
  const href = $("icon").href.replace(/%23[0-9a-f]{6}/, `%23${rgb}`);
  if ($("icon").href !== href) $("icon").href = href;
}

function show(status) {
  attention(status);
  tab(status);
  $("state").className = `pill ${status.ready ? "good" : "bad"}`;
  const said = status.ready ? "ready" : `not ready: ${status.reasons.join(", ")}`;
  if ($("state").textContent !== said) $("state").textContent = said;
  $("me").textContent = status.members?.me ?? "";
  const facts = [status.version, `up for ${ago(status.now - status.began)}`, `generation ${status.generation}`, count(status.counts.requests, "request")];
  $("about").textContent = facts.join(" · ");
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
    if (missed >= LATE) colour("64748b");
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
