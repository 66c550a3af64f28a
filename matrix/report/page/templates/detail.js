// The panel with the details of a pair or a record: how far it gets, its cases, its provenance, and the commands for it.
function detailing(page) {
  const {
    D, E, W, C, state, columns, panel, LETTERS, BUILDS, INCOMPATIBLE, UNTESTED, COMPATIBLE, text, rung, unpacked, decoded, casesOf, placed, placeKey,
    square, pythonOf, climbOf, ranSign, mark, style, words, reasonOf, notesOf, nameOf, fileOf, cellName, open, close, drawer,
  } = page;
  const $ = (id) => document.getElementById(id);
  const STATE_SIGNS = ["✓", "×", "?", "–"];
  const STATE_STYLES = ["s3", "s0", "s2", "s2"];
  const seconds = (tenths) => (tenths < 0 || tenths === undefined ? "-" : (tenths / 10).toFixed(1));
  const facts = (at) => {
    const list = el("dl");
    for (const [key, value] of unpacked("facts", at).map((pair) => D.pairs[pair])) list.append(el("dt", {}, text(key)), el("dd", {}, text(value)));
    return list;
  };
  function spark(points, from, to) {
    const width = 120, height = 22, low = Math.min(...points), high = Math.max(...points), span = high - low || 1;
    const xy = points.map((point, at) => [2 + (at * (width - 6)) / (points.length - 1), height - 3 - ((point - low) * (height - 6)) / span]);
    const wording = points.length + " runs from " + from + " to " + to + ": " + seconds(points[0]) + " s then, " + seconds(points[points.length - 1]) + " s now, " + seconds(low) + " to " + seconds(high) + " s";
    const drawn = svg("svg", { class: "spark", width, height, viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": wording });
    const title = svg("title", {});
    title.textContent = wording;
    const last = xy[xy.length - 1];
    drawn.append(title, svg("polyline", { points: xy.map((pair) => pair.map((n) => n.toFixed(1)).join(",")).join(" ") }), svg("circle", { cx: last[0].toFixed(1), cy: last[1].toFixed(1), r: 2.2 }));
    return drawn;
  }
  function startsOf(one) {
    const what = one.what;
    return D.starts.map((name, place) => {
      const start = what[W.starts + place], rules = what[W.rules + place], expected = new Map(), rule = new Map();
      if (rules) { const held = D.expected[rules]; D.names[held[0]].forEach((counter, i) => { expected.set(counter, held[1][i]); rule.set(counter, held[2][i]); }); }
      if (!start) return { name, ran: false, expected, rule, seconds: new Map(), counters: new Map() };
      const counts = unpacked("counts", one.counts[place]);
      const took = new Map(D.names[start].map((part, i) => [text(part), one.took[place][i]]));
      const counters = new Map((counts[0] ? D.names[counts[0]] : []).map((counter, i) => [counter, counts[i + 1]]));
      return { name, ran: true, expected, rule, seconds: took, counters };
    });
  }
  // Whether expectations were asked: a run that was cut short, or died of a full disk, has none.
  const judged = (what) => what[W.verdict] !== UNTESTED || text(what[W.outcome]) === "passed";
  function countersTable(starts, what) {
    const expected = new Set(), others = new Set();
    for (const start of starts) { start.expected.forEach((_, key) => expected.add(key)); }
    for (const start of starts) start.counters.forEach((_, key) => { if (!expected.has(key)) others.add(key); });
    const rowsOf = (keys) => [...keys].sort((a, b) => (text(a) < text(b) ? -1 : 1)).map((key) => [text(key), ...starts.flatMap((start) => {
      const wanted = start.expected.get(key), observed = start.counters.get(key);
      const differs = start.ran && wanted !== undefined && wanted !== observed;
      const shown = observed === undefined ? (start.ran ? "not counted" : "-") : observed;
      return [wanted === undefined ? "-" : wanted, { wording: differs ? "≠ " + shown : shown, differs }];
    })]);
    const head = ["counter", ...starts.flatMap((start) => [start.name + " expected", start.name + " observed"])];
    const parts = [];
    if (expected.size) parts.push(table("Counters expected and observed", head, rowsOf(expected), 1));
    else if (others.size) parts.push(el("p", {}, judged(what) ? "No expectation speaks of what ran: its counters are shown, not judged." : "The run was not judged: its counters are only shown."));
    if (others.size) parts.push(el("details", {}, el("summary", {}, others.size + " counters that nothing is expected of"), table("Other counters", ["counter", ...starts.map((start) => start.name)], [...others].sort((a, b) => (text(a) < text(b) ? -1 : 1)).map((key) => [text(key), ...starts.map((start) => start.counters.get(key) ?? "-")]), 1)));
    return parts;
  }
  // A line with a mark for each of its numbers, and then these.
  function traceText(numbers) {
    const wording = [];
    for (let at = 0; at < numbers.length; ) wording.push(D.lines[numbers[at++]].replace(/\0/g, () => numbers[at++]));
    return wording.join("\n");
  }
  const tookOf = (starts, outcome) => {
    if (!starts.some((start) => start.ran)) return outcome === "not applicable" ? "does not apply here" : "no start ran to its end";
    return starts.map((start) => (start.ran ? start.name + " " + seconds(start.seconds.get("total")) + " s" : "no " + start.name + " start")).join(", ");
  };
  // Who changed, and what would decide: of a case by its place, of the run as a whole at -1.
  const WHO_CHANGED = "Who changed: ";
  const blame = (entry, at, level) => entry[E.blame].filter((answer) => answer[0] === at).flatMap((answer) => {
    const [wording, what, ...runs] = traceText(decoded(answer[2])).split("\n");
    return [el(level, {}, WHO_CHANGED + text(answer[1])), el("p", {}, ...linked(wording)), what ? el("p", {}, "What: " + what) : null, runs.length ? el("ul", {}, ...runs.map((run) => el("li", {}, ...linked(run)))) : null];
  });
  function caseDetail(entry, one, at) {
    const what = one.what, starts = startsOf(one), parts = [];
    const [cold, warm] = starts.map((start) => start.seconds.get("total"));
    const reason = what[W.reason] && el("p", { class: what[W.verdict] === INCOMPATIBLE ? "failure" : "" }, ...linked(text(what[W.reason])));
    const verdict = D.verdicts[what[W.verdict]] + (what[W.verdict] === INCOMPATIBLE && what[W.rung] ? " at " + rung(what[W.rung]) : "");
    const outcome = text(what[W.outcome]).replace("_", " ");
    parts.push(el("p", {}, el("b", {}, verdict), (outcome === verdict ? "" : ", outcome " + outcome) + (what[W.model] ? ", model " + text(what[W.model]) : "")), reason);
    if (what[W.signature]) parts.push(el("h4", {}, "Signature"), el("p", {}, el("code", {}, text(what[W.signature]))));
    parts.push(...blame(entry, at, "h4"));
    const counted = countersTable(starts, what);
    if (counted.length) parts.push(el("h4", {}, "Counters"), ...counted);
    const names = [...new Set(starts.flatMap((start) => [...start.seconds.keys()]))].sort((a, b) => (b === "total") - (a === "total"));
    if (names.length) parts.push(el("h4", {}, "Seconds"), table("Seconds by part", ["start", ...names], starts.filter((start) => start.ran).map((start) => [start.name, ...names.map((name) => seconds(start.seconds.get(name)))]), 1));
    const past = entry[E.past].filter((series) => series[0] === at);
    if (past.length) parts.push(el("h4", {}, "Seconds over time"), ...past.map((series) => {
      const points = decoded(series[4]);
      return el("p", { class: "past" }, el("span", {}, D.starts[series[1]]), spark(points, text(series[2]), text(series[3])), el("span", {}, seconds(points[0]) + " s on " + text(series[2]) + ", " + seconds(points[points.length - 1]) + " s on " + text(series[3]) + "; " + points.length + " runs"));
    }));
    if (what[W.trace]) {
      const [cut, ...lines] = unpacked("traces", what[W.trace]);
      parts.push(el("details", {}, el("summary", {}, "The end of its output" + (cut ? ", " + cut + " lines before it are in the record" : "")), el("pre", { tabindex: "0", role: "region", "aria-label": "Output" }, traceText(lines))));
    }
    if (what[W.flags]) parts.push(el("details", {}, el("summary", {}, "Flags"), facts(what[W.flags])));
    const body = el("div", { class: "in" });
    const shown = el("details", { class: "case" }, el("summary", {}, chip(what[W.verdict], ranSign(what[W.verdict]), what[W.verdict] <= COMPATIBLE), el("b", {}, text(what[W.name])), el("span", { class: "t" }, tookOf(starts, outcome)), el("span", { class: "t" }, cold > 0 && warm >= 0 ? "warm/cold " + (warm / cold).toFixed(2) : "")), body);
    body.append(...parts.filter(Boolean));
    if (what[W.verdict] < UNTESTED) shown.open = true;
    return shown;
  }
  function recordParts(at) {
    const entry = D.entries[at], parts = entry[E.stock] ? [el("p", { class: "stock" }, text(entry[E.stock]))] : [], blamed = new Map();
    if (entry[E.stale]) parts.push(el("p", { class: "stock" }, el("b", {}, "Stale: "), text(entry[E.stale])));
    parts.push(...blame(entry, -1, "h3"));
    for (const [place, answer] of entry[E.blame]) if (place >= 0) blamed.set(answer, (blamed.get(answer) || new Set()).add(place));
    const causes = [...blamed].map(([answer, places]) => text(answer) + " in " + places.size + (places.size === 1 ? " case" : " cases"));
    if (causes.length) parts.push(el("p", {}, WHO_CHANGED + causes.join(", ")));
    parts.push(el("h3", {}, "Cases" + (entry[E.part] ? ": " + text(entry[E.part]) : "")));
    parts.push(...(entry[E.cases] ? casesOf(entry).map((one, place) => caseDetail(entry, one, place)) : [el("p", {}, "No case was run.")]));
    parts.push(el("h3", {}, "Provenance"));
    if ($("compare")) parts.push(el("button", { class: "copy", type: "button", on: () => {
      state.runs = D.platforms[entry[E.platform]] + "/" + nameOf(entry) + "," + (state.runs.split(",")[1] || "");
      close();
      if ($("compare").open) drawer("compare"); else $("compare").open = true;
      $("compare").scrollIntoView();
      $("compare").querySelector("select[name=other]").focus();
    } }, "Compare with another run"));
    const list = entry[E.facts] ? facts(entry[E.facts]) : el("dl");
    list.append(el("dt", {}, "record"), el("dd", {}, el("code", {}, fileOf(entry))));
    list.append(el("dt", {}, "started"), el("dd", {}, entry[E.started] + (age(entry[E.started]) ? " (" + age(entry[E.started]) + ")" : "") + (entry[E.seconds] >= 0 ? ", ran " + seconds(entry[E.seconds]) + " s" : "")));
    if (entry[E.imports] >= 0) list.append(el("dt", {}, "import"), el("dd", {}, seconds(entry[E.imports]) + " s, once for all starts"));
    parts.push(list);
    if (entry[E.flags]) parts.push(el("details", {}, el("summary", {}, "Effective flags"), facts(entry[E.flags])));
    return parts;
  }
  function copied(wording, what) {
    const button = el("button", { class: "copy", type: "button", "aria-label": "Copy " + what }, "Copy");
    button.addEventListener("click", () => copy(button, wording));
    return el("div", { class: "cmd" }, el("pre", { class: "command", tabindex: "0", role: "region", "aria-label": what }, wording), button);
  }
  const command = (cell, platform) => copied("tox -e " + cell + " -- --platform " + platform, "the command that runs it");
  const backends = D.backends ? decoded(D.backends) : [];
  function installed(row, column, python, off) {
    if (!D.installs || !D.installs[row] || (off && !D.overrides[column])) return [];
    const backend = text(backends[row * columns + column]);
    const parts = { vllm: D.vllm[row][0], torch: D.torch[column][0], python: D.pythons[python], requirements: text(D.installs[row]), overrides: text(D.overrides[column]), backend };
    const install = text(D.commands[(off ? 2 : 0) + (backend ? 1 : 0)]).replace(/@(\w+)/g, (_, part) => parts[part]);
    return [el("h3", {}, "Install it"), copied(install, "the command that installs it")];
  }
  function climbList(climb) {
    const list = el("ol", { class: "climb" });
    const steps = decoded(climb[C.steps]), order = steps.map((_, at) => at);
    // The step of a vLLM that did not build is the last; it comes before the packages resolve.
    if (steps.length > BUILDS) order.splice(1, 0, order.pop());
    order.forEach((at) => {
      const step = steps[at];
      const [how, reason, byRecord] = D.steps[step];
      const wording = D.states[how] + (byRecord ? ", a record says so" : "") + (reason ? ": " + text(reason) : "");
      list.append(el("li", {}, el("span", { class: "chip " + STATE_STYLES[how] + (byRecord ? " r" : ""), "aria-hidden": "true" }, STATE_SIGNS[how]), el("span", {}, LETTERS[at] + " " + D.rungs[at]), el("span", {}, ...linked(wording))));
    });
    return list;
  }
  function squareDetail(row, column, python) {
    const found = square(row, column);
    python = python === undefined || python < 0 ? pythonOf(found) : python;
    const climb = climbOf(found, python), torch = D.torch[column], vllm = D.vllm[row];
    const parts = [], at = placed.get(placeKey(D.platforms.indexOf(state.platform), row, column, python));
    parts.push(el("p", {}, chip(climb[C.verdict], mark(climb), climb[C.bits] & 2), " ", el("b", {}, ...linked(words(climb)))));
    const entry = at === undefined ? null : D.entries[at];
    const why = (entry && text(entry[E.reason])) || reasonOf(climb);
    if (why) parts.push(el("p", { class: climb[C.verdict] === INCOMPATIBLE ? "failure" : "" }, ...linked(why)));
    for (const note of notesOf(row, column)) parts.push(el("p", { class: "note" }, el("b", {}, "To know: "), ...linked(note)));
    const list = el("div", { class: "pythons", role: "group", "aria-label": "Python" });
    D.pythons.forEach((name, place) => {
      const of = climbOf(found, place);
      list.append(el("button", { class: "chip " + style(of).replace(" p", ""), type: "button", "aria-pressed": String(place === python), "aria-label": "Python " + name + ": " + words(of), on: () => { open(row, column, place); panel.querySelectorAll(".pythons button")[place].focus(); } }, name + " " + mark(of)));
    });
    parts.push(list);
    parts.push(el("p", {}, climb[C.bits] & 1 ? "Off-pin: vLLM " + vllm[0] + " pins torch " + vllm[1] + "; an override installs " + torch[0] + "." : "On-pin: vLLM " + vllm[0] + " pins this torch."));
    for (const [what, release, reason] of [["torch", torch[0], torch[1]], ["vLLM", vllm[0], vllm[2]]]) if (reason) parts.push(el("p", {}, what + " " + release + " was withdrawn from the index: " + text(reason)));
    parts.push(...installed(row, column, python, climb[C.bits] & 1));
    const named = D.named[row * columns + column] === "1";
    parts.push(el("h3", {}, entry ? "Repeat it" : "Run it"));
    if (entry || named) parts.push(command(entry ? nameOf(entry) : cellName(row, column, python), state.platform));
    else parts.push(el("p", {}, "No environment stands for these patch releases: " + cellName(row, column, python) + " installs others of the same minor releases."));
    parts.push(el("h3", {}, "How far it gets"), climbList(climb));
    if (climb[C.contradictions].length) parts.push(el("h3", {}, "Contradictions"), el("p", {}, "A run showed something else than the first rungs say; the run decides."), el("ul", {}, ...climb[C.contradictions].map((contradiction) => el("li", {}, ...linked(text(contradiction))))));
    if (climb[C.bits] & 128) parts.push(el("h3", {}, "Predicted, not measured"), el("p", {}, text(climb[C.prediction])));
    const others = Object.keys(D.grid).filter((platform) => platform !== state.platform).map((platform) => {
      // The same Python, which the verdicts are held against, and those that ran there.
      const on = square(row, column, platform), there = D.pythons.map((_, place) => climbOf(on, place));
      return there.map((its, place) => (place === python || its[C.bits] & 2 ? place : -1)).filter((place) => place >= 0).sort((one, other) => (other === python) - (one === python)).map((place) =>
        el("p", {}, "On " + platform + ", Python " + D.pythons[place] + ": ", chip(there[place][C.verdict], mark(there[place]), there[place][C.bits] & 2), " ", ...linked(words(there[place]))));
    });
    parts.push(...others.flat(), ...(entry ? recordParts(at) : [el("p", {}, "No record: this cell never ran on " + state.platform + ".")]));
    return ["torch " + torch[0] + " × vLLM " + vllm[0], state.platform + ", Python " + D.pythons[python], parts];
  }
  function entryDetail(at) {
    const entry = D.entries[at], verdict = D.verdicts[entry[E.verdict]];
    const parts = [el("p", {}, chip(entry[E.verdict], ranSign(entry[E.verdict]), true), " ", el("b", {}, verdict + (entry[E.rung] ? ", " + rung(entry[E.rung]) : "")))];
    if (entry[E.reason]) parts.push(el("p", {}, ...linked(text(entry[E.reason]))));
    parts.push(el("h3", {}, "Repeat it"), command(nameOf(entry), D.platforms[entry[E.platform]]), ...recordParts(at));
    return [nameOf(entry), D.platforms[entry[E.platform]], parts];
  }
  function fill([title, below, parts]) {
    const heading = el("h2", { id: "detail-title", tabindex: "-1" }, title);
    panel.replaceChildren(el("div", { class: "top" }, el("div", {}, heading, el("span", {}, below)), el("button", { class: "close", type: "button", on: close }, "Close (Esc)")), ...parts.filter(Boolean));
    const was = panel.hidden;
    panel.hidden = false;
    panel.scrollTop = 0;
    document.body.classList.add("open");
    return was;
  }
  return { squareDetail, entryDetail, fill, startsOf, traceText };
}
