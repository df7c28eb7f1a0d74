"use strict";
// Shows what /api/stream sends. Text is only ever set as text: names and reasons
// come from guests and clients.

const units = ["B", "KiB", "MiB", "GiB", "TiB"];
function bytes(n) {
  let u = 0;
  while (n >= 1024 && u < units.length - 1) { n /= 1024; u++; }
  return (u && n < 10 ? n.toFixed(1) : Math.round(n)) + " " + units[u];
}
const number = n => n.toLocaleString("en");

// Each table: caption, column heads, rows of a device. A head that begins with
// ! holds numbers that are bad news when they are not zero.
const tables = [
  ["Rejected programs", ["reason", "!count"], d => d.rejected.map(r => [r.reason, r.count])],
  ["Leases", ["owner", "leases", "bytes"], d => d.leases.map(l => [l.owner, l.count, bytes(l.bytes)])],
  ["Interrupts", ["index", "vector", "raised", "signalled", "!lost"],
    d => d.interrupts.filter(i => i.raised).map(i => [i.index, i.vector, i.raised, i.signalled, i.lost])],
  ["Regions", ["region", "reads", "writes", "!errors"],
    d => d.regions.filter(r => r.reads || r.writes || r.errors).map(r => [r.name, r.reads, r.writes, r.errors])],
  ["Messages", ["command", "count", "!errors"], d => d.messages.map(m => [m.command, m.count, m.errors])],
  ["Device", ["counter", "value"], d => d.counters.map(c => [c.labels ? `${c.name} ${c.labels}` : c.name, c.value])],
];

const facts = [
  ["parent", d => d.parent],
  ["api", d => d.api],
  ["served on", d => d.endpoint],
  ["held by", d => d.holder],
  ["session", d => d.session],
  ["migration", d => d.migration],
  ["mappings", d => d.session && number(d.mappings)],
  ["mapped", d => d.session && bytes(d.mapped_bytes)],
  ["pinned", d => d.session && bytes(d.pinned_bytes)],
  ["clients so far", d => number(d.clients)],
];

function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function table([caption, heads, rows], device) {
  const list = rows(device);
  if (!list.length) return null;
  const t = element("table");
  t.dataset.table = caption;
  t.append(element("caption", caption));
  const head = t.createTHead().insertRow();
  for (const h of heads) head.append(element("th", h.replace("!", "")));
  const body = t.createTBody();
  for (const row of list) {
    const tr = body.insertRow();
    row.forEach((v, i) => {
      const n = typeof v === "number";
      const bad = heads[i][0] === "!" && v;
      tr.append(element("td", n ? number(v) : v, (n ? "n" : "") + (bad ? " bad" : "")));
    });
  }
  return t;
}

const shown = new Map(); // article by UUID

function show(devices) {
  const main = document.getElementById("devices");
  const template = document.getElementById("device");
  const here = new Set();
  for (const d of devices) {
    here.add(d.uuid);
    let a = shown.get(d.uuid);
    if (!a) {
      a = template.content.firstElementChild.cloneNode(true);
      a.dataset.uuid = d.uuid;
      a.querySelector(".type").textContent = d.type;
      a.querySelector(".uuid").textContent = d.uuid;
      shown.set(d.uuid, a);
    }
    main.append(a); // in the order of the list
    const state = a.querySelector(".state");
    state.textContent = d.state;
    state.classList.toggle("open", d.session !== "");
    a.querySelector("dl").replaceChildren(...facts.filter(([, f]) => f(d)).map(([name, f]) => {
      const div = element("div");
      div.dataset.fact = name;
      div.append(element("dt", name), element("dd", f(d)));
      return div;
    }));
    a.querySelector(".tables").replaceChildren(...tables.map(t => table(t, d)).filter(t => t));
  }
  for (const [uuid, a] of shown) {
    if (!here.has(uuid)) { a.remove(); shown.delete(uuid); }
  }
  document.getElementById("none").hidden = devices.length > 0;
  const open = devices.filter(d => d.session).length;
  status(`${devices.length} device${devices.length === 1 ? "" : "s"}, ${open} in use`, false);
}

function status(text, lost) {
  document.getElementById("summary").textContent = text;
  document.querySelector("header").classList.toggle("lost", lost);
}

const stream = new EventSource("api/stream");
stream.onmessage = e => show(JSON.parse(e.data));
stream.onerror = () => status("connection lost, trying again", true);
