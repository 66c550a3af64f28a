// Versions that a person writes, in a filter or in the search.
// Versions: "2.10, 2.12" are prefixes of which one must fit; ">=2.10, <2.13" must all hold, and
// "~=2.10.1" is ">=2.10.1" and the prefix 2.10. What is none of these is named.
const numbers = (version) => version.split(/[^0-9]+/).filter(Boolean).map(Number);
function compare(one, other, length) {
  for (let i = 0; i < length; i++) if ((one[i] || 0) !== (other[i] || 0)) return (one[i] || 0) - (other[i] || 0);
  return 0;
}
function accepts(wanted) {
  const prefixes = [], bounds = [], unknown = [];
  for (const token of wanted.replace(/([<>=!~]=?)\s+/g, "$1").split(/[,\s]+/).filter(Boolean)) {
    const [, sign, release, star] = /^(>=|<=|==|!=|~=|>|<)?v?(\d+(?:\.\d+)*)(\.\*)?$/.exec(token) || [];
    const one = release && numbers(release);
    if (!one || (star && sign && sign !== "==" && sign !== "!=") || (sign === "~=" && one.length < 2)) unknown.push(token);
    else if (!sign || sign === "==") prefixes.push(one);
    else if (sign === "~=") bounds.push([">=", one], ["in", one.slice(0, -1)]);
    else bounds.push([sign, one]);
  }
  const fits = (version) => {
    const its = numbers(version);
    const in_ = (one) => one.length <= its.length && compare(its, one, one.length) === 0;
    if (prefixes.length && !prefixes.some(in_)) return false;
    return bounds.every(([sign, one]) => {
      const order = compare(its, one, Math.max(its.length, one.length));
      return sign === ">=" ? order >= 0 : sign === "<=" ? order <= 0 : sign === ">" ? order > 0 : sign === "<" ? order < 0 : in_(one) === (sign === "in");
    });
  };
  return { fits, unknown };
}

// What is searched: versions of either axis, and words. "0.19", "vllm==0.19.1" and "2.10.0+cu128" are
// versions; a build, as +cu128, is that of a run. What the page has no row of is looked for by its minor.
const VERSION = /^(?:(torch|vllm)(?:==|@|-|=)?)?v?(\d+(?:\.\d+)+)(?:\.\*)?(\+[\w.]+)?$/;
// An error names a symbol as the linker does, and a file with its folder and a colon: the page has the function's name
// and the file's. The words that every such error has say nothing where one of these is there.
const ERROR_WORDS = ["importerror", "oserror", "undefined", "symbol", "cannot", "open", "shared", "object", "file", "no", "such", "or", "directory"];
function plainName(token) {
  token = token.replace(/^["'`(]+|["'`:;]+$/g, "");
  let rest = /^_znk?([1-9].*)/.exec(token)?.[1];
  if (!rest) return token.includes(".so") ? token.replace(/.*\//, "") : token;
  const parts = [];
  for (let size; (size = parseInt(rest, 10)) && rest.length > String(size).length + size - 1; ) {
    rest = rest.slice(String(size).length);
    parts.push(rest.slice(0, size));
    rest = rest.slice(size);
  }
  return parts.length ? parts.join("::") : token;
}
function withoutErrorWords(words) {
  return words.some((word) => word.includes("::") || /^lib\S*\.so/.test(word)) ? words.filter((word) => !ERROR_WORDS.includes(word)) : words;
}
function understood(q, D) {
  const conditions = [], words = [], notes = [];
  for (const token of q.toLowerCase().split(/[\s,]+/).filter((one) => one && !["x", "×", "with", "and"].includes(one))) {
    const [, named, release, build] = VERSION.exec(token) || [];
    const found = {};
    for (const [axis, of] of release ? [["torch", D.torch], ["vllm", D.vllm]] : []) {
      if (named && named !== axis) continue;
      const fits = (wanted) => of.flatMap((one, at) => (accepts(wanted).fits(one[0]) ? [at] : []));
      found[axis] = fits(release);
      if (found[axis].length || !D.apart[axis].some(accepts(release).fits)) continue;
      found[axis] = fits(numbers(release).slice(0, 2).join("."));
      if (found[axis].length) notes.push((axis === "torch" ? "torch " : "vLLM ") + release + " has no place of its own here; shown is " + found[axis].map((at) => of[at][0]).join(", ") + ".");
    }
    const torch = found.torch || [], vllm = found.vllm || [];
    if (torch.length + vllm.length === 0) words.push(plainName(token));
    else conditions.push({ torch: new Set(torch), vllm: new Set(vllm), build: build && release + build });
  }
  return { conditions, words: withoutErrorWords(words.filter(Boolean)), notes };
}
const within = (conditions, row, column) => conditions.every(({ torch, vllm }) => torch.has(column) || vllm.has(row));
