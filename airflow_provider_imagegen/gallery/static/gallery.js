// The page: requests cards from the server, page by page, and shows them as the user scrolls and filters.

import { cardItem, identity } from "./cards.js";
import { Detail } from "./detail.js";
import { counted, element } from "./elements.js";
import { gallery } from "./places.js";

const REFRESH_INTERVAL = 5000;
const TYPING_PAUSE = 250;
const EMPTY_PAGES = 3; // after this many empty pages, the user decides whether to continue
const { view, dagId, runId } = document.body.dataset;
const find = (id) => document.getElementById(id);
const nearEnd = new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting) && shown.hasMore && !shown.loading) fill();
}, { rootMargin: "800px" });
const filters = find("filters");
const grid = find("grid");

/** What the server has sent so far, and the elements that show it. */
class Shown {
  constructor() {
    this.cards = [];
    this.items = new Map();
    this.after = null;
    this.hasMore = true;
    this.isFinished = true;
    this.warnings = new Set();
    this.loading = null;
    this.aborter = new AbortController();
  }

  get count() {
    return this.cards.length;
  }

  at(position) {
    return this.cards[position];
  }

  add(cards) {
    for (const card of cards) {
      if (this.items.has(identity(card))) continue;
      this.cards.push(card);
      grid.append(this.itemOf(card));
    }
  }

  itemOf(card) {
    const id = identity(card);
    if (!this.items.has(id)) this.items.set(id, cardItem(card, { withDag: view === "newest", open: () => this.open(id) }));
    return this.items.get(id);
  }

  open(id) {
    detail.open(this.cards.findIndex((card) => identity(card) === id));
  }

  /** Show these cards instead, without touching what stays where it is. */
  replace(cards) {
    const byId = new Map(cards.map((card) => [identity(card), card]));
    for (const [id, item] of this.items) {
      if (byId.has(id)) continue;
      item.remove();
      this.items.delete(id);
    }
    this.cards = Array.from(byId.values());
    let place = grid.firstElementChild;
    for (const card of this.cards) {
      const item = this.itemOf(card);
      if (item === place) place = place.nextElementSibling;
      else grid.insertBefore(item, place);
    }
  }

  more() {
    this.loading ??= this.load().finally(() => { this.loading = null; });
    return this.loading;
  }

  async load() {
    try {
      const page = await ask(this.after, this.aborter.signal);
      this.take(page);
    } catch (error) {
      if (this.aborter.signal.aborted) return;
      this.hasMore = false;
      showNotices([String(error.message ?? error)], () => { this.hasMore = true; this.more(); });
    }
    if (this === shown) summarise();
  }

  take(page) {
    this.add(page.cards);
    this.after = page.after;
    this.hasMore = page.after !== null;
    this.isFinished = page.is_finished;
    page.warnings.forEach((warning) => this.warnings.add(warning));
    showNotices(Array.from(this.warnings));
    suggest(page.cards);
  }

  stop() {
    this.aborter.abort();
  }
}

let shown = new Shown();
const detail = new Detail(
  {
    at: (position) => shown.at(position),
    get count() { return shown.count; },
    get hasMore() { return shown.hasMore; },
    more: () => shown.more(),
  },
  (card) => shown.items.get(identity(card))?.querySelector("button"),
);

async function ask(after, signal) {
  const path = view === "run" ? `dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}/images` : "images";
  const address = new URL(path, gallery);
  for (const [name, value] of new FormData(filters)) if (value.trim()) address.searchParams.set(name, value.trim());
  if (after) address.searchParams.set("after", after);
  const response = await fetch(address, { signal, headers: { Accept: "application/json" } });
  if (response.ok) return response.json();
  throw new Error(await errorMessage(response));
}

async function errorMessage(response) {
  if (response.status === 401) return "Your session has expired. Reload Airflow to log in again.";
  if (response.status === 403) return "You do not have permission to read the XComs of this DAG.";
  const body = await response.json().catch(() => ({}));
  return typeof body.detail === "string" ? body.detail : `The server returned ${response.status}.`;
}

function showNotices(notices, retry = null) {
  const boxes = notices.map((text) => {
    const box = element("div", { className: "notice" }, element("p", {}, text));
    if (retry) {
      const button = element("button", { type: "button", className: "button" }, "Try again");
      button.addEventListener("click", () => { box.remove(); retry(); });
      box.append(button);
    }
    return box;
  });
  find("notices").replaceChildren(...boxes);
}

function suggest(cards) {
  for (const [listId, field] of [["models", "model"], ["dags", "dag_id"]]) {
    const list = find(listId);
    const known = new Set(Array.from(list.options, (option) => option.value));
    for (const value of new Set(cards.map((card) => card[field]).filter(Boolean))) {
      if (!known.has(value)) list.append(element("option", { value }));
    }
  }
}

function isFiltered() {
  return Array.from(new FormData(filters).values()).some((value) => value.trim());
}

function summarise() {
  const failures = shown.cards.filter((card) => card.kind === "failure").length;
  const parts = [counted(shown.count - failures, "image")];
  if (failures) parts.push(counted(failures, "failure"));
  const more = shown.hasMore ? (shown.count ? ", more available" : " so far") : "";
  find("count").textContent = `${parts.join(", ")}${more}${shown.isFinished ? "" : "; run in progress"}`;
  find("end").replaceChildren(...ending());
}

function ending() {
  if (shown.hasMore) {
    const button = element("button", { type: "button", className: "button" }, shown.count ? "Show more" : "Search older runs");
    button.addEventListener("click", fill);
    return [button];
  }
  if (shown.count) return [];
  if (isFiltered()) {
    const button = element("button", { type: "button", className: "button" }, "Clear filters");
    button.addEventListener("click", () => { filters.reset(); restart(); });
    return [element("p", { className: "empty" }, "Nothing matches these filters."), button];
  }
  const where = view === "run" ? "This run has no images" : "There are no images in the DAGs that you can read";
  return [element("p", { className: "empty" }, shown.isFinished ? `${where}.` : `${where} yet. Images appear here when they have landed.`)];
}

/** Start again with the current filters. */
function restart() {
  shown.stop();
  shown = new Shown();
  grid.replaceChildren();
  find("count").textContent = "Loading …";
  find("end").replaceChildren(element("p", { className: "empty", "aria-hidden": "true" }, "Loading …"));
  remember();
  return fill();
}

/** Load until the window is full. */
async function fill() {
  const current = shown;
  let empty = 0;
  do {
    const before = current.count;
    await current.more();
    empty = current.count > before ? 0 : empty + 1;
  } while (current === shown && current.hasMore && empty < EMPTY_PAGES && isNear(find("end")));
  if (current === shown && empty < EMPTY_PAGES) watchEnd();
}

/** Observe the end again: the observer misses users who scroll there before it saw the end leave the window. */
function watchEnd() {
  nearEnd.unobserve(find("end"));
  nearEnd.observe(find("end"));
}

function isNear(target) {
  return target.getBoundingClientRect().top < innerHeight + 800;
}

/** Keep the filters in the page's address, for reloads. */
function remember() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(filters)) if (value.trim()) query.set(name, value.trim());
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
}

function recall() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = filters.elements.namedItem(name);
    if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) field.value = value;
  }
}

/** Refresh while the run is active: new cards can belong anywhere in the list. */
async function refresh() {
  if (shown.isFinished || document.hidden || detail.isOpen || shown.loading) return;
  const current = shown;
  const fresh = [];
  let after = null;
  try {
    do {
      const page = await ask(after, current.aborter.signal);
      fresh.push(...page.cards);
      after = page.after;
      current.isFinished = page.is_finished;
    } while (after !== null && fresh.length < current.count);
  } catch {
    return; // the next refresh reports it
  }
  if (current !== shown || detail.isOpen) return;
  current.after = after;
  current.hasMore = after !== null;
  current.replace(fresh);
  suggest(fresh);
  summarise();
}

/** Let arrow keys move between cards, as in any grid of images. */
function onGridKey(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const move = moves[event.key];
  const item = event.target.closest?.(".card");
  if (!move || !item || event.altKey || event.ctrlKey || event.metaKey) return;
  const target = move[0] ? (move[0] < 0 ? item.previousElementSibling : item.nextElementSibling) : beyond(item, move[1]);
  if (target) {
    event.preventDefault();
    target.querySelector("button").focus();
  }
}

/** Return the card in the next row that is nearest. */
function beyond(item, direction) {
  const from = item.getBoundingClientRect();
  const middle = from.left + from.width / 2;
  const step = direction < 0 ? "previousElementSibling" : "nextElementSibling";
  let row = null;
  let best = null;
  let distance = Infinity;
  for (let other = item[step]; other; other = other[step]) {
    const box = other.getBoundingClientRect();
    if (Math.abs(box.top - from.top) < 4) continue;
    row ??= box.top;
    if (Math.abs(box.top - row) > 4) break;
    const off = Math.abs(box.left + box.width / 2 - middle);
    if (off < distance) [best, distance] = [other, off];
  }
  return best;
}

let typing = 0;
filters.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(restart, TYPING_PAUSE);
});
filters.addEventListener("submit", (event) => event.preventDefault());
grid.addEventListener("keydown", onGridKey);
find("dag-field").hidden = view !== "newest";
if (view !== "newest") filters.elements.namedItem("dag_id").disabled = true;
setInterval(refresh, REFRESH_INTERVAL);
recall();
restart();
