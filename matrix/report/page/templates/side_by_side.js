// Two runs side by side: what they are, and what their cases counted and took.
function sideBySide(page) {
  const { D, entries, state, save, open } = page;
  const box = document.getElementById("compare");
  if (!box) return null;
  const wanted = box.querySelector("form"), into = box.querySelector("div");
  const runs = entries(), key = (run) => run.platform + "/" + run.name;
  const shown = (number) => (number === undefined ? "-" : Number.isInteger(number) ? String(number) : number.toFixed(1));
  const FACTS = ["torch", "vLLM", "Python", "CUDA", "triton"];

  function rows(one, other) {
    const found = [];
    for (const name of [...new Set([...one.cases.keys(), ...other.cases.keys()])].sort()) {
      const sides = [one, other].map((run) => run.cases.get(name));
      if (sides.some((side) => !side)) { found.push([name, "case", ...sides.map((side) => (side ? "there" : "not there")), true]); continue; }
      D.starts.forEach((start, at) => {
        const [mine, its] = sides.map((side) => side[at]), counters = [...new Set([...mine.counters.keys(), ...its.counters.keys()])].sort();
        if (mine.ran !== its.ran) { found.push([name, start + " start", ...[mine, its].map((side) => (side.ran ? "ran" : "did not run")), true]); return; }
        if (mine.ran) found.push([name, start + " seconds", shown(mine.seconds.get("total")), shown(its.seconds.get("total")), false]);
        for (const counter of counters) found.push([name, start + " " + counter, shown(mine.counters.get(counter)), shown(its.counters.get(counter)), mine.counters.get(counter) !== its.counters.get(counter)]);
      });
    }
    return found;
  }
  function draw() {
    const [one, other] = state.runs.split(",").map((wish) => runs.find((run) => key(run) === wish));
    if (!one || !other) { into.replaceChildren(); return; }
    const all = rows(one, other), every = wanted.elements.every.checked, differing = all.filter((row) => row[4]).length;
    const kept = all.filter((row) => every || row[4] || row[1].endsWith(" seconds"));
    const marked = ([name, what, mine, its, differs]) => [name, what, mine, { wording: (differs ? "≠ " : "") + its, differs }];
    const facts = [["verdict", one.verdict, other.verdict], ["day", one.day, other.day], ...FACTS.map((fact) => [fact, one.fact(fact), other.fact(fact)]), ["GPU", one.gpu, other.gpu], ["driver", one.driver, other.driver], ["startup tests", one.tests, other.tests]].filter(([, mine, its]) => mine || its);
    const link = (run) => el("button", { class: "plain", type: "button", on: () => open(run.at) }, key(run));
    into.replaceChildren(
      table("What ran", ["of the run", link(one), link(other)], facts.map(([name, mine, its]) => [name, mine || "-", name === "day" ? its : { wording: (mine === its ? "" : "≠ ") + (its || "-"), differs: mine !== its }]), 9),
      el("p", { role: "status" }, differing + " of " + all.filter((row) => !row[1].endsWith(" seconds")).length + " counts differ" + (every ? "" : "; those and the seconds are shown") + "."),
      table("Counts and seconds of two runs", ["case", "what", key(one), key(other)], kept.map(marked), 2));
  }
  const option = (run, chosen) => { const made = el("option", { value: key(run) }, run.platform + ": " + run.name + ", " + run.day); made.selected = key(run) === chosen; return made; };
  function fill() {
    const [one, other] = state.runs.split(",");
    const known = (wish) => runs.some((run) => key(run) === wish);
    const left = known(one) ? one : runs.length ? key(runs[0]) : "", right = known(other) ? other : runs.length > 1 ? key(runs.find((run) => key(run) !== left && run.platform === left.split("/")[0]) || runs[1]) : left;
    wanted.elements.one.replaceChildren(...runs.map((run) => option(run, left)));
    wanted.elements.other.replaceChildren(...runs.map((run) => option(run, right)));
    state.runs = left + "," + right;
    draw();
  }
  wanted.addEventListener("submit", (event) => event.preventDefault());
  wanted.addEventListener("input", () => { state.runs = wanted.elements.one.value + "," + wanted.elements.other.value; draw(); save(); });
  return fill;
}
