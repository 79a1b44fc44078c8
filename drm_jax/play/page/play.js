// The page of drm play: a room for each kind of puzzles, and what is common to all.
import { arcRoom } from "./arc.js";
import { ask, problem, trying } from "./ask.js";
import { boardsRoom } from "./boards.js";

const TITLES = { sudoku: "Sudoku", maze: "Mazes", arc: "ARC" };
const byId = (id) => document.getElementById(id);
const view = { safe: false, digits: false };
const rooms = {};
let open = null;

function enter(name, opens = true) {
  open = name;
  problem("");
  const { vocabulary } = rooms[name];
  byId("digits").parentElement.hidden = !vocabulary.colours.length;
  byId("safe").parentElement.hidden = !vocabulary.safe_colours.length;
  for (const [other, room] of Object.entries(rooms)) {
    room.place.hidden = other !== name;
    room.tab.setAttribute("aria-selected", String(other === name));
    room.tab.tabIndex = other === name ? 0 : -1;
  }
  rooms[name].resize();
  if (opens) rooms[name].opened();
}

function show(found) {
  enter(found.family, false);
  rooms[found.family].take(found.family === "arc" ? found.task : found.board);
}

// What the address asks for, as a link of the report does.
async function route() {
  const match = /^#task=(.*)$/.exec(location.hash);
  if (!match) return false;
  let name = "";
  try { name = decodeURIComponent(match[1]); } catch { /* a mistyped address */ }
  const found = await trying(() => ask("api/find", { name }));
  if (found) show(found);
  return found !== undefined;
}

function paintSwatches() {
  for (const { place, vocabulary } of Object.values(rooms)) {
    const colours = view.safe && vocabulary.safe_colours.length ? vocabulary.safe_colours : vocabulary.colours;
    for (const swatch of place.querySelectorAll(".swatch")) swatch.style.background = colours[vocabulary.symbols.indexOf(swatch.dataset.symbol)];
  }
}

function addRoom(name, room) {
  rooms[name] = room;
  room.tab = make("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `room-${name}`, onclick: () => enter(name) }, TITLES[name] || name);
  byId("tabs").append(room.tab);
  byId("rooms").append(room.place);
}

function onTabsKey(event) {
  const all = Object.keys(rooms), by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  event.stopPropagation();
  enter(all[(all.indexOf(open) + by + all.length) % all.length]);
  rooms[open].tab.focus();
}

function onKey(event) {
  const on = document.activeElement, { history, watch } = rooms[open];
  if (document.querySelector("dialog[open]") || on.matches("input[type=number], input[type=search], textarea, select")) return;
  let act = null;
  if ((event.ctrlKey || event.metaKey) && !event.altKey) act = { z: event.shiftKey ? history.redo : history.undo, Z: history.redo, y: history.redo }[event.key];
  else if (event.altKey || on.matches("input")) return;
  else if (event.key === "?") act = () => byId("keys").showModal();
  else if (watch && !(event.key === " " && on.matches("button, summary"))) act = { " ": watch.toggle, ",": () => watch.by(-1), ".": () => watch.by(1) }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

async function begin() {
  changesTheme(byId("theme"));
  byId("help").addEventListener("click", () => byId("keys").showModal());
  const about = await trying(() => ask("api/about"));
  if (!about) return;
  byId("report").hidden = !about.report;
  for (const [name, family] of Object.entries(about.families)) addRoom(name, boardsRoom(name, family, { about, view }));
  addRoom("arc", arcRoom({ about, view, found: show }));
  for (const name of ["safe", "digits"]) {
    byId(name).addEventListener("change", (event) => {
      view[name] = event.target.checked;
      for (const canvas of document.querySelectorAll("canvas")) canvas.paint();
      paintSwatches();
    });
  }
  paintSwatches();
  let width = window.innerWidth;
  window.addEventListener("resize", () => { if (width !== window.innerWidth) { width = window.innerWidth; rooms[open].resize(); } });
  window.addEventListener("hashchange", route);
  window.addEventListener("beforeunload", (event) => { if (Object.values(rooms).some((room) => room.isBusy())) event.preventDefault(); });
  byId("tabs").addEventListener("keydown", onTabsKey);
  document.addEventListener("keydown", onKey);
  enter(about.family, false);
  if (about.begin_with) show(about.begin_with);
  else if (!(await route())) rooms[open].opened();
}

begin();
