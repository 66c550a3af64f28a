// The data stands in the page deflated, in base 64; nothing is asked of the network.
async function data() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
}
function start(D) {
  // Whatever the data says goes into the page by textContent alone: it is text, never markup.
  const $ = (id) => document.getElementById(id);
  const LETTERS = ["D", "R", "L", "I", "C", "W", "E", "B"], BUILDS = 7;
  const SIGNS = ["×", "≠", "·", "✓", "–"];
  const [INCOMPATIBLE, DRIFT, UNTESTED, COMPATIBLE] = [0, 1, 2, 3];
  // The numbers of a text as page_data.coded writes them.
  const DIGIT = new Map([...D.alphabet].map((letter, at) => [letter, at]));
  const BASE = D.alphabet.length, ONE = 60, TWO = BASE - ONE - 1, SHORT = ONE + TWO * BASE;
  function decoded(coded) {
    const found = [];
    for (let at = 0; at < coded.length; ) {
      const digit = DIGIT.get(coded[at++]);
      if (digit < ONE) found.push(digit);
      else if (digit < BASE - 1) found.push(ONE + (digit - ONE) * BASE + DIGIT.get(coded[at++]));
      else {
        let number = 0;
        for (let left = DIGIT.get(coded[at++]); left > 0; left--) number = number * BASE + DIGIT.get(coded[at++]);
        found.push(SHORT + number);
      }
    }
    return found;
  }
  const held = {};
  const unpacked = (pool, at) => {
    const known = held[pool] || (held[pool] = []);
    return known[at] || (known[at] = decoded(D[pool][at]));
  };
  const SQUARES = {};
  for (const platform of Object.keys(D.grid)) SQUARES[platform] = decoded(D.grid[platform]);
  const rows = D.vllm.length, columns = D.torch.length;
  const text = (at) => (at ? D.texts[at] : "");
  const rung = (at) => (at ? D.rungs[at - 1] : "");
  const form = $("filters"), grid = $("grid"), panel = $("detail"), status = $("status");
  const state = { platform: D.first, python: "", verdict: [], torch: "", vllm: "", pin: "", ran: "", q: "", at: "", plot: "", runs: "" };
  const FIELDS = ["platform", "python", "torch", "vllm", "pin", "ran", "q", "plot", "runs"];
  const first = state.platform;

  // Entries: the records, by the place of their cell.
  const E = { cell: 0, platform: 1, row: 2, column: 3, python: 4, verdict: 5, rung: 6, reason: 7, off: 8, part: 9, file: 10, started: 11, flags: 12, imports: 13, seconds: 14, facts: 15, cases: 16, past: 17, blame: 18, stock: 19, stale: 20 };
  const W = { name: 0, outcome: 1, verdict: 2, rung: 3, reason: 4, signature: 5, model: 6, flags: 7, trace: 8, starts: 9, rules: 11 };
  // The cases of an entry: what each showed, and the seconds of its starts by part.
  const casesOf = (entry) => {
    const numbers = decoded(entry[E.cases]), found = [];
    for (let at = 0; at < numbers.length; ) {
      const what = unpacked("whats", numbers[at++]);
      const counts = [0, 1].map((start) => (what[W.starts + start] ? numbers[at++] : 0));
      const took = [0, 1].map((start) => (what[W.starts + start] ? D.names[what[W.starts + start]].map(() => numbers[at++]) : []));
      found.push({ what, counts, took });
    }
    return found;
  };
  const placed = new Map();
  const placeKey = (platform, row, column, python) => ((platform * 512 + row) * 512 + column) * 16 + python;
  D.entries.forEach((entry, at) => {
    if (entry[E.row] >= 0) placed.set(placeKey(entry[E.platform], entry[E.row], entry[E.column], entry[E.python]), at);
  });

  // A climb: how far one cell gets. C names the places of its parts.
  const C = { verdict: 0, reached: 1, fails: 2, bits: 3, steps: 4, contradictions: 5, marks: 6, predicted: 7, prediction: 8 };
  function square(row, column, platform = state.platform) {
    const at = SQUARES[platform] && SQUARES[platform][row * columns + column];
    return at ? unpacked("squares", at) : null;
  }
  function pythonOf(found) {
    const asked = D.pythons.indexOf(state.python);
    return asked >= 0 ? asked : found[0];
  }
  const climbOf = (found, python) => D.climbs[found[python + 1]];
  const ranSign = (verdict) => (verdict === UNTESTED ? "?" : SIGNS[verdict]);
  // Beyond what is known of its counters, and compared with the nearest release that is.
  const compared = (climb) => !climb[C.fails] && climb[C.bits] & 16;
  function mark(climb) {
    const at = climb[C.verdict], place = climb[C.fails] || climb[C.reached];
    const open = !climb[C.fails] && climb[C.bits] & 4 ? "?" : "";
    return (compared(climb) ? "≈" : climb[C.bits] & 2 ? ranSign(at) : SIGNS[at]) + (place ? LETTERS[place - 1] : "") + open + (climb[C.bits] & 8 ? "*" : "") + (climb[C.bits] & 32 ? "↻" : "") + (climb[C.bits] & 64 ? "◔" : "") + (climb[C.bits] & 128 ? "◌" : "");
  }
  const style = (climb) => "s" + climb[C.verdict] + (climb[C.bits] & 2 ? " r" : "") + (climb[C.bits] & 1 ? "" : " p") + (climb[C.bits] & 104 ? " n" : "");
  function words(climb) {
    return standing(climb) + (climb[C.bits] & 8 ? ", not stock" : "") + (climb[C.marks] ? ", " + text(climb[C.marks]) : "") + (climb[C.bits] & 128 ? ", " + text(climb[C.predicted]) : "");
  }
  function standing(climb) {
    const at = climb[C.verdict];
    if (at === COMPATIBLE) return "compatible, as expected";
    if (at === DRIFT) return "drift, counts differ";
    if (at === INCOMPATIBLE) return "incompatible, fails at " + (rung(climb[C.fails]) || "a rung that it does not name");
    if (compared(climb)) return "untested, provisional: it ran, beyond what is known of its counters";
    const top = climb[C.reached] ? "passed " + rung(climb[C.reached]) : "nobody asked";
    return "untested, " + top + (climb[C.bits] & 2 ? ", it ran" : climb[C.bits] & 4 ? ", a rung below was not asked" : "");
  }
  const reasonOf = (climb) => (climb[C.fails] ? text(D.steps[decoded(climb[C.steps])[climb[C.fails] - 1]][1]) : "");

  const { haystack, has, prepare } = searching({
    D, E, W, C, state, rows, columns, text, unpacked, decoded, square, pythonOf, climbOf, placed, placeKey, casesOf, words,
    traceText: (numbers) => traceText(numbers), nameOf: (entry) => nameOf(entry), fileOf: (entry) => fileOf(entry), notesOf: (...place) => notesOf(...place),
  });

  const bodyRows = grid ? [...grid.tBodies[0].rows] : [];
  const headCells = grid ? [...grid.tHead.rows[0].cells].slice(1) : [];
  const buttons = bodyRows.map((row) => [...row.cells].slice(1).map((cell) => cell.firstChild));
  let current = [0, 0], shownCells = [], missing = "";

  function apply() {
    const torch = accepts(state.torch), vllm = accepts(state.vllm), verdicts = new Set(state.verdict);
    const { conditions, words: q, notes } = understood(state.q, D), builds = conditions.flatMap(({ build }) => build || []);
    const columnOk = D.torch.map((release) => torch.fits(release[0])), rowOk = D.vllm.map((release) => vllm.fits(release[0]));
    const columnSeen = new Array(columns).fill(false), rowSeen = new Array(rows).fill(false);
    const seen = [], narrowed = Boolean(verdicts.size || state.q.trim() || state.pin || state.ran), near = [];
    for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
      const found = rowOk[row] && columnOk[column] && within(conditions, row, column) ? square(row, column) : null;
      if (!found) continue;
      const python = pythonOf(found), climb = climbOf(found, python), bits = climb[C.bits];
      const fits = !(verdicts.size && !verdicts.has(D.verdicts[climb[C.verdict]])) && !(state.pin && (state.pin === "off") !== Boolean(bits & 1)) && !(state.ran && !(bits & 2));
      if (!fits) continue;
      const wanted = [...builds, ...q], held = wanted.length ? haystack(state.platform, row, column, python) : "";
      const hits = wanted.reduce((count, word) => count + has(held, word), 0);
      if (hits === wanted.length) seen.push(row * columns + column);
      else if (hits > 0) near.push([hits, row * columns + column]);
    }
    // A message of which not every word is here: what has most of them, and half at least; a build that no run had.
    if (!seen.length && near.length && (builds.length || q.length > 2)) {
      const most = Math.max(...near.map(([hits]) => hits));
      if (!builds.length && most * 2 >= q.length) { seen.push(...near.filter(([hits]) => hits === most).map(([, at]) => at)); notes.push("Not every word fits; these have the most of them, " + most + " of " + q.length + "."); }
    }
    if (!seen.length && builds.length && !q.length) notes.push("No run here has " + builds.join(", ") + ".");
    if (!seen.length && state.q.trim()) for (const platform of Object.keys(D.grid).filter((other) => other !== state.platform)) {
      let there = 0;
      for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
        const found = rowOk[row] && columnOk[column] && within(conditions, row, column) && square(row, column, platform);
        if (found) { const held = haystack(platform, row, column, pythonOf(found)); there += [...builds, ...q].every((word) => has(held, word)); }
      }
      if (there) notes.push("On " + platform + " " + there + (there === 1 ? " pair fits" : " pairs fit") + "; choose it below.");
    }
    for (const at of seen) { rowSeen[Math.floor(at / columns)] = columnSeen[at % columns] = true; }
    const show = new Set(seen);
    shownCells = bodyRows.map(() => []);
    headCells.forEach((cell, column) => { cell.hidden = !columnSeen[column]; });
    bodyRows.forEach((tr, row) => {
      tr.hidden = !rowSeen[row];
      if (tr.hidden) return;
      for (let column = 0; column < columns; column++) {
        const button = buttons[row][column], hidden = !columnSeen[column], here = show.has(row * columns + column);
        if (button.parentNode.hidden !== hidden) button.parentNode.hidden = hidden;
        if (hidden) continue;
        button.classList.toggle("off", !here);
        if (here) shownCells[row].push(column);
      }
    });
    if (!show.has(current[0] * columns + current[1]) && seen.length) setCurrent(Math.floor(seen[0] / columns), seen[0] % columns);
    answer(show, narrowed || state.torch || state.vllm, q, notes);
    const narrow = narrowed || state.torch || state.vllm ? " of " + rows * columns : "";
    const asked = [["torch", "torch", torch], ["vllm", "vLLM", vllm]];
    const apart = asked.flatMap(([key, name, { fits }]) => (state[key] && !D[key].some((release) => fits(release[0])) ? D.apart[key].filter(fits).map((version) => name + " " + version) : []));
    const nothing = ": nothing fits; " + (apart.length ? apart.join(", ") + (apart.length > 1 ? " are" : " is") + " in compatibility.json alone" : "clear a filter");
    const faults = asked.filter(([key, , { unknown }]) => {
      const field = form.elements[key];
      if (unknown.length) field.setAttribute("aria-invalid", "true"); else field.removeAttribute("aria-invalid");
      return unknown.length;
    }).map(([, name, { unknown }]) => ". " + name + ": " + unknown.join(", ") + " is not understood; write 2.10, 2.12 or >=2.11, <2.13");
    status.textContent = rows ? seen.length + narrow + " pairs of releases on " + state.platform + (state.python ? ", Python " + state.python : "") + (seen.length ? "" : nothing) + faults.join("") + missing : "";
  }

  // The answers at the top follow what is shown, and what else fits a search is named below them.
  const lines = [...document.querySelectorAll(".answers li")].map((line) => {
    const [torch, vllm] = line.dataset.at.split(",");
    return { line, at: D.vllm.findIndex((release) => release[0] === vllm) * columns + D.torch.findIndex((release) => release[0] === torch) };
  });
  const older = $("older");
  let openedOlder = false;
  function answer(show, narrow, q, notes) {
    const answered = new Set();
    for (const { line, at } of lines) {
      line.hidden = narrow && !show.has(at);
      if (!line.hidden) answered.add(at);
    }
    if (older) {
      const inside = [...older.querySelectorAll("li")].some((line) => !line.hidden);
      older.hidden = !inside;
      if (narrow && inside !== openedOlder) older.open = openedOlder = inside;
      if (!narrow && openedOlder) older.open = openedOlder = false;
    }
    const list = $("found");
    if (!list) return;
    $("hint").textContent = (state.q.trim() ? (show.size ? "" : "Nothing fits. ") + notes.join(" ") : "");
    const ran = (at) => (placed.has(placeKey(D.platforms.indexOf(state.platform), Math.floor(at / columns), at % columns, pythonOf(square(Math.floor(at / columns), at % columns)))) ? 0 : 1);
    const others = state.q.trim() ? [...show].filter((at) => q.length || !answered.has(at)).map((at) => [ran(at), at]).sort((one, other) => one[0] - other[0] || one[1] - other[1]) : [];
    const shown = others.slice(0, 6).map(([, at]) => foundItem(Math.floor(at / columns), at % columns, q));
    if (others.length > shown.length) shown.push(el("li", {}, others.length - shown.length + " more in the grid below"));
    list.replaceChildren(...shown);
    list.hidden = !shown.length;
  }
  function foundItem(row, column, q) {
    const found = square(row, column), python = pythonOf(found), climb = climbOf(found, python);
    const at = placed.get(placeKey(D.platforms.indexOf(state.platform), row, column, python)), entry = at === undefined ? null : D.entries[at];
    const fits = (wording) => q.length && q.some((word) => wording.toLowerCase().includes(word));
    const why = [...(entry ? casesOf(entry).map(({ what }) => [text(what[W.reason]), text(what[W.signature])].find((wording) => fits(wording))).filter(Boolean).slice(0, 1) : []), (entry && text(entry[E.reason])) || reasonOf(climb), ...notesOf(row, column).filter(fits)];
    const button = el("button", { class: "plain", type: "button", on: () => open(row, column, python) }, "torch " + D.torch[column][0] + " × vLLM " + D.vllm[row][0]);
    return el("li", {}, chip(climb[C.verdict], mark(climb), climb[C.bits] & 2), " ", button, " ", ...linked(words(climb) + [...new Set(why.filter((wording, at) => wording && !why.some((other, place) => place !== at && other.length > wording.length && other.includes(wording))))].slice(0, 2).map((wording) => "; " + wording).join("")));
  }
  // The marks in the corner of a square, and their words.
  function extras(row, column, climb) {
    const notes = notesOf(row, column), found = [];
    if (notes.length) found.push(["†", "a note"]);
    if (climb[C.bits] & 512 || notes.some((note) => LINK.test(note))) found.push(["#", "an issue upstream"]);
    if (climb[C.bits] & 256) found.push(["◷", "stale"]);
    return [found.map(([sign]) => sign).join(""), found.map(([, wording]) => ", " + wording).join("")];
  }
  const noted = new Map();
  for (const [platform, row, column, wording] of D.notes) {
    const key = placeKey(platform, row, column, 0);
    noted.set(key, [...(noted.get(key) || []), text(wording)]);
  }
  const notesOf = (row, column, platform = state.platform) => noted.get(placeKey(D.platforms.indexOf(platform), row, column, 0)) || [];
  const factOf = (entry, key) => { const found = entry[E.facts] ? unpacked("facts", entry[E.facts]).map((pair) => D.pairs[pair]).find(([name]) => text(name) === key) : 0; return found ? text(found[1]) : ""; };
  // A part of a fact that has several: "capability 9.0, driver 580.159.04, name NVIDIA H200".
  const partOf = (entry, key, part) => (factOf(entry, key).split(", ").find((wording) => wording.startsWith(part + " ")) || "").slice(part.length + 1);
  const gpuOf = (entry) => partOf(entry, "GPU", "name");
  const dated = (date) => date.slice(0, 10) + (age(date) ? " (" + age(date) + ")" : "");
  // What a pointer on a square shows: its words, why, on what it ran and when, and its notes.
  function hover(row, column) {
    const found = square(row, column), python = pythonOf(found), climb = climbOf(found, python);
    const at = placed.get(placeKey(D.platforms.indexOf(state.platform), row, column, python)), entry = at === undefined ? null : D.entries[at];
    const ran = entry ? "Ran " + dated(entry[E.started]) + (gpuOf(entry) ? " on " + gpuOf(entry) : "") : "";
    return [buttons[row][column].getAttribute("aria-label"), (entry && text(entry[E.reason])) || reasonOf(climb), ran, entry && entry[E.stock] ? text(entry[E.stock]) : "", entry && entry[E.stale] ? "Stale: " + text(entry[E.stale]) : "", ...notesOf(row, column).map((note) => "To know: " + note)].filter(Boolean).join("\n");
  }
  function dressLines() {
    for (const { line } of lines) {
      const code = line.querySelector("code"), button = el("button", { class: "copy", type: "button", "aria-label": "Copy the command that installs " + line.firstChild.textContent }, "Copy");
      button.addEventListener("click", () => copy(button, code.textContent));
      code.after(button);
    }
    for (const time of document.querySelectorAll("time")) { const wording = age(time.dateTime); if (wording) time.append(" (" + wording + ")"); }
  }
  function paint() {
    for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
      const found = square(row, column), button = buttons[row][column];
      if (!found) continue;
      const python = pythonOf(found), climb = climbOf(found, python), wording = mark(climb), looks = style(climb);
      if (button.textContent !== wording) button.textContent = wording;
      if (button.className !== looks) button.className = looks;
      const [corner, apart] = extras(row, column, climb);
      if (corner !== (button.dataset.m || "")) { if (corner) button.dataset.m = corner; else delete button.dataset.m; }
      button.setAttribute("aria-label", "torch " + D.torch[column][0] + ", vLLM " + D.vllm[row][0] + ": " + words(climb) + (climb[C.bits] & 1 ? "" : ", the pin") + apart);
    }
  }

  function setCurrent(row, column) {
    const old = buttons[current[0]] && buttons[current[0]][current[1]];
    if (old) old.tabIndex = -1;
    current = [row, column];
    buttons[row][column].tabIndex = 0;
  }
  function move(key, whole) {
    const [row, column] = current;
    const filled = shownCells.map((shown, at) => (shown.length ? at : -1)).filter((at) => at >= 0);
    const nearest = (at) => shownCells[at].reduce((best, place) => (Math.abs(place - column) < Math.abs(best - column) ? place : best));
    const here = shownCells[row] || [];
    if (key === "ArrowRight") { const next = here.find((place) => place > column); return next === undefined ? null : [row, next]; }
    if (key === "ArrowLeft") { const next = here.filter((place) => place < column).pop(); return next === undefined ? null : [row, next]; }
    if (key === "Home" || key === "End") {
      const at = whole ? filled[key === "Home" ? 0 : filled.length - 1] : row, of = shownCells[at];
      return [at, of[key === "Home" ? 0 : of.length - 1]];
    }
    const steps = key.startsWith("Page") ? 8 : 1, down = key === "ArrowDown" || key === "PageDown";
    const at = filled.indexOf(row) + (down ? steps : -steps);
    const to = filled[Math.max(0, Math.min(filled.length - 1, at))];
    return to === undefined ? null : [to, nearest(to)];
  }

  // The URL's fragment holds what is shown, so that a link shows the same.
  let leaving = false;
  function save(how = "replaceState") {
    const kept = new URLSearchParams();
    for (const key of FIELDS) if (state[key] && (key !== "platform" || state.at || state[key] !== first)) kept.set(key, state[key]);
    if (state.verdict.length) kept.set("verdict", state.verdict.join(","));
    if (state.at) kept.set("at", state.at);
    const hash = "#" + kept.toString();
    if (how === "pushState") history.pushState("opened", "", hash);
    else if (hash !== (location.hash || "#")) history.replaceState(history.state, "", hash);
  }
  function load() {
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const key of FIELDS) state[key] = kept.get(key) || "";
    // What the form does not offer is no value.
    for (const key of ["platform", "python", "pin", "ran"]) {
      const offered = [...form.querySelectorAll("input[name=" + key + "], select[name=" + key + "] option")];
      if (!offered.some((field) => field.value === state[key])) state[key] = key === "platform" ? first : "";
    }
    state.verdict = (kept.get("verdict") || "").split(",").filter((verdict) => D.verdicts.includes(verdict));
    state.at = kept.get("at") || "";
    for (const key of FIELDS) if (form.elements[key]) form.elements[key].value = state[key];
    for (const box of form.elements.verdict) box.checked = state.verdict.includes(box.value);
  }
  function read() {
    for (const key of FIELDS) if (form.elements[key]) state[key] = form.elements[key].value;
    if (!state.platform) state.platform = first;
    state.verdict = [...form.elements.verdict].filter((box) => box.checked).map((box) => box.value);
  }

  const nameOf = (entry) => text(entry[E.cell]) || cellName(entry[E.row], entry[E.column], entry[E.python]);
  const fileOf = (entry) => text(entry[E.file]) || nameOf(entry) + ".json";
  function cellName(row, column, python) {
    const digits = (version) => numbers(version).slice(0, 2).join("");
    return "py" + D.pythons[python].replace(".", "") + "-torch" + digits(D.torch[column][0]) + "-vllm" + digits(D.vllm[row][0]);
  }
  const { squareDetail, entryDetail, fill, startsOf, traceText } = detailing({
    D, E, W, C, state, columns, panel, LETTERS, BUILDS, INCOMPATIBLE, UNTESTED, COMPATIBLE, text, rung, unpacked, decoded, casesOf, placed, placeKey,
    square, pythonOf, climbOf, ranSign, mark, style, words, reasonOf, notesOf, nameOf, fileOf, cellName, open, close, drawer,
  });

  let opener = null;
  function expanded(row, column, yes) {
    if (grid) grid.querySelectorAll('[aria-expanded]').forEach((button) => button.removeAttribute("aria-expanded"));
    if (yes) buttons[row][column].setAttribute("aria-expanded", "true");
  }
  // Opening the panel is a step of the history, so that Back closes it; `step` is false where the
  // history itself opens it.
  function open(row, column, python, focus = true, step = true) {
    if (!square(row, column)) return;
    setCurrent(row, column);
    const was = fill(squareDetail(row, column, python));
    expanded(row, column, true);
    opener = buttons[row][column];
    state.at = D.torch[column][0] + "," + D.vllm[row][0] + (python === undefined || python < 0 ? "" : "," + D.pythons[python]);
    save(was && step ? "pushState" : "replaceState");
    if (focus) $("detail-title").focus();
  }
  function openEntry(at, button) {
    const entry = D.entries[at];
    if (entry[E.row] >= 0) {
      if (state.platform !== D.platforms[entry[E.platform]]) { state.platform = D.platforms[entry[E.platform]]; form.elements.platform.value = state.platform; paint(); apply(); }
      open(entry[E.row], entry[E.column], entry[E.python]);
    } else { const was = fill(entryDetail(at)); expanded(0, 0, false); state.platform = D.platforms[entry[E.platform]]; form.elements.platform.value = state.platform; state.at = nameOf(entry); save(was ? "pushState" : "replaceState"); $("detail-title").focus(); }
    opener = button;
  }
  function close() {
    if (panel.hidden) return;
    panel.hidden = true;
    panel.replaceChildren();
    document.body.classList.remove("open");
    expanded(0, 0, false);
    state.at = "";
    save();
    if (history.state === "opened") { leaving = true; history.back(); }
    if (opener && opener.isConnected) opener.focus();
    opener = null;
  }
  function openFromUrl(focus) {
    const [torch, vllm, python] = state.at.split(",");
    const row = D.vllm.findIndex((release) => release[0] === vllm), column = D.torch.findIndex((release) => release[0] === torch);
    const entry = D.entries.findIndex((one) => D.platforms[one[E.platform]] === state.platform && nameOf(one) === state.at);
    missing = "";
    if (row >= 0 && column >= 0 && square(row, column)) {
      open(row, column, D.pythons.indexOf(python), focus, false);
      buttons[row][column].scrollIntoView({ block: "nearest", inline: "nearest" });
    } else if (entry >= 0) openEntry(entry, null);
    else { missing = ". The link names " + state.at.slice(0, 80) + ", which this page does not have"; state.at = ""; apply(); }
  }

  function listRecords() {
    const body = D.entries.map((entry, at) => {
      const shown = chip(entry[E.verdict], ranSign(entry[E.verdict]) + " " + D.verdicts[entry[E.verdict]], true);
      const button = el("button", { class: "plain", type: "button" }, nameOf(entry));
      button.addEventListener("click", () => openEntry(at, button));
      return [button, D.platforms[entry[E.platform]], shown, rung(entry[E.rung]), entry[E.off] ? "off-pin" : "", text(entry[E.stock]), text(entry[E.reason]), entry[E.part] ? text(entry[E.part]) : String(casesOf(entry).length), entry[E.started].slice(0, 10)];
    });
    $("list").querySelector(".wrap").replaceChildren(table("What ran", ["cell", "platform", "verdict", "rung", "pin", "packages", "reason", "cases", "day"], body, 7).firstChild);
  }

  // What trends and comparisons need of every run, made when someone asks for them.
  function entries() {
    return D.entries.map((entry, at) => {
      const fact = (key) => factOf(entry, key);
      return {
        at, name: nameOf(entry), platform: D.platforms[entry[E.platform]], row: entry[E.row], column: entry[E.column],
        vllm: fact("vLLM"), torch: fact("torch"), python: fact("Python"), off: entry[E.off], day: entry[E.started].slice(0, 10),
        verdict: D.verdicts[entry[E.verdict]], gpu: gpuOf(entry), driver: partOf(entry, "GPU", "driver"), tests: partOf(entry, "tests", "version"), fact,
        cases: new Map((entry[E.cases] ? casesOf(entry) : []).map((one) => [text(one.what[W.name]), startsOf(one).map(({ ran, seconds: took, counters }) => ({ ran, seconds: new Map([...took].map(([part, tenths]) => [part, tenths / 10])), counters: new Map([...counters].map(([name, count]) => [text(name), count])) }))])),
      };
    });
  }
  const tools = { D, state, save, entries, open: (at) => openEntry(at, document.activeElement) };
  const drawers = new Map([["trends", trends], ["compare", sideBySide]]), drawn = {};
  function drawer(name) {
    if (!(name in drawn)) drawn[name] = drawers.get(name)(tools);
    if (drawn[name]) drawn[name]();
  }
  for (const [name, key] of [["trends", "plot"], ["compare", "runs"]]) if ($(name)) $(name).addEventListener("toggle", () => {
    if ($(name).open) drawer(name); else state[key] = "";
    save();
  });

  // Wiring.
  function refresh(painted) {
    if (!painted) paint();
    apply();
    save();
  }
  // The open cell follows the form; a Python that was chosen in it gives way to that of the form.
  function refill(pythonChosen) {
    if (panel.hidden || !state.at) return;
    if (pythonChosen) state.at = state.at.split(",").slice(0, 2).join(",");
    openFromUrl(false);
  }
  for (const { line, at } of lines) line.querySelector("a[href^='#']").addEventListener("click", (event) => {
    // A plain click keeps the search; the link itself leads to the pair on the platform of the answer.
    if (event.ctrlKey || event.metaKey || event.shiftKey || at < 0) return;
    event.preventDefault();
    const platform = new URLSearchParams(event.target.hash.slice(1)).get("platform");
    if (state.platform !== platform) { form.elements.platform.value = platform; read(); refresh(false); }
    open(Math.floor(at / columns), at % columns);
    opener = event.target;
  });
  const controls = form.parentNode;
  if (matchMedia("(max-width: 40rem)").matches && location.hash.length < 2) controls.open = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    read();
    refresh(!["platform", "python"].includes(event.target.name));
    if (["platform", "python"].includes(event.target.name)) refill(event.target.name === "python");
  });
  if (!form.contains(form.elements.q)) form.elements.q.addEventListener("input", () => { read(); refresh(true); });
  form.addEventListener("reset", () => setTimeout(() => { read(); refresh(false); refill(true); }));
  if (grid) {
    grid.addEventListener("click", (event) => {
      const cell = event.target.closest("td");
      if (cell) open(cell.parentNode.rowIndex - 1, cell.cellIndex - 1);
    });
    grid.addEventListener("mouseover", (event) => {
      const cell = event.target.closest("td");
      if (cell) cell.firstChild.title = hover(cell.parentNode.rowIndex - 1, cell.cellIndex - 1);
    });
    grid.addEventListener("focusin", (event) => {
      const cell = event.target.closest("td");
      if (cell) setCurrent(cell.parentNode.rowIndex - 1, cell.cellIndex - 1);
    });
    grid.addEventListener("keydown", (event) => {
      if (event.altKey || event.metaKey || !/^(Arrow|Page|Home|End)/.test(event.key)) return;
      const to = move(event.key, event.ctrlKey);
      event.preventDefault();
      if (to) { setCurrent(...to); buttons[to[0]][to[1]].focus(); }
    });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  addEventListener("popstate", () => {
    // After closing the panel the page is as it is now, not as it was when the panel opened.
    if (leaving) { leaving = false; save(); return; }
    load();
    paint();
    apply();
    if (state.at) openFromUrl(true); else close();
  });
  $("list").addEventListener("toggle", () => { if ($("list").open) listRecords(); }, { once: true });
  document.querySelector(".skip").addEventListener("click", (event) => {
    // The fragment is for the filters.
    event.preventDefault();
    if (grid) buttons[current[0]][current[1]].focus();
  });
  const theme = $("theme");
  const dress = (to) => { if (to) document.documentElement.dataset.theme = to; else delete document.documentElement.dataset.theme; };
  try { theme.value = localStorage.getItem("matrix-theme") || ""; } catch { /* storage may be refused */ }
  dress(theme.value);
  theme.addEventListener("change", () => { dress(theme.value); try { localStorage.setItem("matrix-theme", theme.value); } catch { /* the same */ } });

  load();
  dressLines();
  if (grid) { paint(); setCurrent(0, 0); }
  apply();
  if (state.at && grid) openFromUrl(false);
  for (const [name, key] of [["trends", "plot"], ["compare", "runs"]]) if (state[key] && $(name)) $(name).open = true;
  document.documentElement.dataset.ready = "yes";
  if (grid) setTimeout(prepare);
}
// The grid stands in the page: it is painted first, unless the link asks for something else.
const begin = () => data().then(start, (error) => { document.getElementById("status").textContent = "This browser cannot read the details: " + error.message + ". Answers and grid are as they stand here; compatibility.md has all of it."; });
if (location.hash.length > 1) begin();
else requestAnimationFrame(() => setTimeout(begin));
