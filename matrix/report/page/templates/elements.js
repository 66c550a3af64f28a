// Elements of the page, and what several parts of it show alike.
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "class") made.className = value;
    else if (key === "on") made.addEventListener("click", value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}
const svg = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
// A verdict's sign in its colour; `ran`: it was measured.
const chip = (verdict, wording, ran) => el("span", { class: "chip s" + verdict + (ran ? " r" : "") }, wording);
// Links to issues on GitHub, and to nothing else, can be followed; all else is text.
const LINK = /(https:\/\/github\.com\/[\w.-]+\/[\w.-]+\/(?:issues|pull)\/\d+|(?<![\w/#])(?:vllm|pytorch|flashinfer|triton)#\d+\b)/;
const address = (wording) => {
  const [name, number] = wording.split("#");
  return number ? "https:/" + "/github.com/" + { vllm: "vllm-project/vllm", pytorch: "pytorch/pytorch", flashinfer: "flashinfer-ai/flashinfer", triton: "triton-lang/triton" }[name] + "/issues/" + number : wording;
};
const linked = (words) => words.split(LINK).map((part, at) => (at % 2 ? el("a", { href: address(part), rel: "noreferrer" }, part) : part));
const memo = (make) => { const known = new Map(); return (key) => { if (!known.has(key)) known.set(key, make(key)); return known.get(key); }; };
const lower = (parts) => parts.join("\n").toLowerCase();
async function copy(button, wording) {
  try { await navigator.clipboard.writeText(wording); }
  catch {
    const range = document.createRange();
    range.selectNodeContents(button.parentNode.querySelector("code, pre"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}
function age(date) {
  const days = Math.floor((Date.now() - Date.parse(date)) / 86400000);
  return !(days >= 0) ? "" : days === 0 ? "today" : days === 1 ? "1 day ago" : days < 60 ? days + " days ago" : days < 730 ? Math.floor(days / 30.4) + " months ago" : Math.floor(days / 365) + " years ago";
}

// A name may go on in a new line after its dots and underscores.
const wrappable = (name) => name.split(/(?<=[._])/).flatMap((part) => [part, el("wbr")]);
function table(caption, head, body, right) {
  const line = (name, scope, cells) => el("tr", {}, ...cells.map((cell, at) => {
    const kind = at === 0 || name === "th" ? "th" : "td";
    const made = el(kind, kind === "th" ? { scope: name === "th" ? "col" : scope } : {}, ...(at === 0 && typeof cell === "string" ? wrappable(cell) : [cell && cell.nodeType ? cell : String(cell === undefined ? "" : cell.wording !== undefined ? cell.wording : cell)]));
    if (at >= right) made.classList.add("n");
    if (cell && cell.differs) made.classList.add("diff");
    return made;
  }));
  return el("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": caption }, el("table", { class: "rows", "aria-label": caption }, el("thead", {}, line("th", "col", head)), el("tbody", {}, ...body.map((cells) => line("td", "row", cells)))));
}
