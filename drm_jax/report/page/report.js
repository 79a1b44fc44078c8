(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const compares = data.mode === "compare";
  // Symbols as they stand in grids, and as they are written; tokens of the network: first, first + 1, …
  const { symbols, first: FIRST, colours: COLOURS } = data.vocabulary;
  const MASK = FIRST + symbols.length;
  const MARKS = data.tasks.some((task) => task.tests.some((test) => test.given));
  const byId = (id) => document.getElementById(id);

  // --- settings, kept while the page is open ---------------------------------------------------
  const view = { safe: false, digits: false, undone: false };
  function repaint() {
    for (const canvas of document.querySelectorAll("canvas")) canvas.paint();
  }
  for (const name of ["safe", "digits"]) {
    if (byId(name)) byId(name).addEventListener("change", (event) => { view[name] = event.target.checked; repaint(); });
  }
  changesTheme(byId("theme"));
  byId("help").addEventListener("click", () => byId("keys").showModal());
  if (!data.tasks.length) return; // nothing was scored yet

  // --- grids -----------------------------------------------------------------------------------
  const { colourOf, inWords, marksOf, conflictsInWords, board, paint, paintSymbol, outlineWidth, grid } =
    gridTools({ vocabulary: data.vocabulary, blocks: data.blocks, marks: MARKS }, view);
  const inputGrid = (test, most) => grid(test.input, most, "test input", marksOf(test, test.input, test.input_conflicts));
  const truthGrid = (test, most) => grid(test.output, most, "truth", marksOf(test, test.output, test.output_conflicts));

  // --- outcomes, filters, order ------------------------------------------------------------------
  const OUTCOMES = Object.fromEntries(data.outcomes);
  const ofRun = (task, name) => (Object.hasOwn(task.runs, name) ? task.runs[name] : null);
  const SOLVED = ["solved", "second"];
  const solves = (task, name) => ofRun(task, name) !== null && SOLVED.includes(task.runs[name].outcome);
  const solvers = (task) => data.runs.filter((name) => solves(task, name)).length;
  const isKnown = (task) => task.tests.some((test) => test.output !== null);
  // Each task passes just one of these: their counts add up.
  const filters = compares
    ? [
      ["solved by every run", (task) => solvers(task) === data.runs.length],
      ...(data.runs.length > 2 ? [["by several, not all", (task) => solvers(task) > 1 && solvers(task) < data.runs.length]] : []),
      ...data.runs.map((name) => [`only by ${name}`, (task) => solvers(task) === 1 && solves(task, name)]),
      ["by none", (task) => isKnown(task) && solvers(task) === 0],
      ["truth unknown", (task) => !isKnown(task)],
    ]
    : data.outcomes.map(([key, name]) => [name, (task) => task.outcome === key]);
  const SIDES = [[0, Infinity, "any"], [0, 5, "to 5"], [6, 10, "6 to 10"], [11, 15, "11 to 15"], [16, 20, "16 to 20"], [21, 30, "21 to 30"]];
  // At most five bands of difficulty, with about as many tasks in each.
  const levels = data.tasks.map((task) => task.difficulty).filter((level) => level !== undefined).sort((a, b) => a - b);
  const lowest = levels.length ? [...new Set([0, 1, 2, 3, 4].map((i) => levels[Math.floor(i * levels.length / 5)]))] : [];
  const BANDS = lowest.map((low, i) => [low, i + 1 < lowest.length ? lowest[i + 1] - 1 : levels[levels.length - 1]]);
  const mean = (values) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
  };
  const first = (test) => test.answers[0];
  const FIGURES = {
    "id": null,
    "largest side": (task) => task.side,
    ...(levels.length ? { [data.difficulty]: (task) => (task.difficulty === undefined ? null : task.difficulty) } : {}),
    ...(data.tasks.some((task) => task.demos.length) ? { "demonstrations": (task) => task.demos.length } : {}),
    "test inputs": (task) => task.tests.length,
    ...(compares
      ? { "runs that solve it": solvers }
      : {
        "share of votes of the first answer": (task) => mean(task.tests.map((t) => (first(t) ? first(t).votes / t.candidates : null))),
        "score of the first answer": (task) => mean(task.tests.map((t) => (first(t) ? first(t).score : null))),
        "cells right": (task) => mean(task.tests.map((t) => t.accuracy)),
        "rank of the truth": (task) => mean(task.tests.map((t) => (t.output === null ? null : t.rank === null ? Infinity : t.rank))),
        "distinct answers": (task) => mean(task.tests.map((t) => t.distinct)),
        "step from which it is right": (task) => mean(task.paths.map((p) => p.right_from)),
      }),
  };
  const state = { outcome: -1, find: "", side: 0, source: "", band: -1, sort: "id", reverse: false, marked: null, order: [] };

  function passes(task) {
    const [low, high] = SIDES[state.side];
    return (state.outcome < 0 || filters[state.outcome][1](task))
      && task.side >= low && task.side <= high
      && (!state.source || task.source === state.source)
      && (state.band < 0 || (task.difficulty >= BANDS[state.band][0] && task.difficulty <= BANDS[state.band][1]))
      && task.id.toLowerCase().includes(state.find);
  }

  // Puzzle 2 stands before puzzle 10.
  const nameOf = (task) => task.id.replace(/ (\d+)$/, (_, number) => ` ${number.padStart(12, "0")}`);
  function sorted(tasks) {
    const figure = FIGURES[state.sort];
    const byName = (one, other) => { const [a, b] = [nameOf(one), nameOf(other)]; return a < b ? -1 : a > b ? 1 : 0; };
    const list = [...tasks].sort((a, b) => {
      if (!figure) return byName(a, b);
      const [x, y] = [figure(a), figure(b)];
      if (x === null || y === null) return (x === null) - (y === null) || byName(a, b);
      return (x === y ? 0 : state.reverse ? y - x : x - y) || byName(a, b);
    });
    return !figure && state.reverse ? list.reverse() : list;
  }

  const cards = new Map();
  let placed = "";
  function refresh() {
    const order = sorted(data.tasks);
    const key = `${state.sort} ${state.reverse}`;
    if (key !== placed) {
      byId("cards").append(...order.map((task) => cards.get(task.id)));
      placed = key;
    }
    state.order = order.filter(passes);
    const wanted = new Set(state.order.map((task) => task.id));
    for (const [id, card] of cards) card.hidden = !wanted.has(id);
    byId("count").textContent = `${state.order.length} of ${counted(data.tasks.length, "task")}`;
    for (const [i, button] of [...byId("outcomes").children].entries()) {
      button.setAttribute("aria-pressed", String(i - 1 === state.outcome));
    }
    if (!wanted.has(state.marked)) mark(state.order.length ? state.order[0].id : null, false);
    fillSeen();
  }

  function mark(id, focus = true) {
    if (cards.has(state.marked)) cards.get(state.marked).classList.remove("marked");
    state.marked = id;
    if (id === null) return;
    const card = cards.get(id);
    card.classList.add("marked");
    if (!focus) return;
    if (!card.firstChild) fill(card, card.task);
    card.scrollIntoView({ block: "nearest" });
    card.querySelector("a").focus({ preventScroll: true });
  }

  // --- cards -------------------------------------------------------------------------------------
  function outcomeTag(outcome) {
    const tone = outcome === "unknown" ? "dim" : SOLVED.includes(outcome) ? "good" : "bad";
    const sign = { dim: "", good: "✓ ", bad: "✗ " }[tone];
    return make("span", { class: `tag ${tone}` }, sign + OUTCOMES[outcome]);
  }

  const ORDINAL = (rank) => `${rank}${["th", "st", "nd", "rd"][rank % 100 > 10 && rank % 100 < 14 ? 0 : rank % 10] || "th"}`;
  // Attempts are handed in, and are right or wrong; other answers only had votes.
  const isAttempt = (answer) => answer.rank <= data.attempts && answer.grid.length > 0;
  const answerName = (answer) => (!isAttempt(answer) ? `${ORDINAL(answer.rank)} answer` : data.attempts === 1 ? "answer" : `attempt ${answer.rank}`);
  const verdict = (answer) => (answer.valid === undefined ? "" : answer.valid ? ", valid" : ", breaks a rule");
  const answerGrid = (answer, test, most, words) => grid(answer.grid, most, words, marksOf(test, answer.grid, answer.conflicts));
  function answerFigure(answer, test, most) {
    const tone = test.output === null || !isAttempt(answer) ? "" : answer.right ? "good" : "bad";
    const sign = { good: "✓ ", bad: "✗ " }[tone] || "";
    const votes = test.candidates === 1 ? "" : `, ${answer.votes} of ${counted(test.candidates, "vote")}`;
    const truth = answer.right && !tone ? ", the truth" : "";
    const words = `${answerName(answer)}${{ good: ", right", bad: ", wrong" }[tone] || truth}${verdict(answer)}`;
    return shown(`${sign}${answerName(answer)}${votes}${truth}${verdict(answer)}`, answerGrid(answer, test, most, words), tone);
  }

  const UNMARKED = { given: () => false, conflict: () => false };
  function demonstrations(task, most, limit) {
    const pairs = task.demos.slice(0, limit).map((pair) => make("div", { class: "pair" },
      grid(pair.input, most, "demonstration input", UNMARKED), make("span", { class: "arrow" }, "→"),
      grid(pair.output, most, "demonstration output", UNMARKED)));
    const more = task.demos.length - pairs.length;
    return make("div", { class: "row pairs" }, ...pairs, more > 0 ? make("span", { class: "dim" }, `and ${more} more`) : null);
  }

  const difficulty = (task) => (task.difficulty === undefined ? null : `${data.difficulty}: ${task.difficulty}`);
  const THUMB = data.tasks.some((task) => task.demos.length) ? 60 : 96;
  byId("cards").style.setProperty("--thumb", `${THUMB}px`);
  function fill(card, task) {
    const link = make("a", { class: "id", href: `#task=${encodeURIComponent(task.id)}` }, make("bdi", {}, task.id));
    const parts = [make("div", { class: "head" }, link, compares ? null : outcomeTag(task.outcome)), task.demos.length ? demonstrations(task, 44, 3) : null].filter(Boolean);
    for (const [t, test] of task.tests.slice(0, 2).entries()) {
      const figures = [shown(task.tests.length > 1 ? `test input ${t + 1}` : "test input", inputGrid(test, THUMB))];
      if (compares) {
        for (const name of data.runs) {
          const of = ofRun(task, name) && task.runs[name].tests[t];
          const good = of && of.rank !== null && of.rank <= data.attempts;
          const sign = test.output === null ? "" : !good ? "✗ " : of.rank === 1 ? "✓ " : `✓ by attempt ${of.rank} `;
          const attempt = good ? of.answers[of.rank - 1] : of && of.answers[0];
          if (attempt) figures.push(shown(`${sign}${name}${verdict(attempt)}`, answerGrid(attempt, test, THUMB, `${answerName(attempt)} of ${name}${verdict(attempt)}`), test.output === null ? "" : good ? "good" : "bad"));
          else figures.push(shown(name, make("span", { class: "empty" }, of ? "no answer" : "not asked")));
        }
      } else figures.push(...test.answers.filter(isAttempt).map((answer) => answerFigure(answer, test, THUMB)));
      figures.push(shown("truth", truthGrid(test, THUMB)));
      parts.push(make("div", { class: "figures" }, ...figures));
    }
    if (task.tests.length > 2) parts.push(make("p", { class: "dim" }, `and ${counted(task.tests.length - 2, "more test input")}`));
    const said = [];
    if (!compares) {
      const score = mean(task.tests.map((t) => (first(t) ? first(t).score : null)));
      const right = mean(task.tests.map((t) => t.accuracy));
      said.push(score === null ? null : `score ${score.toFixed(2)}`, right === null ? null : `cells right ${right < 1 ? Math.min(99, Math.round(100 * right)) : 100}%`, `${task.tests.map((t) => t.distinct).join(", ")} distinct`);
    }
    said.push(difficulty(task));
    if (said.some(Boolean)) parts.push(make("div", { class: "dim said" }, said.filter(Boolean).join(" · ")));
    card.replaceChildren(...parts);
  }

  // Those that a screen shows are filled before it is painted, the others when they come near.
  function fillSeen() {
    for (const task of state.order) {
      const card = cards.get(task.id);
      if (!card.firstChild) fill(card, task);
      if (card.getBoundingClientRect().top > window.innerHeight) break;
    }
  }
  window.addEventListener("beforeprint", () => { for (const card of cards.values()) if (!card.firstChild) fill(card, card.task); });

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      if (!target.firstChild) fill(target, target.task);
    }
  }, { rootMargin: "600px" });

  // --- a task's page -----------------------------------------------------------------------------
  const decoded = new Map();
  function cellsOf(index) {
    if (!decoded.has(index)) {
      decoded.set(index, (async () => {
        const packed = Uint8Array.from(atob(byId(`cells${index}`).textContent), (c) => c.charCodeAt(0));
        const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
        return new Uint8Array(await new Response(stream).arrayBuffer());
      })());
    }
    return decoded.get(index);
  }

  let players = [], active = 0;

  function openTask(task) {
    const place = byId("task");
    players = [];
    active = 0;
    const at = state.order.findIndex((other) => other.id === task.id);
    const step = (by, text) => make("button", { type: "button", disabled: !state.order[at + by] || at < 0, onclick: () => go(by) }, text);
    const parts = [
      make("div", { class: "bar" },
        make("button", { type: "button", onclick: close }, "← all tasks"), step(-1, "‹ before"), step(1, "next ›"),
        make("span", { class: "dim" }, at < 0 ? "" : `${at + 1} of ${state.order.length}`)),
      make("h2", {}, make("bdi", {}, task.id), " ", compares ? null : outcomeTag(task.outcome)),
      make("p", { class: "dim" }, make("bdi", {}, task.source), ` · largest side ${task.side}`, difficulty(task) && ` · ${difficulty(task)}`),
      compares ? null : tryIt(task),
      ...(task.demos.length ? [make("h3", {}, "Demonstrations"), demonstrations(task, 130, 99)] : []),
    ];
    for (const [t, test] of task.tests.entries()) parts.push(compares ? comparedTest(task, test, t) : testSection(task, test, t));
    place.replaceChildren(...parts.filter(Boolean));
    byId("overview").hidden = true;
    place.hidden = false;
    place.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  // drm play serves this page too: there the task is a click away.
  function tryIt(task) {
    if (location.protocol.startsWith("http") && location.pathname.endsWith("/report")) {
      return make("p", {}, make("a", { href: `./#task=${encodeURIComponent(task.id)}` }, "try this task"));
    }
    const quoted = `'${task.id.replaceAll("'", "'\\''")}'`;
    return make("details", {}, make("summary", {}, "try this task"), make("p", {}, make("code", {}, `drm play WORKDIR --task ${quoted}`), ", where WORKDIR is the folder of this run"));
  }

  function comparedTest(task, test, t) {
    const figures = [shown("test input", inputGrid(test, 170)), shown("truth", truthGrid(test, 170))];
    const rows = data.runs.map((name) => {
      const of = ofRun(task, name) && task.runs[name].tests[t];
      const answers = of ? of.answers.map((answer) => answerFigure(answer, { ...test, candidates: of.candidates }, 170)) : [];
      return make("div", {}, make("h3", {}, make("bdi", {}, name), of ? "" : " was not asked"), make("div", { class: "figures" }, ...answers));
    });
    return make("section", { class: "test" }, make("h3", {}, `Test input ${t + 1}`), make("div", { class: "figures" }, ...figures), ...rows);
  }

  function testSection(task, test, t) {
    const described = (answer) => {
      const kinds = answer.by.map(([count, words]) => `${count} ${words}`).join(", ");
      const voters = answer.voters.map(([id, words]) => make("div", {}, `id ${id}: ${words}`));
      const more = answer.votes - voters.length;
      return make("div", { class: "answer" }, answerFigure(answer, test, 150), make("div", {},
        make("p", {}, `score ${answer.score.toFixed(3)}`),
        voters.length ? make("details", {}, make("summary", {}, "who voted for it"), make("p", {}, kinds), ...voters, more > 0 ? make("div", {}, `and ${more} more`) : null) : null));
    };
    const attempts = test.answers.filter(isAttempt), others = test.answers.filter((answer) => !isAttempt(answer));
    const parts = [
      make("h3", {}, task.tests.length > 1 ? `Test input ${t + 1}` : "Test input"),
      make("div", { class: "figures answers" }, shown("test input", inputGrid(test, 150)), ...attempts.map(described), shown("truth", truthGrid(test, 150))),
      make("p", { class: "dim" }, `${counted(test.candidates, "candidate")}, ${counted(test.distinct, "distinct answer")}; the truth ${test.output === null ? "is unknown" : test.rank === null ? "was not proposed" : `stands at rank ${test.rank}`}`),
      ...(others.length ? [make("h3", {}, "Other answers"), make("div", { class: "figures answers" }, ...others.map(described))] : []),
    ];
    const paths = task.paths.map((path, i) => [path, i]).filter(([path]) => path.test === t);
    if (paths.length) parts.push(player(task, test, paths));
    else parts.push(make("p", { class: "dim" }, "The denoising of no candidate was kept."));
    return make("section", { class: "test" }, ...parts);
  }

  // The denoising of one test input's candidates.
  function player(task, test, paths) {
    const number = players.length;
    const index = data.tasks.indexOf(task);
    let chosen = 0, step = 0, timer = null, cells = null;
    const gave = (path) => {
      const answer = test.answers.find((other) => other.rank === path.rank);
      return answer ? `gave ${data.attempts === 1 && isAttempt(answer) ? "the answer" : answerName(answer)}` : "gave another answer";
    };
    const name = ([path]) => `${path.symmetry}: ${gave(path)}${!path.right && path.was_right ? ", showed the truth before" : ""}`;
    const select = make("select", { "aria-label": "candidate", onchange: () => { choose(select.selectedIndex); select.blur(); } }, ...paths.map((entry) => make("option", {}, name(entry))));
    const slider = make("input", { type: "range", min: "1", "aria-label": "step", oninput: () => { pause(); show(Number(slider.value) - 1); } });
    const play = make("button", { type: "button", onclick: () => toggle() }, "▶ play");
    const undone = make("input", { type: "checkbox", checked: view.undone, onchange: () => { view.undone = undone.checked; for (const p of players) p.redraw(); } });
    const facts = make("p", { class: "facts", "aria-live": "polite" });
    const panels = make("div", { class: "figures panels" });
    const count = () => paths[chosen][0].levels.length;

    function choose(which) {
      chosen = which;
      select.selectedIndex = which;
      slider.max = String(count());
      show(count() - 1);
    }
    function pause() {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶ play";
    }
    function toggle() {
      if (timer !== null) return pause();
      if (step === count() - 1) show(0);
      play.textContent = "❚❚ pause";
      timer = setInterval(() => {
        if (!play.isConnected || step >= count() - 1) return pause();
        show(step + 1);
        if (step >= count() - 1) pause();
      }, 450);
    }
    function show(which) {
      step = Math.max(0, Math.min(count() - 1, which));
      slider.value = String(step + 1);
      slider.setAttribute("aria-valuetext", `step ${step + 1} of ${count()}`);
      if (cells) draw();
    }

    // Where the parts of a path lie among the cells of its task: see report/collect.py, path_cells.
    function partsOf(place) {
      const path = task.paths[place], area = path.box[0] * path.box[1], total = area * path.levels.length;
      const start = task.paths.slice(0, place).reduce((sum, p) => sum + sizeOf(p), 0);
      const bits = start + total, broken = bits + Math.ceil(total / 8), sure = broken + Math.ceil(total / 8);
      const given = sure + total, map = given + Math.ceil(area / 8), asked = map + 2 * area;
      const truth = asked + path.asked[0] * path.asked[1];
      const at = (i, r, c) => i * area + r * path.box[1] + c;
      const table = (from, [rows, columns]) => Array.from({ length: rows }, (_, r) => [...cells.subarray(from + r * columns, from + (r + 1) * columns)]);
      return {
        token: (i, r, c) => cells[start + at(i, r, c)],
        masked: (i, r, c) => isSet((k) => cells[bits + k], at(i, r, c)),
        conflict: (i, r, c) => isSet((k) => cells[broken + k], at(i, r, c)),
        given: (r, c) => isSet((k) => cells[given + k], at(0, r, c)),
        sure: (i, r, c) => cells[sure + at(i, r, c)],
        source: (i) => cells[map + 2 * i] + 256 * cells[map + 2 * i + 1],
        asked: table(asked, path.asked),
        truth: path.truth === null ? null : table(truth, path.truth),
      };
    }

    function draw() {
      const [path, place] = paths[chosen], [height, width] = path.box;
      const { token, masked, conflict, given, sure, source, asked, truth } = partsOf(place);
      const inside = (size, r, c) => r < size[0] && c < size[1];
      const size = path.sizes[step], before = path.sizes[Math.max(0, step - 1)];
      const from = path.levels[0] >= 0;
      const counts = { masked: 0, changed: 0, wrong: 0, broken: 0 };
      let sum = 0, seenCells = 0;
      const square = Array.from({ length: height }, (_, r) => Array.from({ length: width }, (_, c) => {
        const here = token(step, r, c);
        const cell = { token: here, on: inside(size, r, c), was: inside(before, r, c), masked: masked(step, r, c), began: MASK };
        if (step > 0 && !cell.masked) cell.began = token(step - 1, r, c);
        cell.changed = step > 0 && (cell.on !== cell.was || (cell.on && token(step - 1, r, c) !== here));
        cell.wrong = truth !== null && cell.on && !(truth[r] && truth[r][c] === here);
        cell.given = given(r, c);
        cell.conflict = cell.on && conflict(step, r, c);
        cell.hadConflict = step > 0 && cell.was && conflict(step - 1, r, c);
        cell.sure = sure(step, r, c);
        if (cell.was && cell.masked) counts.masked++;
        if (cell.changed) counts.changed++;
        if (cell.wrong) counts.wrong++;
        if (cell.conflict) counts.broken++;
        if (cell.on) { sum += cell.sure; seenCells++; }
        return cell;
      }));
      const missing = truth === null ? 0 : truth.reduce((n, row, r) => n + row.filter((_, c) => !inside(size, r, c)).length, 0);
      const cellsShown = !view.undone ? square : Array.from({ length: path.undone[0] }, (_, r) => Array.from({ length: path.undone[1] }, (_, c) => {
        const i = source(r * path.undone[1] + c);
        return square[Math.floor(i / width)][i % width];
      }));
      const isSymbol = (value) => value >= FIRST && value < MASK;
      const symbolOf = (value) => (view.undone ? path.tokens[value] : value) - FIRST;
      const inSymbols = (rows) => rows.map((row) => row.map((value) => symbols[value - FIRST]).join(""));
      const truthShown = truth === null ? null : view.undone ? test.output : inSymbols(truth);
      const askedShown = view.undone ? test.input : inSymbols(asked);
      const rows = cellsShown.length, columns = cellsShown[0].length;
      const edge = Math.max(rows, columns), px = Math.max(6, Math.min(36, Math.floor(Math.min(230, window.innerWidth - 60) / edge)));
      const words = (what) => `${what}, step ${step + 1}`;
      // Conflicts of the input and of the truth are known where the augmentation is undone.
      const onGrid = (conflicts) => ({
        given: (r, c) => Boolean(cellsShown[r] && cellsShown[r][c] && cellsShown[r][c].given),
        conflict: view.undone ? cellsIn(conflicts, test.input[0].length) : () => false,
      });

      const pictures = [];
      const longest = Math.max(askedShown.length, askedShown[0].length);
      pictures.push(shown("asked", grid(askedShown, Math.min(longest * px, 230), "the test input as it was asked", onGrid(test.input_conflicts), px)));
      if (from) {
        pictures.push(shown("began from", board(rows, columns, px, words("what the step began from"), (pen, r, c, x, y) => {
          const cell = cellsShown[r][c];
          if (!cell.was) return;
          if (cell.began === MASK) hatch(pen, x, y, px);
          else if (isSymbol(cell.began)) paintSymbol(pen, symbolOf(cell.began), x, y, px, cell.given, cell.hadConflict);
        })));
      }
      const final = cellsShown.map((row) => row.filter((cell) => cell.on && isSymbol(cell.token)).map((cell) => symbols[symbolOf(cell.token)]).join("")).filter(Boolean);
      pictures.push(shown("predicted", board(rows, columns, px, `${words("predicted")}: ${inWords(final)}${conflictsInWords(rows, columns, (r, c) => cellsShown[r][c].conflict)}`, (pen, r, c, x, y) => {
        const cell = cellsShown[r][c];
        if (!cell.on || !isSymbol(cell.token)) return;
        paintSymbol(pen, symbolOf(cell.token), x, y, px, cell.given, cell.conflict);
        const ink = isDark(colourOf(symbolOf(cell.token))) ? "#ffffff" : "#000000";
        if (cell.changed) {
          pen.strokeStyle = ink;
          pen.lineWidth = Math.max(1, px / 12);
          const inset = 1.5 + (cell.conflict ? outlineWidth(px) + 1 : 0);
          pen.strokeRect(x + inset, y + inset, px - 1 - 2 * inset, px - 1 - 2 * inset);
        }
        if (cell.wrong) {
          const arm = Math.max(3, Math.floor(px * 0.36));
          pen.fillStyle = ink;
          pen.beginPath();
          pen.moveTo(x + px - 1, y);
          pen.lineTo(x + px - 1, y + arm);
          pen.lineTo(x + px - 1 - arm, y);
          pen.fill();
        }
      })));
      pictures.push(shown("confidence", board(rows, columns, px, `${words("confidence")}: mean ${seenCells ? Math.round(sum / seenCells) : 0}%`, (pen, r, c, x, y) => {
        const cell = cellsShown[r][c];
        if (!cell.on) return;
        paint(pen, confidenceColour(cell.sure), x, y, px, view.digits && cell.sure <= 99 ? cell.sure : null);
      })));
      if (truthShown !== null) pictures.push(shown("truth", grid(truthShown, Math.max(truthShown.length, truthShown[0].length) * px, "truth", onGrid(test.output_conflicts), px)));
      panels.style.setProperty("--least", `${Math.max(columns * px, 72)}px`); // room for the longest caption
      panels.replaceChildren(...pictures);
      const said = [`step ${step + 1} of ${count()}`];
      if (from) said.push(`noise level ${path.levels[step]}`, `${counted(counts.masked, "cell")} of the grid masked`);
      if (step > 0) said.push(`${counts.changed} changed`);
      if (truth !== null) said.push(`${counted(counts.wrong + missing, "cell")} unlike the truth${missing ? ` (${missing} missing)` : ""}`);
      if (counts.broken) said.push(`${counted(counts.broken, "cell")} in conflict`);
      said.push(`halting ${path.halt[step].toFixed(3)}`, seenCells ? `mean confidence ${Math.round(sum / seenCells)}%` : "no cells");
      facts.textContent = said.join(" · ");
    }

    players.push({ toggle, by: (n) => { pause(); show(step + n); }, next: () => choose((chosen + 1) % paths.length), redraw: () => { undone.checked = view.undone; if (cells) draw(); } });
    cellsOf(index).then((found) => { cells = found; choose(0); }, () => { facts.textContent = "The cells of this denoising can't be unpacked by this browser."; });
    const use = () => { active = number; };
    return make("div", { class: "player", onpointerdown: use, onfocusin: use },
      make("h3", {}, "Denoising of one candidate"),
      make("div", { class: "bar" }, make("label", {}, "candidate ", select), make("label", {}, undone, " augmentation undone")),
      make("div", { class: "bar" }, play, slider), facts, panels,
      data.ensemble_of ? make("p", { class: "legend" }, `Answers and votes are of the ensemble; this is the denoising of step ${data.ensemble_of} alone, of which the candidates of its own best answers were kept.`) : null,
      make("p", { class: "legend" }, "Hatched: masked. Ring: changed since the step before. Corner: unlike the truth. Confidence: from pale yellow, 0%, to dark blue, 100%."),
      MARKS ? make("p", { class: "legend" }, `${COLOURS.length ? "" : "Black on grey: given. "}Red outline: in conflict, which breaks a rule; on what a step began from, in the answer before.`) : null);
  }

  const sizeOf = (path) => {
    const area = ([height, width]) => height * width, total = area(path.box) * path.levels.length;
    const grids = area(path.asked) + (path.truth === null ? 0 : area(path.truth));
    return 2 * total + 2 * Math.ceil(total / 8) + Math.ceil(area(path.box) / 8) + 2 * area(path.box) + grids;
  };

  // --- moving about ------------------------------------------------------------------------------
  let scrolled = 0;
  function route() {
    const match = /^#task=(.*)$/.exec(location.hash);
    let id = null;
    try { id = match && decodeURIComponent(match[1]); } catch { /* a mistyped address */ }
    const task = match && data.tasks.find((other) => other.id === id);
    if (task) {
      if (byId("task").hidden) scrolled = window.scrollY;
      mark(cards.get(task.id).hidden ? state.marked : task.id, false);
      openTask(task);
      return;
    }
    players = [];
    const back = !byId("task").hidden;
    byId("task").hidden = true;
    byId("task").replaceChildren();
    byId("overview").hidden = false;
    if (!back) return;
    window.scrollTo(0, scrolled);
    if (state.marked !== null) mark(state.marked); // where one has walked to, if it is elsewhere
  }
  const close = () => { location.hash = ""; };
  function go(by) {
    const list = state.order, at = list.findIndex((task) => task.id === state.marked);
    const next = list[Math.max(0, Math.min(list.length - 1, at + by))];
    if (!next) return;
    if (byId("task").hidden) mark(next.id);
    else location.hash = `#task=${encodeURIComponent(next.id)}`;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
    const inTask = !byId("task").hidden, on = event.target;
    if (event.key === "Escape") {
      if (on === byId("search")) on.blur();
      else if (inTask) close();
      return;
    }
    if (on.matches("input[type=search], select, pre")) return;
    const slides = on.matches("input[type=range]");
    const pressed = { ArrowLeft: () => go(-1), ArrowRight: () => go(1), k: () => go(-1), j: () => go(1), "/": () => { if (inTask) close(); requestAnimationFrame(() => byId("search").focus()); }, "?": () => byId("keys").showModal() }[event.key];
    const playing = players[active] && { " ": () => players[active].toggle(), ",": () => players[active].by(-1), ".": () => players[active].by(1), n: () => players[active].next(), u: () => { view.undone = !view.undone; for (const p of players) p.redraw(); } }[event.key];
    const action = (slides && event.key.startsWith("Arrow")) || (event.key === " " && on.matches("button, summary, input[type=checkbox]")) ? null : pressed || (inTask ? playing : event.key === "Enter" && !on.matches("button, summary, input, a") && state.marked !== null ? () => { location.hash = `#task=${encodeURIComponent(state.marked)}`; } : null);
    if (!action) return;
    event.preventDefault();
    action();
  });
  window.addEventListener("hashchange", route);

  // --- beginning -----------------------------------------------------------------------------------
  const option = (select, value, text) => select.append(make("option", { value: String(value) }, text));
  const every = [[-1, "all", data.tasks.length], ...filters.map(([name, test], i) => [i, name, data.tasks.filter(test).length])];
  for (const [i, name, count] of every) {
    byId("outcomes").append(make("button", { type: "button", hidden: count === 0 && i >= 0 && !compares, onclick: () => { state.outcome = i; refresh(); } }, `${name} (${count})`));
  }
  SIDES.forEach(([low, high, text], i) => option(byId("size"), i, text));
  option(byId("source"), "", "any");
  for (const source of [...new Set(data.tasks.map((task) => task.source))].sort()) option(byId("source"), source, source);
  if (levels.length) {
    option(byId("difficulty"), -1, "any");
    BANDS.forEach(([low, high], i) => option(byId("difficulty"), i, `${low === high ? low : `${low} to ${high}`} (${levels.filter((level) => level >= low && level <= high).length})`));
  }
  for (const name of Object.keys(FIGURES)) option(byId("sort"), name, name);
  const listen = (id, kind, change) => byId(id).addEventListener(kind, (event) => { change(event.target); refresh(); });
  listen("search", "input", (element) => { state.find = element.value.trim().toLowerCase(); });
  listen("size", "change", (element) => { state.side = Number(element.value); });
  listen("source", "change", (element) => { state.source = element.value; });
  if (levels.length) listen("difficulty", "change", (element) => { state.band = Number(element.value); });
  listen("sort", "change", (element) => { state.sort = element.value; });
  listen("reverse", "change", (element) => { state.reverse = element.checked; });
  for (const task of data.tasks) {
    const card = make("article", { class: "card", "aria-label": `task ${task.id}` });
    card.task = task;
    card.addEventListener("click", (event) => { if (!event.target.closest("a")) location.hash = `#task=${encodeURIComponent(task.id)}`; });
    cards.set(task.id, card);
    seen.observe(card);
  }
  byId("controls").hidden = false;
  refresh();
  route();
})();
