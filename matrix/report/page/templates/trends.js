// A case across releases: seconds or a counter of its cold and warm starts, drawn and as a table.
function trends(page) {
  const { D, entries, state, save, open } = page;
  const box = document.getElementById("trends");
  if (!box) return null;
  const wanted = box.querySelector("form"), into = box.querySelector("div");
  const SECONDS = "seconds";
  // Every run with a place in the grid, oldest vLLM first, and what its cases took and counted.
  const runs = entries().filter((run) => run.row >= 0).sort((one, other) => other.row - one.row || other.column - one.column || one.python - other.python);
  const names = [...new Set(runs.flatMap((run) => [...run.cases.keys()]))].sort();
  const measures = (name) => [...new Set(runs.flatMap((run) => (run.cases.get(name) || []).flatMap((start) => [...start.counters.keys()])))].sort();
  // Some runs ask once for all of their cases what others ask in each cold start: that part is left out.
  const whole = (seconds) => (seconds.has("total") ? seconds.get("total") - (seconds.get("inspect") || 0) : undefined);
  const value = (start, of) => (of === SECONDS ? whole(start.seconds) : start.counters.get(of));
  const shown = (number) => (number === undefined ? "-" : Number.isInteger(number) ? String(number) : number.toFixed(1));

  function nice(high) {
    const power = 10 ** Math.floor(Math.log10(high / 4 || 1)), step = [1, 2, 5, 10].find((one) => one * power * 4 >= high) * power;
    return Math.max(step, power >= 1 ? step : 1);
  }
  function plot(platform, of, points) {
    const width = Math.max(280, Math.min(760, into.clientWidth || 760)), height = 230, left = 46, bottom = 40, top = 10;
    const releases = [...new Set(points.map((point) => point.vllm))];
    const numbers = points.flatMap((point) => point.values.filter((number) => number !== undefined));
    const step = nice(Math.max(1, ...numbers)), high = Math.ceil(Math.max(1, ...numbers) / step) * step;
    const x = (release) => left + ((width - left - 16) * (releases.indexOf(release) + 0.5)) / releases.length;
    const y = (number) => top + (height - top - bottom) * (1 - number / high);
    const wording = of + " of " + state.plot.split("|")[0] + " on " + platform + " from vLLM " + releases[0] + " to " + releases[releases.length - 1] + ", from " + shown(Math.min(...numbers)) + " to " + shown(Math.max(...numbers)) + "; the numbers stand below";
    const drawn = svg("svg", { class: "plot", width, height, viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": wording });
    const write = (words, attributes) => { const made = svg("text", attributes); made.textContent = words; drawn.append(made); };
    for (let at = 0; at <= high; at += step) {
      drawn.append(svg("line", { x1: left, x2: width - 8, y1: y(at), y2: y(at), class: "rule" }));
      write(String(at), { x: left - 6, y: y(at) + 4, "text-anchor": "end" });
    }
    const every = Math.ceil(releases.length / Math.max(1, Math.floor((width - left) / 48)));
    releases.forEach((release, at) => { if (at % every === 0) write(release, { x: x(release), y: height - bottom + 18, "text-anchor": "middle" }); });
    write("vLLM", { x: width - 8, y: height - 4, "text-anchor": "end" });
    D.starts.forEach((start, which) => {
      const known = points.filter((point) => point.values[which] !== undefined), line = known.filter((point) => !point.off && !known.some((other) => !other.off && other.vllm === point.vllm && (other.day > point.day || (other.day === point.day && other.at > point.at))));
      if (line.length > 1) drawn.append(svg("polyline", { class: "line " + start, points: line.map((point) => x(point.vllm).toFixed(1) + "," + y(point.values[which]).toFixed(1)).join(" ") }));
      for (const point of known) {
        const place = { x: x(point.vllm), y: y(point.values[which]) }, kind = "dot " + start + (point.off ? " off" : "");
        const dot = which ? svg("rect", { x: place.x - 3.5, y: place.y - 3.5, width: 7, height: 7, class: kind }) : svg("circle", { cx: place.x, cy: place.y, r: 4, class: kind });
        const title = svg("title", {});
        title.textContent = "vLLM " + point.vllm + ", torch " + point.torch + ", Python " + point.python + ", " + point.day + ": " + start + " " + shown(point.values[which]);
        dot.append(title);
        drawn.append(dot);
      }
    });
    return drawn;
  }
  function draw() {
    const [name, of] = state.plot.split("|"), parts = [];
    for (const platform of Object.keys(D.grid)) {
      const points = runs.filter((run) => run.platform === platform && run.cases.has(name)).map((run) => ({ ...run, values: run.cases.get(name).map((start) => value(start, of)) })).filter((point) => point.values.some((number) => number !== undefined));
      if (!points.length) continue;
      const body = points.map((point) => [el("button", { class: "plain", type: "button", on: () => open(point.at) }, point.vllm), point.torch + (point.off ? ", off-pin" : ""), point.python, ...point.values.map(shown), point.gpu || point.platform, point.day]);
      parts.push(el("h3", {}, platform), plot(platform, of, points), el("details", {}, el("summary", {}, "The numbers of " + platform), table(of + " of " + name + " on " + platform, ["vLLM", "torch", "Python", ...D.starts, "on", "day"], body, 9)));
    }
    into.replaceChildren(...(parts.length ? parts : [el("p", {}, "No run has that.")]));
  }
  const option = (wording, chosen) => { const made = el("option", { value: wording }, wording); made.selected = wording === chosen; return made; };
  function fill() {
    if (!names.length) { into.replaceChildren(el("p", {}, "No run of a pair in the grid has a case.")); return; }
    let [name, of] = state.plot.split("|");
    if (!names.includes(name)) name = names[0];
    const counters = measures(name);
    if (!counters.includes(of)) of = SECONDS;
    state.plot = name + "|" + of;
    wanted.elements.case.replaceChildren(...names.map((one) => option(one, name)));
    wanted.elements.of.replaceChildren(...[SECONDS, ...counters].map((one) => option(one, of)));
    draw();
  }
  wanted.addEventListener("submit", (event) => event.preventDefault());
  wanted.addEventListener("input", () => { state.plot = wanted.elements.case.value + "|" + wanted.elements.of.value; fill(); save(); });
  return fill;
}
