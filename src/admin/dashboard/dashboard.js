// Swaps fragments of the page in as the server sends them, and asks for changes with the operator's token.
"use strict";

// --- live ------------------------------------------------------------------------------------------------------------

const link = document.getElementById("link");

// Makes `old` what `fresh` is and touches nothing that is the same already: focus, selection and scroll places stay.
function become(old, fresh) {
  const before = [...old.childNodes], after = [...fresh.childNodes];
  after.forEach((node, index) => {
    const there = before[index];
    if (!there) {
      old.append(node);
    } else if (there.nodeType !== node.nodeType || there.nodeName !== node.nodeName) {
      there.replaceWith(node);
    } else if (node.nodeType !== Node.ELEMENT_NODE) {
      if (there.data !== node.data) there.data = node.data;
    } else {
      for (const { name } of [...there.attributes]) if (!node.hasAttribute(name)) there.removeAttribute(name);
      for (const { name, value } of node.attributes) if (there.getAttribute(name) !== value) there.setAttribute(name, value);
      become(there, node);
    }
  });
  before.slice(after.length).forEach((node) => node.remove());
}

function show(id, html) {
  const place = document.getElementById(id);
  if (place) become(place, new DOMParser().parseFromString(html, "text/html").body);
}

function say(state, word) {
  link.textContent = word;
  link.className = `badge is-${state}`;
}

// Server-sent events by `fetch`, which unlike `EventSource` can send the token to a proxy that shows nothing without it.
let news = 0;
let stream = new AbortController();

async function watch() {
  for (;;) {
    try {
      await follow();
    } catch {
      // Told below, like an end.
    }
    say("down", "not connected");
    await new Promise((go) => setTimeout(go, 2000));
  }
}

async function follow() {
  stream = new AbortController();
  const answer = await fetch("/dashboard/live", { headers: bearer(), signal: stream.signal });
  if (answer.status === 401) {
    keep("");
    say("late", "needs the token");
    const given = new Promise((go) => { tokenKept = go; });
    ask("token", {});
    return given;
  }
  if (!answer.ok) {
    say("late", (await answer.text()).trim());
    return new Promise((go) => setTimeout(go, 5000));
  }
  say("up", "live");
  news = Date.now();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return undefined;
    news = Date.now();
    say("up", "live");
    const events = (text + value).split("\n\n");
    text = events.pop();
    events.forEach(take);
  }
}

function take(event) {
  const field = (name) => event.split("\n").filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2));
  const [id] = field("event");
  if (id) show(id, field("data").join("\n"));
}

// A connection that hangs tells nothing.
setInterval(() => {
  const silent = Date.now() - news;
  if (!news || silent < 5000) return;
  say("late", "no news");
  if (silent > 15000) {
    news = 0;
    stream.abort();
  }
}, 1000);

// A page that comes back from the browser's cache has lost its stream.
addEventListener("pagehide", () => stream.abort());
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

// --- which charts ----------------------------------------------------------------------------------------------------

document.querySelector(".window").addEventListener("change", (event) => {
  for (const window of ["short", "long"]) document.getElementById(`charts-${window}`).hidden = event.target.value !== window;
});

// --- changes ---------------------------------------------------------------------------------------------------------

const dialog = document.getElementById("dialog");
const form = document.getElementById("form");
const error = document.getElementById("dialog-error");
const tokenButton = document.getElementById("token");
const KEY = "sluicegate-token";

const DRAINS = [["", "until it is enabled"], ["5m", "5 minutes"], ["15m", "15 minutes"], ["1h", "1 hour"], ["4h", "4 hours"]];
const BANS = [["1h", "1 hour"], ["10m", "10 minutes"], ["1d", "1 day"], ["7d", "7 days"], ["30d", "30 days"]];

// What can be done: what is asked, and what is sent.
const ACTS = {
  drain: {
    title: (of) => `Drain ${name(of)}`, button: "Drain", spans: DRAINS, fields: ["for"],
    text: "Nothing new goes there; what is under way is finished.",
    body: (of, values) => ({ ...target(of), ...(values.for && { for: values.for }), ...(values.force && { force: true }) }),
    done: (of) => `${name(of)} is drained.`,
  },
  undrain: {
    title: (of) => `Enable ${name(of)}`, button: "Enable", fields: [],
    text: "It is asked again, as far as its checks allow.",
    body: target, done: (of) => `${name(of)} is back.`,
  },
  ban: {
    title: () => "Ban somebody", button: "Ban", spans: BANS, fields: ["who", "scope", "for", "reason"],
    text: "With Redis it holds on every proxy of the fleet.",
    body: (_, values) => ({ who: values.who.trim(), scope: values.scope, for: values.for, ...(values.reason && { reason: values.reason }) }),
    done: (_, values) => `${values.who.trim()} is banned.`,
  },
  unban: {
    title: (of) => `Let ${of.who} in again`, button: "Lift the ban", fields: [], text: "",
    body: (of) => ({ who: of.who, scope: of.scope }), done: (of) => `${of.who} may come again.`,
  },
  token: {
    title: () => "Admin token", button: "Keep", fields: [],
    text: "Kept by this tab alone, until it is closed; sent to this proxy and to nobody else.",
  },
};

function name(of) {
  return of.zone ? `zone ${of.zone}` : `${of.pool}/${of.endpoint}`;
}

function target(of) {
  return of.zone ? { zone: of.zone } : { pool: of.pool, endpoint: of.endpoint };
}

let asked = null;

function ask(act, of) {
  asked = { act, of };
  const what = ACTS[act];
  form.reset();
  error.textContent = "";
  document.getElementById("dialog-title").textContent = what.title(of);
  document.getElementById("dialog-text").textContent = what.text;
  document.getElementById("confirm").textContent = what.button;
  form.elements.for.replaceChildren(...(what.spans || []).map(([value, label]) => new Option(label, value)));
  const fields = [...what.fields, ...(sessionStorage.getItem(KEY) && act !== "token" ? [] : ["token"])];
  for (const label of form.querySelectorAll("[data-field]")) label.hidden = !fields.includes(label.dataset.field);
  dialog.showModal();
  const first = form.querySelector("[data-field]:not([hidden]) :is(input, select)");
  (first || document.getElementById("confirm")).focus();
}

function reveal(field) {
  const label = form.querySelector(`[data-field=${field}]`);
  label.hidden = false;
  label.querySelector("input").focus();
}

let tokenKept = () => {};

function bearer() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function keep(token) {
  if (token) sessionStorage.setItem(KEY, token); else sessionStorage.removeItem(KEY);
  tokenButton.textContent = token ? "Forget token" : "Token";
  if (token) tokenKept();
}

async function change({ act, of }) {
  const values = Object.fromEntries(new FormData(form));
  if (values.token) keep(values.token);
  if (act === "token") return dialog.close();
  const what = ACTS[act];
  const headers = { "Content-Type": "application/json", ...bearer() };
  const answer = await fetch(`/${act}`, { method: "POST", headers, body: JSON.stringify(what.body(of, values)) });
  if (answer.ok) {
    dialog.close();
    tell(what.done(of, values));
    return;
  }
  error.textContent = (await answer.text()).trim();
  if (answer.status === 401) {
    keep("");
    reveal("token");
  } else if (answer.status === 409 && act === "drain") {
    reveal("force");
  }
}

let silence;

function tell(text) {
  const told = document.getElementById("told");
  told.textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => { told.textContent = ""; }, 6000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) ask(button.dataset.act, { ...button.dataset });
});

tokenButton.addEventListener("click", () => {
  if (!sessionStorage.getItem(KEY)) return ask("token", {});
  keep("");
  tell("The token is forgotten.");
});

document.getElementById("cancel").addEventListener("click", () => dialog.close());

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const confirm = document.getElementById("confirm");
  confirm.disabled = true;
  change(asked)
    .catch(() => { error.textContent = "The proxy did not answer."; })
    .finally(() => { confirm.disabled = false; });
});

keep(sessionStorage.getItem(KEY) || "");
watch();
