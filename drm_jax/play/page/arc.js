// ARC tasks: painted, taken or read from a file, adapted to, answered.
import { ask, download, follow, problem, trying, waiting } from "./ask.js";
import { button, enable, makeEditor, makeHistory, sized } from "./editor.js";

const UNMARKED = { given: () => true, conflict: () => false };

// page: about, what the server offers; view, how boards are drawn; found, which shows what was found.
export function arcRoom(page) {
  const { vocabulary } = page.about.arc, { symbols, colour_names: names } = vocabulary;
  const tools = gridTools({ vocabulary, blocks: null, marks: false }, page.view);
  const kind = { tools, symbols, written: symbols, blank: symbols[0], only: "", name: (symbol) => names[symbols.indexOf(symbol)] };
  const desk = deskPart(kind), adapt = adaptPart(kind, desk, page.about);
  const place = make("section", { class: "room arc", role: "tabpanel", id: "room-arc", "aria-labelledby": "tab-arc" },
    make("div", {}, taking(kind, desk, take, page.found), desk.element), adapt.element);
  function take(task) {
    adapt.stop();
    desk.take(task);
  }
  return { place, vocabulary, history: desk.history, take, watch: null, isBusy: adapt.isBusy, opened() {}, resize: desk.resize };
}

const newTask = (kind) => {
  const grid = () => sized(3, 3, kind.blank);
  return { id: "yours", train: [{ input: grid(), output: grid() }], test: [{ input: grid(), output: null }] };
};
const asJson = (kind, task) => {
  const numbers = (rows) => numbersOf(kind, rows);
  return {
    train: task.train.map(({ input, output }) => ({ input: numbers(input), output: numbers(output) })),
    test: task.test.map(({ input, output }) => ({ input: numbers(input), ...(output === null ? {} : { output: numbers(output) }) })),
  };
};
const numbersOf = (kind, rows) => rows.map((row) => [...row].map((s) => kind.symbols.indexOf(s)));

// --- the task that lies on the desk ------------------------------------------------------------------
function deskPart(kind) {
  let task = newTask(kind), editors = new Map(), brush = kind.symbols[1];
  const history = makeHistory(() => structuredClone(task), (next) => { task = next; draw(); });
  const filling = make("input", { type: "checkbox" });
  const painting = { brush: () => brush, fills: () => filling.checked, most: 190, largest: 30 };
  const parts = { train: make("div", { class: "task" }), test: make("div", { class: "task" }) };
  function draw() {
    const focused = [...editors].find(([, editor]) => editor.hasFocus());
    editors = new Map();
    for (const [part, place] of Object.entries(parts)) place.replaceChildren(...task[part].map((pair, n) => pairBox(kind, part, pair, n, { task, painting, history, editors, changed: draw })));
    if (focused && editors.has(focused[0])) editors.get(focused[0]).focus(focused[1].cursor());
  }
  const add = (part) => () => {
    const [pair] = newTask(kind)[part];
    history.remember();
    task[part].push(pair);
    draw();
  };
  const element = make("div", {},
    make("div", { class: "sticky" }, colours(kind, () => brush, (symbol) => { brush = symbol; }), make("div", { class: "bar" }, make("label", {}, filling, " fill areas"), button("undo", history.undo), button("redo", history.redo))),
    make("h2", {}, "Demonstrations"), parts.train, button("add a demonstration", add("train")),
    make("h2", {}, "Tests"), parts.test, button("add a test", add("test")));
  draw();
  return {
    element, history, task: () => task, resize() { for (const editor of editors.values()) editor.draw(); },
    take({ id, train, test }) { history.remember(); task = { id, train, test }; draw(); },
  };
}

function colours(kind, brush, choose) {
  const place = make("div", { class: "palette", role: "group", "aria-label": "colour" });
  for (const symbol of kind.symbols) {
    const entry = button("", () => {
      choose(symbol);
      for (const other of place.children) other.setAttribute("aria-pressed", String(other === entry));
    }, { "aria-label": `${kind.name(symbol)}, ${symbol}`, "aria-pressed": String(symbol === brush()) });
    entry.append(make("span", { class: "swatch", "data-symbol": symbol }), symbol);
    place.append(entry);
  }
  return place;
}

// desk: task; painting, settings of editors; history; editors by label, which are added; changed, after
// what needs other boxes.
function pairBox(kind, part, pair, n, desk) {
  const label = part === "train" ? `demonstration ${n + 1}` : `test ${n + 1}`, { task, history, changed } = desk;
  const change = (act) => () => { history.remember(); act(); changed(); };
  const output = pair.output !== null ? gridBox(kind, pair, "output", label, desk)
    : make("div", { class: "gridbox" }, make("span", { class: "empty" }, "to be answered"), make("div", { class: "size" }, button("I know it", change(() => { pair.output = [...pair.input]; }))));
  const extra = [];
  if (pair.output !== null) extra.push(button("copy input", change(() => { pair.output = [...pair.input]; }), { "aria-label": `${label}: copy the input to the output` }));
  if (part === "test" && pair.output !== null) extra.push(button("unknown", change(() => { pair.output = null; }), { "aria-label": `${label}: the output is unknown` }));
  if (task[part].length > 1) extra.push(button("remove", change(() => { task[part].splice(n, 1); }), { "aria-label": `remove ${label}` }));
  return make("div", { role: "group", "aria-label": label }, make("h3", {}, label),
    make("div", { class: "pairrow" }, gridBox(kind, pair, "input", label, desk), make("span", { class: "arrow" }, "→"), output), make("div", { class: "bar" }, ...extra));
}

function gridBox(kind, pair, side, label, { painting, history, editors }) {
  const name = `${label}, ${side}`, rows = () => pair[side];
  const editor = makeEditor(kind, name, { get: rows, set: (next) => { pair[side] = next; }, remember: history.remember }, painting);
  editors.set(name, editor);
  const count = (value, what, resized) => make("input", { type: "number", min: "1", max: "30", value: String(value), "aria-label": `${name}: ${what}`, onchange: (event) => {
    const wanted = Math.max(1, Math.min(30, Math.round(Number(event.target.value)) || 1));
    history.remember();
    pair[side] = resized(wanted);
    event.target.value = String(wanted);
    editor.draw();
  } });
  const height = count(rows().length, "rows", (wanted) => [...rows().slice(0, wanted), ...sized(Math.max(0, wanted - rows().length), rows()[0].length, kind.blank)]);
  const width = count(rows()[0].length, "columns", (wanted) => rows().map((row) => row.slice(0, wanted).padEnd(wanted, kind.blank)));
  editor.element.append(make("div", { class: "size" }, height, "×", width));
  return editor.element;
}

// --- tasks by their ids, and files -------------------------------------------------------------------
function taking(kind, desk, take, found) {
  const known = make("datalist", { id: "tasks" });
  const id = make("input", { type: "search", list: "tasks", size: "12", placeholder: "task id", "aria-label": "task id", onfocus: list, onkeydown: (event) => { if (event.key === "Enter") find(); } });
  let listed = false;
  async function list() {
    if (listed) return;
    listed = true;
    const sources = await trying(() => ask("api/tasks"));
    listed = sources !== undefined;
    for (const [source, of] of Object.entries(sources || {})) known.append(...of.map(([name, side]) => make("option", { value: name }, `${source}, up to ${side} × ${side}`)));
  }
  const taker = button("take this task", find);
  async function find() {
    enable(taker, false);
    const answer = await trying(() => ask("api/find", { name: id.value.trim() }));
    enable(taker, true);
    if (answer) found(answer);
  }
  const file = make("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: async () => {
    const [chosen] = file.files;
    const answer = chosen && await trying(async () => {
      if (chosen.size > 900000) throw new Error(`${chosen.name}: is larger than 900 kB`);
      return ask("api/read", { text: await chosen.text() });
    });
    file.value = "";
    if (answer) take({ ...answer.task, id: chosen.name.replace(/\.json$/, "") });
  } });
  return make("div", { class: "bar" }, id, known, taker, button("open a file …", () => file.click()), file,
    button("save the task", () => download(`${desk.task().id}.json`, asJson(kind, desk.task()))), button("begin anew", () => take(newTask(kind))));
}

// --- adapting ----------------------------------------------------------------------------------------
function adaptPart(kind, desk, about) {
  const minutes = make("select", { "aria-label": "minutes" }, ...[1, 2, 5, 10, 20].map((n) => make("option", { value: String(n), selected: n === 2 }, counted(n, "minute"))));
  const start = button("Adapt and answer", () => run(), { class: "go" }), halt = button("Stop", () => stop(), { "aria-disabled": "true" });
  const meter = make("progress", { max: "1", value: "0", "aria-label": "time used" }), time = make("span", { class: "dim" });
  const said = make("p", { class: "said dim", role: "status" }), log = make("pre", { tabIndex: 0 }), results = resultsPart(kind);
  let abort = null;
  const stop = () => { if (abort) abort.abort(); };
  async function run() {
    if (abort) return;
    const own = abort = new AbortController(), adapted = structuredClone(desk.task()), asked = Number(minutes.value);
    let began = null, stopped = true;
    log.textContent = "";
    said.textContent = "asking …";
    enable(start, false);
    enable(halt, true);
    results.begin(adapted);
    const timer = setInterval(() => {
      const used = began === null ? 0 : (performance.now() - began) / 1000;
      meter.value = Math.min(1, used / (60 * asked));
      time.textContent = `${Math.floor(used)} of at most ${60 * asked} s`;
    }, 250);
    await trying(() => follow("api/adapt", { task: asJson(kind, adapted), minutes: asked }, own.signal, (event) => {
      if (event.event === "waiting") said.textContent = waiting(event);
      else if (event.event === "begin") began = performance.now();
      else if (event.event === "said") { said.textContent = event.text; log.textContent += `${event.text}\n`; }
      else if (event.event === "answered") results.take(event);
      else if (event.event === "error") problem(event.text);
      else if (event.event === "end") ({ stopped } = event);
    }));
    clearInterval(timer);
    if (!stopped) meter.value = 1;
    said.textContent = stopped ? `stopped${results.last() ? `: the answers of ${results.last().words} stand` : ""}` : "done";
    abort = null;
    enable(start, true);
    enable(halt, false);
  }
  const element = make("div", {},
    make("h2", {}, "Adapt"),
    make("p", { class: "note" }, `A copy of the network learns your demonstrations, then answers the tests. Weights: ${about.weights.arc}. More minutes help.`),
    make("div", { class: "bar" }, minutes, start, halt, results.save), make("div", { class: "bar" }, meter, time), said,
    make("details", {}, make("summary", {}, "all that was said"), log), results.element);
  return { element, stop, isBusy: () => abort !== null };
}

// The attempts, and how they improved.
function resultsPart(kind) {
  let answers = [], adapted = null;
  const attempts = make("div", {}), timeline = make("div", { class: "timeline" });
  const element = make("div", { hidden: true }, make("h2", {}, "The answer"), attempts, make("h3", {}, "How it improved"), timeline);
  const save = button("save the answer", () => {
    if (!answers.length) return;
    const entry = (test) => Object.fromEntries(test.attempts.map(({ rows }, i) => [`attempt_${i + 1}`, numbersOf(kind, rows)]));
    download(`${adapted.id}_submission.json`, { [adapted.id]: answers.at(-1).tests.map(entry) });
  }, { "aria-disabled": "true" });
  const grid = (rows, most, words) => kind.tools.grid(rows, most, words, UNMARKED);
  function attempt(test, i, most) {
    const { rows, votes, right } = test.attempts[i], tone = right === null ? "" : right ? "good" : "bad";
    const words = `${{ good: "✓ ", bad: "✗ " }[tone] || ""}attempt ${i + 1}${votes === null ? "" : `, ${votes} of ${counted(test.votes, "vote")}`}`;
    return shown(words, grid(rows, most, words), tone);
  }
  function draw() {
    element.hidden = !answers.length;
    enable(save, answers.length > 0);
    attempts.replaceChildren(...(answers.length ? answers.at(-1).tests : []).map((test, n) => {
      const { input, output } = adapted.test[n];
      return make("section", { class: "test", "data-test": String(n + 1) }, make("h3", {}, `test ${n + 1}`),
        make("div", { class: "figures" }, shown("test input", grid(input, 220, "test input")), ...test.attempts.map((_, i) => attempt(test, i, 220)), output === null ? null : shown("known output", grid(output, 220, "known output"))));
    }));
    timeline.replaceChildren(...answers.map((of) => make("div", {}, make("div", {}, `after ${Math.round(of.seconds)} s`), make("div", { class: "dim" }, of.words), make("div", { class: "row" }, ...of.tests.map((test) => attempt(test, 0, 80))))));
  }
  return {
    element, save, last: () => answers.at(-1),
    begin(task) { answers = []; adapted = task; draw(); },
    take(event) { answers.push(event); draw(); },
  };
}
