// What a search looks in: the words of each square, its run and its notes.
function searching(page) {
  const { D, E, W, C, state, rows, columns, text, unpacked, decoded, square, pythonOf, climbOf, placed, placeKey, casesOf, words, traceText, nameOf, fileOf, notesOf } = page;
  // What a person may search, made once: what many runs share, such as a case's message, is put together once too.
  const factsText = memo((at) => lower(unpacked("facts", at).map((pair) => text(D.pairs[pair][1]))));
  const whatText = memo((what) => lower([text(what[W.name]), text(what[W.reason]), text(what[W.signature]), what[W.trace] ? traceText(unpacked("traces", what[W.trace]).slice(1)) : ""]));
  const climbText = memo((climb) => lower([words(climb), ...decoded(climb[C.steps]).map((step) => text(D.steps[step][1])), ...climb[C.contradictions].map(text)]));
  function entryText(at) {
    const entry = D.entries[at], parts = [lower([nameOf(entry), text(entry[E.reason]), text(entry[E.stock]), fileOf(entry)])];
    if (entry[E.facts]) parts.push(factsText(entry[E.facts]));
    for (const what of new Set(casesOf(entry).map((one) => one.what))) parts.push(whatText(what));
    return parts.join("\n");
  }
  const searched = new Map();
  function haystack(platform, row, column, python) {
    const key = placeKey(D.platforms.indexOf(platform), row, column, python);
    let found = searched.get(key);
    if (found === undefined) {
      const at = placed.get(key);
      found = lower(["torch " + D.torch[column][0], "vllm " + D.vllm[row][0], "python " + D.pythons[python], ...notesOf(row, column, platform)]) + "\n" + climbText(climbOf(square(row, column, platform), python)) + (at === undefined ? "" : "\n" + entryText(at));
      searched.set(key, found);
    }
    return found;
  }
  // Nobody waits for that at the first letter: it is made while nothing else happens.
  function prepare(at = 0) {
    const until = performance.now() + 8;
    for (; at < rows * columns && performance.now() < until; at++) {
      const row = Math.floor(at / columns), column = at % columns, found = square(row, column);
      if (found) haystack(state.platform, row, column, pythonOf(found));
    }
    if (at < rows * columns) setTimeout(prepare, 0, at);
  }

  // A verdict is looked for as a word: "compatible" is not in "incompatible".
  const has = (wording, word) => (D.verdicts.includes(word) ? new RegExp("\\b" + word).test(wording) : wording.includes(word));
  return { haystack, has, prepare };
}
