"use strict";
// How boards are drawn, in the report and on the page of drm play.

function make(tag, settings = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

// The cells that are set in a board's bits: see report/collect.py, packed_bits.
const isSet = (byte, i) => Boolean((byte(i >> 3) >> (7 - (i & 7))) & 1);
function cellsIn(text, width) {
  if (!text) return () => false;
  const bytes = atob(text);
  return (r, c) => isSet((i) => bytes.charCodeAt(i), r * width + c);
}

function shown(caption, picture, tone = "") {
  return make("figure", { class: `shown ${tone}`, "data-what": caption }, picture, make("figcaption", {}, caption));
}

// A button that changes between a dark and a light page.
function changesTheme(button) {
  button.addEventListener("click", () => {
    const root = document.documentElement, set = root.dataset.theme;
    const dark = set === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : set === "dark";
    root.dataset.theme = dark ? "light" : "dark";
  });
}

// From pale yellow over teal to dark blue: no confidence has the colour of the page, light or dark.
function confidenceColour(percent) {
  const stops = [[255, 237, 160], [65, 182, 196], [12, 44, 132]];
  const place = Math.min(percent / 50, 1.999), at = Math.floor(place), part = place - at;
  const channel = (i) => Math.round(stops[at][i] + part * (stops[at + 1][i] - stops[at][i]));
  return `#${[0, 1, 2].map((i) => channel(i).toString(16).padStart(2, "0")).join("")}`;
}

function hatch(pen, x, y, cell) {
  pen.fillStyle = "#f4ebd9";
  pen.fillRect(x, y, cell - 1, cell - 1);
  pen.strokeStyle = "#8a7f6a";
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x + 1, y + cell - 2);
  pen.lineTo(x + cell - 2, y + 1);
  pen.stroke();
}

const isDark = (colour) => {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return 0.3 * r + 0.59 * g + 0.11 * b < 110;
};

// What draws boards of a family. vocabulary: symbols as they stand in grids, and as they are written;
// blocks: that boards are ruled into; marks: whether given cells are told from answered ones; view:
// safe, whether colours are those that all can tell apart; digits, whether cells are written too.
function gridTools({ vocabulary, blocks, marks: MARKS }, view) {
  const { symbols, written, colours: COLOURS, safe_colours: SAFE, colour_names: NAMES } = vocabulary;
  // Marks: paper of given symbols, ink of answered ones, paper and outline of conflicts; and rules.
  const GIVEN = "#e3e3df", ANSWERED = "#0a4fb0", BROKEN = "#fbd3ce", BROKEN_LINE = "#c0271d", RULE = "#1d1f23";
  const colourOf = (symbol) => (COLOURS.length ? (view.safe && SAFE.length ? SAFE : COLOURS)[symbol] : "#ffffff");

  function inWords(rows) {
    const size = `${counted(rows.length, "row")} of ${counted(rows.length ? rows[0].length : 0, "cell")}`;
    if (!rows.length || rows.length * rows[0].length > 100) {
      const used = [...new Set(rows.join(""))].sort();
      const named = NAMES.length ? `colours ${used.map((c) => NAMES[symbols.indexOf(c)]).join(", ")}` : used.join(" ");
      return used.length ? `${size}, ${named}` : "no cells";
    }
    return `${size}: ${rows.map((row) => [...row].join(" ")).join("; ")}`;
  }

  // What is marked on a board that belongs to a test: functions of row and column.
  function marksOf(test, rows, conflicts) {
    const size = (of) => (of && of.length ? `${of.length} ${of[0].length}` : "");
    const width = rows && rows.length ? rows[0].length : 0;
    return { given: cellsIn(size(rows) === size(test.input) ? test.given : "", width), conflict: cellsIn(conflicts, width) };
  }

  function conflictsInWords(height, width, conflict) {
    const found = [];
    for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) if (conflict(r, c)) found.push(`row ${r + 1} column ${c + 1}`);
    if (!found.length) return "";
    return `; ${counted(found.length, "cell")} in conflict: ${found.slice(0, 12).join(", ")}${found.length > 12 ? ", …" : ""}`;
  }

  // Thick lines between blocks, where they fill a board.
  function ruleBlocks(pen, height, width, cell) {
    if (!blocks || height % blocks[0] || width % blocks[1]) return;
    const line = Math.max(2, Math.round(cell / 10)), from = (n) => n * cell - 1 - Math.floor((line - 1) / 2);
    pen.fillStyle = RULE;
    for (let r = blocks[0]; r < height; r += blocks[0]) pen.fillRect(0, from(r), width * cell, line);
    for (let c = blocks[1]; c < width; c += blocks[1]) pen.fillRect(from(c), 0, line, height * cell);
  }

  // A canvas of h x w cells; paintCell(pen, row, column, x, y, cell) paints one.
  function board(height, width, cell, words, paintCell) {
    const canvas = make("canvas", { role: "img", "aria-label": words, class: COLOURS.length ? "" : "written" });
    canvas.width = width * cell;
    canvas.height = height * cell;
    canvas.dataset.cell = cell;
    canvas.paint = () => {
      const pen = canvas.getContext("2d");
      pen.clearRect(0, 0, canvas.width, canvas.height);
      for (let r = 0; r < height; r++) {
        for (let c = 0; c < width; c++) paintCell(pen, r, c, c * cell, r * cell, cell);
      }
      ruleBlocks(pen, height, width, cell);
    };
    canvas.paint();
    return canvas;
  }

  // A cell of a colour, with a text on it where there is room; null: without.
  function paint(pen, colour, x, y, cell, text, smallest = 10, ink = isDark(colour) ? "#ffffff" : "#000000") {
    const gap = cell >= 5 ? 1 : 0;
    pen.fillStyle = colour;
    pen.fillRect(x, y, cell - gap, cell - gap);
    if (text !== null && cell >= smallest) {
      pen.fillStyle = ink;
      pen.font = `${Math.floor(cell * 0.6)}px system-ui, sans-serif`;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.fillText(text, x + cell / 2, y + cell / 2 + 0.5);
    }
  }

  // A symbol by its number: its colour; where symbols have none, or digits are wanted, written.
  function paintSymbol(pen, symbol, x, y, cell, given, conflict) {
    const text = !COLOURS.length || view.digits ? written[symbol] : null;
    if (COLOURS.length) paint(pen, colourOf(symbol), x, y, cell, text);
    else paint(pen, conflict ? BROKEN : given ? GIVEN : "#ffffff", x, y, cell, text, 6, MARKS && !given ? ANSWERED : "#000000");
    if (conflict) outline(pen, x, y, cell);
  }

  // Around a conflict; on a coloured cell with a white line inside, so that it is seen on any colour.
  const outlineWidth = (cell) => Math.max(1, Math.round(cell / 9));
  function outline(pen, x, y, cell) {
    const side = cell >= 5 ? cell - 1 : cell, line = outlineWidth(cell);
    pen.strokeStyle = BROKEN_LINE;
    pen.lineWidth = line;
    pen.strokeRect(x + line / 2, y + line / 2, side - line, side - line);
    if (!COLOURS.length || cell < 7) return;
    pen.strokeStyle = "#ffffff";
    pen.lineWidth = 1;
    pen.strokeRect(x + line + 0.5, y + line + 0.5, side - 2 * line - 1, side - 2 * line - 1);
  }

  function grid(rows, most, words, marks, largest = 24) {
    if (rows === null) return make("span", { class: "empty" }, "hidden");
    if (!rows.length) return make("span", { class: "empty" }, "no cells");
    const height = rows.length, width = rows[0].length;
    const cell = Math.max(2, Math.min(largest, Math.floor(most / Math.max(height, width))));
    const label = `${words}: ${inWords(rows)}${conflictsInWords(height, width, marks.conflict)}`;
    return board(height, width, cell, label, (pen, r, c, x, y) => paintSymbol(pen, symbols.indexOf(rows[r][c]), x, y, cell, marks.given(r, c), marks.conflict(r, c)));
  }

  return { colourOf, inWords, marksOf, conflictsInWords, board, paint, paintSymbol, outlineWidth, grid };
}
