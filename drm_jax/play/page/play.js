(async () => {
  const byId = (id) => document.getElementById(id);
  const view = { safe: false, digits: false };
  const repaint = () => { for (const canvas of document.querySelectorAll("canvas")) canvas.paint(); };
  for (const name of ["safe", "digits"]) {
    byId(name).addEventListener("change", (event) => { view[name] = event.target.checked; repaint(); });
  }
  changesTheme(byId("theme"));
  byId("help").addEventListener("click", () => byId("keys").showModal());

  // --- asking the server ---------------------------------------------------------------------------
  function problem(text) {
    byId("problem").textContent = text;
    byId("problem").hidden = !text;
  }

  async function answered(path, body, signal) {
    const settings = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    let response;
    try {
      response = await fetch(path, { ...settings, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("drm play doesn't answer: is it still running?", { cause: error });
    }
    if (response.ok) return response;
    let words = `the server answered ${response.status}`;
    try { words = (await response.json()).error || words; } catch { /* no JSON */ }
    throw new Error(words);
  }
  const ask = async (path, body) => (await answered(path, body)).json();

  // The events of a job, as they come.
  async function follow(path, body, signal, take) {
    const reader = (await answered(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) take(JSON.parse(line));
    }
  }

  // Runs something that may fail; what went wrong is said on the page.
  async function trying(act) {
    problem("");
    try {
      return await act();
    } catch (error) {
      if (error.name !== "AbortError") problem(error.message);
      return undefined;
    }
  }

  function download(name, value) {
    const url = URL.createObjectURL(new Blob([JSON.stringify(value)], { type: "application/json" }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }

  const waiting = ({ before }) => (before ? `waiting for ${counted(before, "other request")} …` : "getting ready …");
  const seed = () => Math.floor(Math.random() * 2 ** 31);
  const button = (text, onclick, settings = {}) => make("button", { type: "button", onclick, ...settings }, text);
  const sized = (height, width, symbol) => Array.from({ length: height }, () => symbol.repeat(width));
  const replaced = (rows, r, c, symbol) => rows.map((row, i) => (i === r ? row.slice(0, c) + symbol + row.slice(c + 1) : row));

  // What was changed last, in a room: a list of states that can be gone back to.
  function makeHistory(read, write) {
    const before = [], after = [];
    const go = (from, to) => {
      if (!from.length) return;
      to.push(read());
      write(from.pop());
    };
    return {
      remember() {
        before.push(read());
        if (before.length > 200) before.shift();
        after.length = 0;
      },
      undo: () => go(before, after),
      redo: () => go(after, before),
    };
  }

  // --- a board that can be written on --------------------------------------------------------------
  // kind: tools, symbols that may be written, blank, writes: whether digits are typed where the cursor
  // is, else cells are painted; names of symbols. brush: what paints, or null; fills: whether it fills.
  function makeEditor(kind, label, get, set, remember, { brush = () => null, fills = () => false, marks = () => false, most = 320, largest = 36, given = () => true } = {}) {
    const element = make("div", { class: "gridbox" });
    const said = make("p", { class: "heard", role: "status" }); // for those who can't see the cursor
    let cursor = [0, 0], canvas = null, pressed = false, focus = false;

    function cellSize(rows) {
      const room = Math.min(most, window.innerWidth - 48);
      return Math.max(5, Math.min(largest, Math.floor(room / Math.max(rows.length, rows[0].length))));
    }

    function draw() {
      const rows = get(), height = rows.length, width = rows[0].length, cell = cellSize(rows);
      const focused = focus;
      cursor = [Math.min(cursor[0], height - 1), Math.min(cursor[1], width - 1)];
      const now = kind.tools.board(height, width, cell, label, (pen, r, c, x, y) => {
        const current = get();
        kind.tools.paintSymbol(pen, kind.symbols.indexOf(current[r][c]), x, y, cell, given(current[r][c]), marks(r, c));
        if (r === cursor[0] && c === cursor[1] && focus) {
          pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
          pen.lineWidth = 3;
          pen.strokeRect(x + 1.5, y + 1.5, cell - 4, cell - 4);
        }
      });
      now.className += " editor";
      now.tabIndex = 0;
      now.setAttribute("role", "application");
      now.setAttribute("aria-roledescription", "board");
      now.setAttribute("aria-label", `${label}: ${kind.tools.inWords(rows)}`);
      now.addEventListener("keydown", key);
      now.addEventListener("pointerdown", down);
      now.addEventListener("pointermove", move);
      for (const end of ["pointerup", "pointercancel"]) now.addEventListener(end, () => { pressed = false; });
      now.addEventListener("focus", () => { focus = true; now.paint(); });
      now.addEventListener("blur", () => { focus = false; now.paint(); });
      if (canvas) canvas.replaceWith(now); else element.prepend(now);
      canvas = now;
      if (focused) canvas.focus({ preventScroll: true });
    }

    function tell() {
      const [r, c] = cursor, symbol = get()[r][c];
      said.textContent = `row ${r + 1}, column ${c + 1}: ${kind.name(symbol)}`;
    }

    // The canvas stays while a pointer is down on it: only its cells change.
    function write(r, c, symbol) {
      const rows = get();
      if (rows[r][c] === symbol) return;
      set(kind.only && kind.only.includes(symbol) ? replaced(rows.map((row) => row.replaceAll(symbol, kind.blank)), r, c, symbol) : replaced(rows, r, c, symbol));
      canvas.paint();
      canvas.setAttribute("aria-label", `${label}: ${kind.tools.inWords(get())}`);
    }

    function fill(r, c, symbol) {
      const rows = get().map((row) => [...row]), old = rows[r][c], todo = [[r, c]];
      if (old === symbol) return;
      while (todo.length) {
        const [y, x] = todo.pop();
        if (!rows[y] || rows[y][x] !== old) continue;
        rows[y][x] = symbol;
        todo.push([y + 1, x], [y - 1, x], [y, x + 1], [y, x - 1]);
      }
      set(rows.map((row) => row.join("")));
      canvas.paint();
    }

    function use(r, c, symbol) {
      if (symbol === null) return;
      if (fills()) fill(r, c, symbol); else write(r, c, symbol);
      tell();
    }

    function at(event) {
      const box = canvas.getBoundingClientRect(), rows = get();
      const r = Math.floor((event.clientY - box.top) / box.height * rows.length);
      const c = Math.floor((event.clientX - box.left) / box.width * rows[0].length);
      return r >= 0 && c >= 0 && r < rows.length && c < rows[0].length ? [r, c] : null;
    }

    function down(event) {
      if (event.button !== 0) return;
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      const cell = at(event);
      if (!cell) return;
      cursor = cell;
      canvas.paint();
      tell();
      if (brush() === null) return;
      remember();
      pressed = !fills();
      canvas.setPointerCapture(event.pointerId);
      use(...cell, brush());
    }

    function move(event) {
      if (!pressed || brush() === null) return;
      const cell = at(event);
      if (!cell) return;
      // Fast moves skip cells: those between are painted too.
      const [r0, c0] = cursor, [r1, c1] = cell, count = Math.max(Math.abs(r1 - r0), Math.abs(c1 - c0));
      for (let i = 1; i <= count; i++) write(Math.round(r0 + (r1 - r0) * i / count), Math.round(c0 + (c1 - c0) * i / count), brush());
      cursor = cell;
      if (count) canvas.paint();
    }

    function key(event) {
      const rows = get(), [r, c] = cursor;
      const arrow = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -99], End: [0, 99] }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const typed = kind.written.includes(event.key) ? event.key : kind.written.includes(event.key.toUpperCase()) ? event.key.toUpperCase() : event.key === "0" && kind.blank === "." ? "." : null;
      if (arrow) {
        cursor = [Math.max(0, Math.min(rows.length - 1, r + arrow[0])), Math.max(0, Math.min(rows[0].length - 1, c + arrow[1]))];
        canvas.paint();
        tell();
      } else if (event.key === "Backspace" || event.key === "Delete") {
        remember();
        write(r, c, kind.blank);
        tell();
      } else if (typed !== null && event.key.length === 1) {
        remember();
        write(r, c, typed);
        tell();
      } else if ((event.key === "Enter" || event.key === " ") && brush() !== null) {
        remember();
        use(r, c, brush());
      } else return;
      event.preventDefault();
      event.stopPropagation();
    }

    draw();
    element.append(said);
    return { element, draw, cursor: () => cursor, put(symbol) { remember(); write(...cursor, symbol); tell(); canvas.focus({ preventScroll: true }); }, paint: () => canvas.paint() };
  }

  // --- puzzles on a board --------------------------------------------------------------------------
  function boardsRoom(name, family) {
    const { vocabulary, question_symbols: written, board: [height, width] } = family;
    const { symbols, colour_names: names } = vocabulary;
    const tools = gridTools({ vocabulary, blocks: family.blocks, marks: true }, view);
    const paints = vocabulary.colours.length > 0, blank = written.includes(".") ? "." : written.includes(" ") ? " " : written[0];
    const kind = {
      tools, symbols, written, blank, only: paints ? ["S", "G"] : [],
      name: (symbol) => (names.length ? names[symbols.indexOf(symbol)] : symbol === blank ? "empty" : symbol),
    };
    const place = make("section", { class: "room", role: "tabpanel", id: `room-${name}`, "aria-labelledby": `tab-${name}` });
    let rows = sized(height, width, blank), conflicts = new Set(), brush = paints ? written[0] : null;
    let frames = [], begun = null, verdict = null, asked = rows, head = 0, playing = true, timer = null, abort = null;

    // What is asked: the board, and ways to fill it.
    const remark = make("p", { class: "remark dim", role: "status" });
    let checks = 0, pending = null;
    function changed() {
      clearTimeout(pending);
      pending = setTimeout(async () => {
        const number = ++checks;
        const found = await trying(() => ask("api/check", { family: name, board: rows }));
        if (!found || number !== checks) return;
        conflicts = new Set(found.conflicts);
        remark.textContent = found.remark;
        editor.paint();
      }, 150);
    }
    const set = (next) => { rows = next; changed(); };
    const history = makeHistory(() => rows, (next) => { set(next); editor.draw(); });
    const editor = makeEditor(kind, "your puzzle", () => rows, set, history.remember, {
      brush: () => brush, marks: (r, c) => conflicts.has(r * width + c), given: (symbol) => symbol !== blank,
    });
    const palette = make("div", { class: "palette", role: "group", "aria-label": paints ? "what to paint" : "digits" });
    for (const symbol of written) {
      const entry = button("", () => {
        if (!paints) { editor.put(symbol); return; }
        brush = symbol;
        for (const other of palette.children) other.setAttribute("aria-pressed", String(other === entry));
      });
      if (paints) {
        entry.append(make("span", { class: "swatch", "data-symbol": symbol }), kind.name(symbol));
        entry.setAttribute("aria-pressed", String(symbol === brush));
      } else {
        entry.textContent = symbol === blank ? "⌫" : symbol;
        entry.setAttribute("aria-label", symbol === blank ? "empty the cell" : symbol);
      }
      palette.append(entry);
    }
    const level = make("select", { "aria-label": "difficulty" }, ...family.levels.map((text) => make("option", {}, text)));
    const pasted = make("textarea", { rows: String(Math.min(height, 10)), "aria-label": "the puzzle as text", spellcheck: false });
    function take(next) {
      history.remember();
      set(next);
      editor.draw();
    }
    async function draw() {
      const found = await trying(() => ask("api/draw", { family: name, level: level.value, seed: seed() }));
      if (found) take(found.board);
    }
    function paste() {
      const found = rowsOf(pasted.value);
      if (found === null) problem(`the text: ${height * width} cells out of ${[...written].map((s) => (s === " " ? "space" : s)).join(" ")}, in ${height} rows of ${width} or in one`);
      else { problem(""); take(found); }
    }
    // Rows of a text: lines, or all cells in one; zeros and lines drawn between boxes are understood.
    function rowsOf(text) {
      const drawn = written.includes("|") || written.includes("+") ? text : text.replace(/[|+]|-{2,}/g, "");
      const lines = drawn.replaceAll("\r", "").split("\n").map((line) => (blank === " " ? line : line.replaceAll(" ", "")));
      const upper = lines.map((line) => [...line].map((s) => (written.includes(s) ? s : s === "0" && blank === "." ? "." : s.toUpperCase())).join(""));
      let found = upper.filter((line) => line.length);
      if (found.length === 1 && found[0].length === height * width) found = Array.from({ length: height }, (_, r) => found[0].slice(r * width, (r + 1) * width));
      if (blank === " ") found = found.map((line) => line.padEnd(width));
      return found.length === height && found.every((line) => line.length === width && [...line].every((s) => written.includes(s))) ? found : null;
    }

    // How it is answered.
    const number = (value, most) => make("input", { type: "number", min: "1", max: String(most), value: String(value) });
    const passes = number(family.passes, about.most.passes), rollouts = number(1, about.most.rollouts);
    const symmetric = make("input", { type: "checkbox", checked: family.has_symmetries });
    const remask = make("select", {}, ...["uniform", "confidence"].map((value) => make("option", { value, selected: value === family.remask }, value === "uniform" ? "random cells" : "the least sure")));
    const speed = make("input", { type: "range", min: "0", max: "1500", step: "50", value: "1050", "aria-label": "speed" });
    const start = button("Answer it", () => run(), { class: "go" }), stop = button("Stop", () => abort && abort.abort(), { disabled: true });
    async function run() {
      if (abort) return;
      abort = new AbortController();
      frames = []; begun = null; verdict = null; head = 0; playing = true; asked = rows;
      start.disabled = true;
      stop.disabled = false;
      status.textContent = "asking …";
      show();
      const body = {
        family: name, board: rows, passes: Number(passes.value), rollouts: Number(rollouts.value),
        symmetric: symmetric.checked && family.has_symmetries, remask: family.remask ? remask.value : null, seed: seed(),
      };
      await trying(() => follow("api/answer", body, abort.signal, take_in));
      if (!verdict && frames.length) status.textContent = "stopped";
      else if (!verdict) status.textContent = "";
      abort = null;
      start.disabled = false;
      stop.disabled = true;
    }
    function take_in(event) {
      if (event.event === "waiting") status.textContent = waiting(event);
      else if (event.event === "compiling") status.textContent = "compiling; the next time it begins at once …";
      else if (event.event === "error") problem(event.text);
      else if (event.event === "begin") begun = event;
      else if (event.event === "pass") {
        frames.push(event);
        status.textContent = "";
        if (frames.length === 1) { show(); schedule(); } else showBar();
      } else if (event.event === "end") { verdict = event; if (head === frames.length - 1) show(); }
    }

    // What is shown: each pass in turn, at the speed that is asked for.
    const bar = make("input", { type: "range", min: "1", value: "1", "aria-label": "pass", oninput: () => { playing = false; head = Number(bar.value) - 1; show(); } });
    const play = button("❚❚ pause", () => toggle());
    const status = make("p", { class: "remark", role: "status" });
    const said = make("p", { class: "verdict", role: "status" });
    const boards = make("div", { class: "rollouts" });
    const marksOf = {};
    const mark = (key, text, on) => {
      marksOf[key] = make("input", { type: "checkbox", checked: on, onchange: () => show() });
      return make("label", {}, marksOf[key], ` ${text}`);
    };
    const fromTokens = family.remask !== null;
    const watching = make("div", {},
      make("div", { class: "bar" }, play, button("‹", () => by(-1), { "aria-label": "a pass back" }), button("›", () => by(1), { "aria-label": "a pass on" }), bar),
      make("div", { class: "bar" }, mark("changed", "what changed", true), fromTokens ? mark("began", "what a pass began from", true) : null, mark("sure", "how sure it is", false)),
      said, boards,
      make("p", { class: "legend" }, `${fromTokens ? "Hatched: masked. " : ""}Ring: changed since the pass before.${paints ? "" : " Black on grey: given."} Red outline: in conflict. How sure: from pale yellow, 0%, to dark blue, 100%.`));
    watching.hidden = true;

    function schedule() {
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (playing && head < frames.length - 1) { head++; show(); }
        if (playing && (head < frames.length - 1 || abort)) schedule(); else if (playing) { playing = false; showBar(); }
      }, 1500 - Number(speed.value));
    }
    function toggle() {
      playing = !playing;
      if (playing && head === frames.length - 1 && !abort) head = 0;
      show();
      if (playing) schedule();
    }
    function by(count) {
      playing = false;
      head = Math.max(0, Math.min(frames.length - 1, head + count));
      show();
    }
    function showBar() {
      bar.max = String(Math.max(1, frames.length));
      bar.value = String(head + 1);
      bar.setAttribute("aria-valuetext", `pass ${head + 1} of ${frames.length}`);
      play.textContent = playing ? "❚❚ pause" : "▶ play";
    }
    function show() {
      watching.hidden = !frames.length;
      showBar();
      if (!frames.length) { boards.replaceChildren(); said.textContent = ""; return; }
      const last = verdict && head === frames.length - 1, count = frames[head].rollouts.length;
      boards.replaceChildren(...frames[head].rollouts.map((of, n) => figure(of, n, count, last && verdict.best === n)));
      said.className = "verdict";
      said.textContent = `pass ${head + 1} of ${begun.passes}`;
      if (last) {
        const votes = count > 1 ? ` (${verdict.valid ? `rollout ${verdict.best + 1}` : `rollout ${verdict.best + 1}, given by ${verdict.votes} of ${count}`})` : "";
        said.textContent = verdict.valid === null ? `answered${votes}` : verdict.valid ? `✓ solved: every rule is kept${votes}` : `✗ not solved: the answer breaks a rule${votes}`;
        if (verdict.valid !== null) said.className = `verdict ${verdict.valid ? "good" : "bad"}`;
      }
    }
    function symmetryOf(n) {
      const words = begun.rollouts[n];
      return words === "as it is" ? "" : words.length < 24 ? `: ${words}` : ": other digits and lines";
    }
    function figure(of, n, count, best) {
      const room = Math.min(count === 1 ? 400 : 230, window.innerWidth - 40), cell = Math.max(5, Math.min(40, Math.floor(room / Math.max(height, width))));
      const before = head > 0 ? frames[head - 1].rollouts[n].board : null, broken = new Set(of.conflicts);
      const isGiven = (i) => asked[Math.floor(i / width)][i % width] !== blank;
      const symbolAt = (i) => Math.max(0, of.board[i]), differs = (i) => before !== null && before[i] !== of.board[i];
      const inRows = Array.from({ length: height }, (_, r) => of.board.slice(r * width, (r + 1) * width).map((s) => symbols[Math.max(0, s)]).join(""));
      const answer = tools.board(height, width, cell, `rollout ${n + 1}, pass ${head + 1}: ${tools.inWords(inRows)}${tools.conflictsInWords(height, width, (r, c) => broken.has(r * width + c))}`, (pen, r, c, x, y) => {
        const i = r * width + c;
        tools.paintSymbol(pen, symbolAt(i), x, y, cell, isGiven(i), broken.has(i));
        if (!marksOf.changed.checked || !differs(i)) return;
        pen.strokeStyle = isDark(tools.colourOf(symbolAt(i))) ? "#ffffff" : "#000000";
        pen.lineWidth = Math.max(1, cell / 14);
        const inset = 2 + (broken.has(i) ? tools.outlineWidth(cell) + 1 : 0);
        pen.strokeRect(x + inset, y + inset, cell - 1 - 2 * inset, cell - 1 - 2 * inset);
      });
      const pictures = [shown("answer", answer)], small = Math.max(5, Math.floor(cell * (count === 1 ? 0.6 : 0.5)));
      if (fromTokens && of.began && marksOf.began.checked) {
        pictures.push(shown("began from", tools.board(height, width, small, `what rollout ${n + 1} began from: ${of.began.filter((s) => s < 0).length} masked`, (pen, r, c, x, y) => {
          const i = r * width + c;
          if (of.began[i] < 0) hatch(pen, x, y, small); else tools.paintSymbol(pen, of.began[i], x, y, small, isGiven(i), false);
        })));
      }
      const mean = Math.round(of.confidence.reduce((a, b) => a + b, 0) / of.confidence.length);
      if (marksOf.sure.checked) {
        pictures.push(shown("how sure", tools.board(height, width, small, `how sure rollout ${n + 1} is: mean ${mean}%`, (pen, r, c, x, y) => {
          tools.paint(pen, confidenceColour(of.confidence[r * width + c]), x, y, small, null);
        })));
      }
      const facts = [];
      if (of.began) facts.push(`${of.began.filter((s) => s < 0).length} masked before`);
      if (before) facts.push(`${of.board.filter((_, i) => differs(i)).length} changed`);
      if (of.valid !== null) facts.push(of.valid ? "every rule is kept" : counted(of.conflicts.length, "cell") + " in conflict");
      facts.push(`halting ${of.halting.toFixed(2)}`, `mean confidence ${mean}%`);
      return make("div", { class: `rollout${best ? " best" : ""}`, "data-rollout": String(n + 1) },
        count > 1 ? make("h3", { title: begun.rollouts[n] }, `${best ? "★ " : ""}rollout ${n + 1}${symmetryOf(n)}`) : null,
        make("div", { class: "boards" }, ...pictures), make("p", { class: of.valid ? "good" : "dim" }, facts.join(" · ")));
    }

    const options = make("div", { class: "controls" },
      make("label", {}, "passes ", passes), make("label", {}, "rollouts ", rollouts),
      family.has_symmetries ? make("label", {}, symmetric, " each under a symmetry") : null,
      family.remask ? make("label", {}, "mask again ", remask) : null,
      make("label", {}, "speed ", speed));
    place.append(
      make("div", {},
        make("h2", {}, "Your puzzle"), editor.element, remark, palette,
        make("div", { class: "bar" }, button("undo", history.undo), button("redo", history.redo), button("clear", () => take(sized(height, width, blank)))),
        family.levels.length ? make("div", { class: "bar" }, level, button("take one", draw)) : null,
        make("details", {}, make("summary", {}, "paste a puzzle"), pasted, make("div", { class: "bar" }, button("take it", paste)))),
      make("div", {},
        make("h2", {}, "The answer"),
        make("p", { class: "dim" }, `${family.method}, weights: ${about.weights[name]}`),
        options, make("div", { class: "bar" }, start, stop), status, watching));
    return { place, take, history, resize() { editor.draw(); if (frames.length) show(); }, watch: { toggle: () => frames.length && toggle(), by: (n) => frames.length && by(n) }, opened() { if (rows.every((row) => row === blank.repeat(width)) && family.levels.length) draw(); } };
  }

  // --- ARC tasks -----------------------------------------------------------------------------------
  function arcRoom() {
    const { vocabulary } = about.arc, { symbols, colour_names: names } = vocabulary;
    const tools = gridTools({ vocabulary, blocks: null, marks: false }, view);
    const kind = { tools, symbols, written: symbols, blank: symbols[0], name: (symbol) => names[symbols.indexOf(symbol)] };
    const place = make("section", { class: "room arc", role: "tabpanel", id: "room-arc", "aria-labelledby": "tab-arc" });
    const grid = () => sized(3, 3, symbols[0]);
    let task = { id: "yours", train: [{ input: grid(), output: grid() }], test: [{ input: grid(), output: null }] };
    let brush = symbols[1], fills = false, abort = null, answers = [], adapted = null, timer = null;
    const history = makeHistory(() => structuredClone(task), (next) => { task = next; draw(); });

    // Painting.
    const palette = make("div", { class: "palette", role: "group", "aria-label": "colour" });
    for (const symbol of symbols) {
      const entry = button("", () => {
        brush = symbol;
        for (const other of palette.children) other.setAttribute("aria-pressed", String(other === entry));
      }, { "aria-label": `${names[symbols.indexOf(symbol)]}, ${symbol}`, "aria-pressed": String(symbol === brush) });
      entry.append(make("span", { class: "swatch", "data-symbol": symbol }), symbol);
      palette.append(entry);
    }
    const filling = make("input", { type: "checkbox", onchange: () => { fills = filling.checked; } });

    const examples = make("div", { class: "task" }), tests = make("div", { class: "task" });
    function draw() {
      examples.replaceChildren(...task.train.map((pair, n) => pairBox("train", n)));
      tests.replaceChildren(...task.test.map((pair, n) => pairBox("test", n)));
    }
    function pairBox(part, n) {
      const label = part === "train" ? `demonstration ${n + 1}` : `test ${n + 1}`, pair = task[part][n];
      const change = (act) => () => { history.remember(); act(); draw(); };
      const output = pair.output === null
        ? make("div", { class: "gridbox" }, make("span", { class: "empty" }, "to be answered"), make("div", { class: "size" }, button("I know it", change(() => { pair.output = [...pair.input]; }))))
        : gridBox(label, pair, "output");
      const extra = [];
      if (pair.output !== null) extra.push(button("copy input", change(() => { pair.output = [...pair.input]; }), { "aria-label": `${label}: copy the input to the output` }));
      if (part === "test" && pair.output !== null) extra.push(button("unknown", change(() => { pair.output = null; })));
      if (task[part].length > 1) extra.push(button("remove", change(() => { task[part].splice(n, 1); }), { "aria-label": `remove ${label}` }));
      return make("div", { role: "group", "aria-label": label }, make("h3", {}, label),
        make("div", { class: "pairrow" }, gridBox(label, pair, "input"), make("span", { class: "arrow" }, "→"), output), make("div", { class: "bar" }, ...extra));
    }
    function gridBox(label, pair, side) {
      const editor = makeEditor(kind, `${label}, ${side}`, () => pair[side], (rows) => { pair[side] = rows; }, history.remember, { brush: () => brush, fills: () => fills, most: 190, largest: 30 });
      const count = (value, name, resize) => make("input", { type: "number", min: "1", max: "30", value: String(value), "aria-label": `${label}, ${side}: ${name}`, onchange: (event) => {
        const wanted = Math.max(1, Math.min(30, Math.round(Number(event.target.value)) || 1));
        history.remember();
        pair[side] = resize(wanted);
        event.target.value = String(wanted);
        editor.draw();
      } });
      const height = count(pair[side].length, "rows", (wanted) => [...pair[side].slice(0, wanted), ...sized(Math.max(0, wanted - pair[side].length), pair[side][0].length, symbols[0])]);
      const width = count(pair[side][0].length, "columns", (wanted) => pair[side].map((row) => row.slice(0, wanted).padEnd(wanted, symbols[0])));
      editor.element.append(make("div", { class: "size" }, height, "×", width));
      return editor.element;
    }
    function add(part) {
      history.remember();
      task[part].push({ input: grid(), output: part === "train" ? grid() : null });
      draw();
    }

    // Taking and saving.
    const tasksById = make("datalist", { id: "tasks" }), named = make("input", { type: "search", list: "tasks", size: "12", placeholder: "task id", "aria-label": "task id" });
    named.setAttribute("list", "tasks");
    let listed = false;
    named.addEventListener("focus", async () => {
      if (listed) return;
      listed = true;
      const found = await trying(() => ask("api/tasks"));
      if (!found) { listed = false; return; }
      for (const [source, of] of Object.entries(found)) for (const [id, side] of of) tasksById.append(make("option", { value: id }, `${source}, up to ${side} × ${side}`));
    });
    const find = async () => {
      taking.disabled = true;
      const found = await trying(() => ask("api/find", { name: named.value.trim() }));
      taking.disabled = false;
      if (found) showFound(found);
    };
    const taking = button("take this task", find);
    named.addEventListener("keydown", (event) => { if (event.key === "Enter") find(); });
    const file = make("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: async () => {
      const chosen = file.files[0];
      file.value = "";
      if (!chosen) return;
      const found = await trying(async () => {
        if (chosen.size > 900000) throw new Error(`${chosen.name}: is larger than 900 kB`);
        return ask("api/read", { text: await chosen.text() });
      });
      if (found) { found.task.id = chosen.name.replace(/\.json$/, ""); take(found.task); }
    } });
    function take(next) {
      history.remember();
      task = { id: next.id, train: next.train, test: next.test };
      answers = [];
      adapted = null;
      draw();
      showAnswers();
    }
    const digitsOf = (rows) => rows.map((row) => [...row].map((s) => symbols.indexOf(s)));
    const asJson = () => ({
      train: task.train.map(({ input, output }) => ({ input: digitsOf(input), output: digitsOf(output) })),
      test: task.test.map(({ input, output }) => (output === null ? { input: digitsOf(input) } : { input: digitsOf(input), output: digitsOf(output) })),
    });
    const saveAnswer = button("save the answer", () => {
      const last = answers[answers.length - 1];
      download(`${task.id}_submission.json`, { [task.id]: last.tests.map(({ attempts }) => Object.fromEntries(attempts.map(({ rows }, i) => [`attempt_${i + 1}`, digitsOf(rows)]))) });
    }, { disabled: true });

    // Adapting.
    const minutes = make("select", { "aria-label": "minutes" }, ...[1, 2, 5, 10, 20].map((n) => make("option", { value: String(n), selected: n === 2 }, counted(n, "minute"))));
    const start = button("Adapt and answer", () => run(), { class: "go" }), stop = button("Stop", () => abort && abort.abort(), { disabled: true });
    const meter = make("progress", { max: "1", value: "0", "aria-label": "time used" }), time = make("span", { class: "dim" });
    const said = make("p", { class: "said dim", role: "status" }), log = make("pre", { tabIndex: 0 });
    const results = make("div", {}), timeline = make("div", { class: "timeline" });
    const resultsPart = make("div", {}, make("h2", {}, "The answer"), results, make("h3", {}, "How it improved"), timeline);
    resultsPart.hidden = true;
    async function run() {
      if (abort) return;
      abort = new AbortController();
      answers = [];
      adapted = structuredClone(task);
      log.textContent = "";
      said.textContent = "asking …";
      start.disabled = true;
      stop.disabled = false;
      showAnswers();
      let began = null, total = 60 * Number(minutes.value), ended = "";
      timer = setInterval(() => {
        if (began === null) return;
        const used = (performance.now() - began) / 1000;
        meter.value = Math.min(1, used / total);
        time.textContent = `${Math.floor(used)} of at most ${total} s`;
      }, 250);
      await trying(() => follow("api/adapt", { task: asJson(), minutes: total / 60 }, abort.signal, (event) => {
        if (event.event === "waiting") said.textContent = waiting(event);
        else if (event.event === "begin") began = performance.now();
        else if (event.event === "said") { said.textContent = event.text; log.textContent += `${event.text}\n`; }
        else if (event.event === "answered") { answers.push(event); showAnswers(); }
        else if (event.event === "error") problem(event.text);
        else if (event.event === "end") ended = "done";
      }));
      clearInterval(timer);
      said.textContent = ended || (answers.length ? `stopped: the answers of ${answers[answers.length - 1].words} stand` : "stopped");
      if (ended) meter.value = 1;
      abort = null;
      start.disabled = false;
      stop.disabled = true;
    }
    function attempt(of, i, votes, most) {
      const tone = of.right === null ? "" : of.right ? "good" : "bad", sign = { good: "✓ ", bad: "✗ " }[tone] || "";
      const words = `${sign}attempt ${i + 1}${of.votes === null ? "" : `, ${of.votes} of ${counted(votes, "vote")}`}`;
      return shown(words, tools.grid(of.rows, most, words, { given: () => true, conflict: () => false }), tone);
    }
    function showAnswers() {
      resultsPart.hidden = !answers.length;
      saveAnswer.disabled = !answers.length;
      if (!answers.length) { results.replaceChildren(); timeline.replaceChildren(); return; }
      const last = answers[answers.length - 1], plain = { given: () => true, conflict: () => false };
      results.replaceChildren(...last.tests.map((test, n) => make("section", { class: "test", "data-test": String(n + 1) },
        make("h3", {}, `test ${n + 1}`),
        make("div", { class: "figures" }, shown("test input", tools.grid(adapted.test[n].input, 220, "test input", plain)),
          ...test.attempts.map((of, i) => attempt(of, i, test.votes, 220)),
          adapted.test[n].output === null ? null : shown("your answer", tools.grid(adapted.test[n].output, 220, "your answer", plain))))));
      timeline.replaceChildren(...answers.map((of) => make("div", {}, make("div", {}, `after ${Math.round(of.seconds)} s`), make("div", { class: "dim" }, of.words),
        make("div", { class: "row" }, ...of.tests.map((test) => attempt(test.attempts[0], 0, test.votes, 80))))));
    }

    place.append(
      make("div", {},
        make("div", { class: "bar" }, named, tasksById, taking, button("open a file …", () => file.click()), file,
          button("save the task", () => download(`${task.id}.json`, asJson())), button("begin anew", () => take({ id: "yours", train: [{ input: grid(), output: grid() }], test: [{ input: grid(), output: null }] }))),
        make("div", { class: "sticky" }, palette, make("div", { class: "bar" }, make("label", {}, filling, " fill areas"), button("undo", history.undo), button("redo", history.redo))),
        make("h2", {}, "Demonstrations"), examples, button("add a demonstration", () => add("train")),
        make("h2", {}, "Tests"), tests, button("add a test", () => add("test"))),
      make("div", {},
        make("h2", {}, "Adapt"),
        make("p", { class: "note" }, `A copy of the network learns your demonstrations, then answers the tests: weights: ${about.weights.arc}. More minutes help.`),
        make("div", { class: "bar" }, minutes, start, stop, saveAnswer), make("div", { class: "bar" }, meter, time), said,
        make("details", {}, make("summary", {}, "all that was said"), log), resultsPart));
    draw();
    return { place, take, history, resize: draw, watch: null, opened() {} };
  }

  // --- the page ------------------------------------------------------------------------------------
  const about = await trying(() => ask("api/about"));
  if (!about) return;
  byId("report").hidden = !about.report;
  const TITLES = { sudoku: "Sudoku", maze: "Mazes", arc: "ARC" };
  const rooms = {};
  for (const [name, family] of Object.entries(about.families)) rooms[name] = boardsRoom(name, family);
  rooms.arc = arcRoom();
  let open = null;
  for (const [name, room] of Object.entries(rooms)) {
    room.tab = make("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `room-${name}`, onclick: () => enter(name) }, TITLES[name] || name);
    byId("tabs").append(room.tab);
    byId("rooms").append(room.place);
  }
  byId("tabs").addEventListener("keydown", (event) => {
    const all = Object.keys(rooms), by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    enter(all[(all.indexOf(open) + by + all.length) % all.length]);
    rooms[open].tab.focus();
  });
  function enter(name, opens = true) {
    open = name;
    problem("");
    for (const [other, room] of Object.entries(rooms)) {
      room.place.hidden = other !== name;
      room.tab.setAttribute("aria-selected", String(other === name));
      room.tab.tabIndex = other === name ? 0 : -1;
    }
    byId("digits").parentElement.hidden = name !== "arc" && !about.families[name].vocabulary.colours.length;
    byId("safe").parentElement.hidden = byId("digits").parentElement.hidden;
    rooms[name].resize();
    if (opens) rooms[name].opened();
  }
  function showFound(found) {
    enter(found.family, false);
    rooms[found.family].take(found.family === "arc" ? found.task : found.board);
  }
  function paintSwatches() {
    for (const swatch of document.querySelectorAll(".swatch")) {
      const name = swatch.closest(".room").id.replace("room-", ""), of = name === "arc" ? about.arc.vocabulary : about.families[name].vocabulary;
      swatch.style.background = (view.safe ? of.safe_colours : of.colours)[of.symbols.indexOf(swatch.dataset.symbol)] || "transparent";
    }
  }
  paintSwatches();
  byId("safe").addEventListener("change", paintSwatches);
  async function route() {
    const match = /^#task=(.*)$/.exec(location.hash);
    if (!match) return false;
    let name = "";
    try { name = decodeURIComponent(match[1]); } catch { /* a mistyped address */ }
    const found = await trying(() => ask("api/find", { name }));
    if (found) showFound(found);
    return Boolean(found);
  }
  window.addEventListener("hashchange", route);
  window.addEventListener("resize", () => { if (open) rooms[open].resize(); });
  document.addEventListener("keydown", (event) => {
    const on = document.activeElement, room = rooms[open];
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !on.matches("input, textarea")) {
      const act = { z: event.shiftKey ? room.history.redo : room.history.undo, Z: room.history.redo, y: room.history.redo }[event.key];
      if (act) { event.preventDefault(); act(); }
      return;
    }
    if (event.altKey || on.matches("input, textarea, select") || document.querySelector("dialog[open]")) return;
    const act = event.key === "?" ? () => byId("keys").showModal() : event.key === " " && on.matches("button, summary") ? null
      : room.watch && { " ": room.watch.toggle, ",": () => room.watch.by(-1), ".": () => room.watch.by(1) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  enter(about.family, false);
  if (about.begin_with) showFound(about.begin_with);
  else if (!(await route())) rooms[open].opened();
})();
