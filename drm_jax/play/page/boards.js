// Puzzles on a board, such as Sudoku: posed, answered, and every pass of the answer.
import { ask, follow, problem, seed, trying, waiting } from "./ask.js";
import { button, enable, makeEditor, makeHistory, sized } from "./editor.js";

// page: about, what the server offers; view, how boards are drawn.
export function boardsRoom(name, family, page) {
  const kind = kindOf(family, page.view), question = questionPart(name, family, kind);
  const watch = watchPart(family, kind), answer = answerPart(name, family, page.about, question, watch);
  const place = make("section", { class: "room", role: "tabpanel", id: `room-${name}`, "aria-labelledby": `tab-${name}` }, question.element,
    make("div", {}, make("h2", {}, "The answer"), make("p", { class: "note" }, `${family.method}, weights: ${page.about.weights[name]}`), answer.element, watch.element));
  return {
    place, vocabulary: family.vocabulary, history: question.history, take: question.take, opened: question.opened, watch,
    isBusy: answer.isBusy, resize() { question.editor.draw(); watch.redraw(); },
  };
}

function kindOf(family, view) {
  const { vocabulary, question_symbols: written, blank } = family, { symbols, colour_names: names } = vocabulary;
  return {
    tools: gridTools({ vocabulary, blocks: family.blocks, marks: true }, view), symbols, written, blank, only: family.unique_symbols, paints: vocabulary.colours.length > 0,
    name: (symbol) => (names.length ? names[symbols.indexOf(symbol)] : symbol === blank ? "empty" : symbol),
  };
}

// Rows of a text: lines, or all cells in one; zeros and lines drawn between boxes are understood. null: it
// is no such board.
function rowsOf(text, { board: [height, width], question_symbols: written, blank }) {
  const drawn = /[|+]/.test(written) ? text : text.replace(/[|+]|-{2,}/g, "");
  const symbolOf = (s) => (written.includes(s) ? s : s === "0" && blank === "." ? "." : written.includes(s.toUpperCase()) ? s.toUpperCase() : s);
  const lines = drawn.replaceAll("\r", "").split("\n").map((line) => [...(written.includes(" ") ? line : line.replaceAll(" ", ""))].map(symbolOf).join(""));
  let rows = lines.filter((line) => line.length);
  if (rows.length === 1 && rows[0].length === height * width) rows = Array.from({ length: height }, (_, r) => rows[0].slice(r * width, (r + 1) * width));
  if (blank === " ") rows = rows.map((row) => row.padEnd(width));
  return rows.length === height && rows.every((row) => row.length === width && [...row].every((s) => written.includes(s))) ? rows : null;
}

// --- what is asked -----------------------------------------------------------------------------------
function questionPart(name, family, kind) {
  const [height, width] = family.board, empty = sized(height, width, kind.blank || kind.written[0]);
  let rows = empty, conflicts = new Set(), brush = kind.paints ? kind.written[0] : null, version = 0, pending = null, began = false;
  const remark = make("p", { class: "remark dim", role: "status" });
  function set(next) {
    const number = ++version;
    rows = next;
    clearTimeout(pending);
    pending = setTimeout(async () => {
      const found = await trying(() => ask("api/check", { family: name, board: rows }), true);
      if (!found || number !== version) return;
      conflicts = new Set(found.conflicts);
      remark.textContent = found.remark;
      editor.paint();
    }, 150);
  }
  const history = makeHistory(() => rows, (next) => { set(next); editor.draw(); });
  const editor = makeEditor(kind, "your puzzle", { get: () => rows, set, remember: history.remember }, { brush: () => brush, marks: (r, c) => conflicts.has(r * width + c), given: (symbol) => symbol !== kind.blank });
  function take(next) {
    history.remember();
    began = true;
    set(next);
    editor.draw();
  }
  async function draw(level) {
    const before = version, found = await trying(() => ask("api/draw", { family: name, level, seed: seed() }));
    if (found && version === before) take(found.board); // else somebody has written meanwhile
  }
  const element = make("div", {},
    make("h2", {}, "Your puzzle"), editor.element, remark, palette(kind, editor, () => brush, (symbol) => { brush = symbol; }),
    make("div", { class: "bar" }, button("undo", history.undo), button("redo", history.redo), button("clear", () => take(empty))),
    levels(family, draw), pasting(family, take));
  const opened = () => { if (!began && family.levels.length) { began = true; draw(family.levels[0]); } };
  return { element, rows: () => rows, take, history, editor, opened };
}

// Symbols to press: what is painted from now on, or what is written where the cursor is.
function palette(kind, editor, brush, choose) {
  const place = make("div", { class: "palette", role: "group", "aria-label": kind.paints ? "what to paint" : "what to write" });
  for (const symbol of kind.written) {
    const entry = button("", () => {
      if (!kind.paints) { editor.put(symbol); return; }
      choose(symbol);
      for (const other of place.children) other.setAttribute("aria-pressed", String(other === entry));
    });
    if (kind.paints) {
      entry.append(make("span", { class: "swatch", "data-symbol": symbol }), kind.name(symbol));
      entry.setAttribute("aria-pressed", String(symbol === brush()));
    } else {
      entry.textContent = symbol === kind.blank ? "⌫" : symbol;
      entry.setAttribute("aria-label", symbol === kind.blank ? "empty the cell" : symbol);
    }
    place.append(entry);
  }
  return place;
}

function levels(family, draw) {
  if (!family.levels.length) return null;
  const level = make("select", { "aria-label": "difficulty" }, ...family.levels.map((text) => make("option", {}, text)));
  return make("div", { class: "bar" }, level, button("take one", () => draw(level.value)));
}

function pasting(family, take) {
  const [height, width] = family.board;
  const text = make("textarea", { rows: String(Math.min(height, 10)), "aria-label": "the puzzle as text", spellcheck: false });
  return make("details", {}, make("summary", {}, "paste a puzzle"), text, make("div", { class: "bar" }, button("take it", () => {
    const found = rowsOf(text.value, family), symbols = [...family.question_symbols].map((s) => (s === " " ? "space" : s)).join(" ");
    problem(found ? "" : `the text: ${height * width} cells out of ${symbols}, in ${height} rows of ${width} or in one`);
    if (found) take(found);
  })));
}

// --- how it is answered ------------------------------------------------------------------------------
function answerPart(name, family, about, question, watch) {
  const number = (value, most) => make("input", { type: "number", min: "1", max: String(most), value: String(Math.min(value, most)) });
  const passes = number(family.passes, about.most.passes), rollouts = number(1, about.most.rollouts);
  const symmetric = make("input", { type: "checkbox", checked: family.has_symmetries });
  const remask = make("select", {}, ...["uniform", "confidence"].map((value) => make("option", { value, selected: value === family.remask }, value === "uniform" ? "random cells" : "the least sure")));
  const start = button("Answer it", () => run(), { class: "go" }), stop = button("Stop", () => abort && abort.abort(), { "aria-disabled": "true" });
  const status = make("p", { class: "remark", role: "status" });
  let abort = null;
  async function run() {
    if (abort) return;
    const own = abort = new AbortController(), body = {
      family: name, board: question.rows(), passes: Number(passes.value), rollouts: Number(rollouts.value),
      symmetric: symmetric.checked && family.has_symmetries, remask: family.remask ? remask.value : null, seed: seed(),
    };
    enable(start, false);
    enable(stop, true);
    status.textContent = "asking …";
    watch.begin();
    await trying(() => follow("api/answer", body, own.signal, (event) => {
      if (event.event === "waiting") status.textContent = waiting(event);
      else if (event.event === "compiling") status.textContent = "compiling; the next time it begins at once …";
      else if (event.event === "error") problem(event.text);
      else { watch.take(event); if (event.event === "pass") status.textContent = ""; }
    }));
    status.textContent = own.signal.aborted ? "stopped" : "";
    abort = null;
    watch.finish();
    enable(start, true);
    enable(stop, false);
  }
  const options = make("div", { class: "controls" },
    make("label", {}, "passes ", passes), make("label", {}, "rollouts ", rollouts),
    family.has_symmetries ? make("label", {}, symmetric, " each under a symmetry") : null,
    family.remask ? make("label", {}, "mask again ", remask) : null,
    make("label", {}, "speed ", watch.speed));
  return { element: make("div", {}, options, make("div", { class: "bar" }, start, stop), status), isBusy: () => abort !== null };
}

// --- what came of it: each pass in turn, at the speed that is asked for ------------------------------
function watchPart(family, kind) {
  let frames = [], begun = null, verdict = null, head = 0, playing = false, more = false, timer = null;
  const speed = make("input", { type: "range", min: "0", max: "1500", step: "50", value: "1050", "aria-label": "speed" });
  const bar = make("input", { type: "range", min: "1", value: "1", "aria-label": "pass", oninput: () => goTo(Number(bar.value) - 1) });
  const play = button("▶ play", () => toggle()), said = make("p", { class: "verdict", role: "status" });
  const rollouts = make("div", { class: "rollouts" }), legend = make("p", { class: "legend" });
  const mark = (text, checked) => { const box = make("input", { type: "checkbox", checked, onchange: () => redraw() }); return { box, label: make("label", {}, box, ` ${text}`) }; };
  const marks = { changed: mark("what changed", true), began: mark("what a pass began from", true), sure: mark("how sure it is", false) };
  const element = make("div", { hidden: true },
    make("div", { class: "bar" }, play, button("‹", () => by(-1), { "aria-label": "a pass back" }), button("›", () => by(1), { "aria-label": "a pass on" }), bar),
    make("div", { class: "bar" }, ...Object.values(marks).map(({ label }) => label)), said, rollouts, legend);

  function step() {
    clearTimeout(timer);
    if (!playing) return;
    timer = setTimeout(() => {
      if (head < frames.length - 1) { head++; redraw(); } else if (!more) { playing = false; redraw(); }
      step();
    }, 1500 - Number(speed.value));
  }
  function goTo(which) {
    playing = false;
    head = Math.max(0, Math.min(frames.length - 1, which));
    redraw();
  }
  const by = (count) => { if (frames.length) goTo(head + count); };
  function toggle() {
    if (!frames.length) return;
    playing = !playing;
    if (playing && head === frames.length - 1 && !more) head = 0;
    redraw();
    step();
  }
  function redraw() {
    element.hidden = !frames.length;
    bar.max = String(Math.max(1, frames.length));
    bar.value = String(head + 1);
    bar.setAttribute("aria-valuetext", `pass ${head + 1} of ${frames.length}`);
    play.textContent = playing ? "❚❚ pause" : "▶ play";
    if (!frames.length) { rollouts.replaceChildren(); said.textContent = ""; return; }
    const frame = frames[head], last = verdict !== null && head === frames.length - 1;
    const shows = Object.fromEntries(Object.entries(marks).map(([key, { box }]) => [key, box.checked]));
    const masks = frame.rollouts.some((of) => of.began !== null);
    marks.began.label.hidden = !masks;
    legend.textContent = `${masks ? "Hatched: masked. " : ""}Ring, in a conflict a dot: changed since the pass before.${kind.paints ? "" : " Black on grey: given."} Red outline: in conflict. How sure: from pale yellow, 0%, to dark blue, 100%.`;
    rollouts.replaceChildren(...frame.rollouts.map((of, n) => rolloutFigure(kind, family.board, {
      of, n, count: frame.rollouts.length, pass: head + 1, before: head > 0 ? frames[head - 1].rollouts[n].board : null, given: begun.given, words: begun.rollouts[n], best: last && verdict.best === n, shows,
    })));
    said.className = `verdict ${!last || verdict.valid === null ? "" : verdict.valid ? "good" : "bad"}`;
    said.textContent = last ? inWords(verdict, frame.rollouts.length) : `pass ${head + 1} of ${begun.passes}`;
  }
  return {
    element, speed, redraw, toggle, by,
    begin() { frames = []; begun = verdict = null; head = 0; playing = more = true; redraw(); step(); },
    take(event) {
      if (event.event === "begin") begun = { ...event, given: new Set(event.given) };
      else if (event.event === "pass") { frames.push(event); if (frames.length === 1) { redraw(); step(); } else bar.max = String(frames.length); }
      else if (event.event === "end") { verdict = event; if (head === frames.length - 1) redraw(); }
    },
    finish() { more = false; if (head >= frames.length - 1) { playing = false; redraw(); } },
  };
}

function inWords({ valid, best, votes }, count) {
  const whose = count === 1 ? "" : valid ? ` (rollout ${best + 1})` : ` (rollout ${best + 1}, given by ${votes} of ${count})`;
  return valid === null ? `answered${whose}` : valid ? `✓ solved: every rule is kept${whose}` : `✗ not solved: the answer breaks a rule${whose}`;
}

// One rollout after a pass. of: the server's event; before: its board a pass before; shows: what is marked.
function rolloutFigure(kind, [height, width], { of, n, count, pass, before, given, words, best, shows }) {
  const room = Math.min(count === 1 ? 400 : 230, window.innerWidth - 40), cell = Math.max(5, Math.min(40, Math.floor(room / Math.max(height, width))));
  const small = Math.max(5, Math.floor(cell * (count === 1 ? 0.6 : 0.5))), masked = of.began ? of.began.filter((s) => s < 0).length : 0;
  const changed = new Set(before === null ? [] : of.board.flatMap((s, i) => (s === before[i] ? [] : [i])));
  const mean = Math.round(of.confidence.reduce((a, b) => a + b, 0) / of.confidence.length);
  const board = (size, text, paintCell) => kind.tools.board(height, width, size, text, (pen, r, c, x, y) => paintCell(pen, r * width + c, x, y));
  const pictures = [shown("answer", answerBoard(kind, board, cell, [height, width], of, given, shows.changed ? changed : new Set(), `rollout ${n + 1}, pass ${pass}`))];
  if (of.began && shows.began) {
    pictures.push(shown("began from", board(small, `what rollout ${n + 1} began from: ${masked} masked`, (pen, i, x, y) => {
      if (of.began[i] < 0) hatch(pen, x, y, small); else kind.tools.paintSymbol(pen, of.began[i], x, y, small, given.has(i), false);
    })));
  }
  if (shows.sure) pictures.push(shown("how sure", board(small, `how sure rollout ${n + 1} is: mean ${mean}%`, (pen, i, x, y) => kind.tools.paint(pen, confidenceColour(of.confidence[i]), x, y, small, null))));
  const facts = [of.began ? `${masked} masked before` : "", before ? `${changed.size} changed` : "", of.valid === null ? "" : of.valid ? "every rule is kept" : `${counted(of.conflicts.length, "cell")} in conflict`, `halting ${of.halting === null ? "–" : of.halting.toFixed(2)}`, `mean confidence ${mean}%`];
  const symmetry = words === "as it is" ? "" : words.length < 40 ? `: ${words}` : ": under another symmetry";
  return make("div", { class: `rollout${best ? " best" : ""}`, "data-rollout": String(n + 1) },
    count > 1 ? make("h3", { title: words }, `${best ? "★ " : ""}rollout ${n + 1}${symmetry}`) : null,
    make("div", { class: "boards" }, ...pictures), make("p", { class: of.valid ? "good" : "dim" }, facts.filter(Boolean).join(" · ")));
}

function answerBoard(kind, board, cell, [height, width], of, given, changed, words) {
  const broken = new Set(of.conflicts), symbolAt = (i) => Math.max(0, of.board[i]);
  const rows = Array.from({ length: height }, (_, r) => of.board.slice(r * width, (r + 1) * width).map((s) => kind.symbols[Math.max(0, s)]).join(""));
  const label = `${words}: ${kind.tools.inWords(rows)}${kind.tools.conflictsInWords(height, width, (r, c) => broken.has(r * width + c))}`;
  return board(cell, label, (pen, i, x, y) => {
    kind.tools.paintSymbol(pen, symbolAt(i), x, y, cell, given.has(i), broken.has(i));
    if (!changed.has(i)) return;
    pen.strokeStyle = pen.fillStyle = isDark(kind.tools.colourOf(symbolAt(i))) ? "#ffffff" : "#000000";
    pen.lineWidth = Math.max(1, cell / 14);
    const inset = 2 + (broken.has(i) ? kind.tools.outlineWidth(cell) : 0), dot = Math.max(2, Math.round(cell / 6));
    if (broken.has(i)) pen.fillRect(x + cell - 1 - inset - dot, y + inset, dot, dot); // a ring would hide the digit
    else pen.strokeRect(x + inset, y + inset, cell - 1 - 2 * inset, cell - 1 - 2 * inset);
  });
}
