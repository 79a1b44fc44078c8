// Boards that can be written and painted on.

export const button = (text, onclick, settings = {}) => make("button", { type: "button", onclick, ...settings }, text);
// A button that can't be used now keeps its focus.
export const enable = (element, on) => element.setAttribute("aria-disabled", String(!on));
export const sized = (height, width, symbol) => Array.from({ length: height }, () => symbol.repeat(width));
const withCell = (rows, r, c, symbol) => rows.map((row, i) => (i === r ? row.slice(0, c) + symbol + row.slice(c + 1) : row));

// What was changed last: states that can be gone back to.
export function makeHistory(read, write) {
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

// The cells of one colour that hang together with a cell, in another one.
function filled(rows, r, c, symbol) {
  const cells = rows.map((row) => [...row]), old = cells[r][c], todo = old === symbol ? [] : [[r, c]];
  while (todo.length) {
    const [y, x] = todo.pop();
    if (!cells[y] || cells[y][x] !== old) continue;
    cells[y][x] = symbol;
    todo.push([y + 1, x], [y - 1, x], [y, x + 1], [y, x - 1]);
  }
  return cells.map((row) => row.join(""));
}

// The symbol that a key stands for, if any.
function typed(kind, key) {
  if (key.length !== 1 || (key === "." && kind.blank === ".")) return null; // a key of its own: a pass on
  if (key === "0" && kind.blank === ".") return kind.blank;
  return [key, key.toUpperCase(), key.toLowerCase()].find((one) => kind.written.includes(one)) || null;
}

// Two outlines, dark and light: one of them is seen on any colour.
function drawCursor(pen, x, y, cell) {
  for (const [inset, colour] of [[1, "#000000"], [2.5, "#ffffff"], [4, "#000000"]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5;
    pen.strokeRect(x + inset, y + inset, cell - 1 - 2 * inset, cell - 1 - 2 * inset);
  }
}

// kind: tools of grids.js; symbols; written, those that may be written; blank; only, those of which there
// is one; name of a symbol. board: get, set, its rows; remember, called before a change. settings: brush,
// what a press paints, null where it only moves the cursor; fills, whether it fills; marks, cells in
// conflict; given, which symbols are drawn as given; most, largest: pixels of the board and of a cell.
export function makeEditor(kind, label, board, settings) {
  const { brush, fills, marks, given, most, largest } = { brush: () => null, fills: () => false, marks: () => false, given: () => true, most: 320, largest: 36, ...settings };
  const element = make("div", { class: "gridbox" }), heard = make("p", { class: "heard", role: "status" });
  let cursor = [0, 0], canvas = null, pressed = false, focus = false, remembered = false;

  function draw() {
    const rows = board.get(), height = rows.length, width = rows[0].length, focused = focus;
    const room = Math.min(most, window.innerWidth - 48), cell = Math.max(5, Math.min(largest, Math.floor(room / Math.max(height, width))));
    cursor = [Math.min(cursor[0], height - 1), Math.min(cursor[1], width - 1)];
    pressed = false;
    const now = kind.tools.board(height, width, cell, label, (pen, r, c, x, y) => {
      const symbol = board.get()[r][c];
      kind.tools.paintSymbol(pen, kind.symbols.indexOf(symbol), x, y, cell, given(symbol), marks(r, c));
      if (r === cursor[0] && c === cursor[1] && focus) drawCursor(pen, x, y, cell);
    });
    now.className += " editor";
    now.tabIndex = 0;
    now.setAttribute("role", "application");
    now.setAttribute("aria-roledescription", "board");
    for (const [name, act] of Object.entries({ keydown: onKey, pointerdown: onDown, pointermove: onMove, pointerup: release, pointercancel: release })) now.addEventListener(name, act);
    now.addEventListener("focus", () => { focus = true; now.paint(); });
    now.addEventListener("blur", () => { focus = false; now.paint(); });
    if (canvas) canvas.replaceWith(now); else element.prepend(now);
    canvas = now;
    describe();
    if (focused) canvas.focus({ preventScroll: true });
  }
  const release = () => { pressed = false; };
  const describe = () => canvas.setAttribute("aria-label", `${label}: ${kind.tools.inWords(board.get())}`);
  function tell() {
    const [r, c] = cursor;
    heard.textContent = `row ${r + 1}, column ${c + 1}: ${kind.name(board.get()[r][c])}${marks(r, c) ? ", in conflict" : ""}`;
  }

  // The canvas stays while a pointer is down on it: only its cells change.
  function change(rows) {
    if (!remembered) board.remember();
    remembered = true;
    board.set(rows);
    canvas.paint();
    describe();
  }
  function write(r, c, symbol) {
    const rows = board.get();
    if (symbol === null || rows[r][c] === symbol) return;
    const others = kind.only.includes(symbol) && kind.blank ? rows.map((row) => row.replaceAll(symbol, kind.blank)) : rows;
    change(withCell(others, r, c, symbol));
  }
  function press(r, c) {
    if (!fills()) write(r, c, brush());
    else if (board.get()[r][c] !== brush()) change(filled(board.get(), r, c, brush()));
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect(), rows = board.get();
    const r = Math.floor((event.clientY - box.top) / box.height * rows.length);
    const c = Math.floor((event.clientX - box.left) / box.width * rows[0].length);
    return r >= 0 && c >= 0 && r < rows.length && c < rows[0].length ? [r, c] : null;
  }
  function onDown(event) {
    const cell = cellAt(event);
    if (event.button !== 0 || !cell) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    cursor = cell;
    remembered = false;
    if (brush() !== null) {
      pressed = !fills();
      canvas.setPointerCapture(event.pointerId);
      press(...cell);
    }
    canvas.paint();
    tell();
  }
  function onMove(event) {
    if (!(event.buttons & 1)) pressed = false;
    const cell = pressed ? cellAt(event) : null;
    if (!cell) return;
    // Fast moves skip cells: those between are painted too.
    const [r, c] = cursor, down = cell[0] - r, right = cell[1] - c, count = Math.max(Math.abs(down), Math.abs(right));
    for (let i = 1; i <= count; i++) write(Math.round(r + down * i / count), Math.round(c + right * i / count), brush());
    cursor = cell;
    if (count) canvas.paint();
  }
  function onKey(event) {
    if ((event.ctrlKey || event.metaKey) && !event.altKey) return;
    const rows = board.get(), [r, c] = cursor, symbol = typed(kind, event.key);
    const arrow = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -99], End: [0, 99] }[event.key];
    remembered = false;
    if (arrow) cursor = [Math.max(0, Math.min(rows.length - 1, r + arrow[0])), Math.max(0, Math.min(rows[0].length - 1, c + arrow[1]))];
    else if (event.key === "Backspace" || event.key === "Delete") write(r, c, kind.blank);
    else if (symbol !== null) write(r, c, symbol);
    else if ((event.key === "Enter" || event.key === " ") && brush() !== null) press(r, c);
    else return;
    event.preventDefault();
    event.stopPropagation();
    canvas.paint();
    tell();
  }

  draw();
  element.append(heard);
  return {
    element, draw, paint: () => canvas.paint(), hasFocus: () => focus, cursor: () => cursor,
    focus([r, c]) { const rows = board.get(); cursor = [Math.min(r, rows.length - 1), Math.min(c, rows[0].length - 1)]; canvas.focus({ preventScroll: true }); canvas.paint(); },
    put(symbol) { remembered = false; write(...cursor, symbol); tell(); canvas.focus({ preventScroll: true }); },
  };
}
