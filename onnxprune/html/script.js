"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const WIDE = 208, HIGH = 44, STEP_X = 228, STEP_Y = 70, EDGE = 12, LETTERS = 28, SHOWN = 200;

  // Text goes in as text: nothing on this page is ever parsed as markup.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function drawn(tag, attributes = {}, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const shortened = (text, most) => (text.length <= most ? text : "\u2026" + text.slice(text.length - most + 1));
  const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

  // Tables ------------------------------------------------------------------------------------

  function value(row, column) {
    const cell = row.cells[column];
    if (cell.classList.contains("number")) return cell.dataset.key === undefined ? null : Number(cell.dataset.key);
    return cell.textContent;
  }

  function compare(one, other) {
    if (one === null || other === null) return (one === null) - (other === null);
    return typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
  }

  function sortBy(head) {
    const table = head.closest("table"), column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
    const known = rows.filter(([key]) => key !== null), unknown = rows.filter(([key]) => key === null);
    known.sort(([one], [other]) => (down ? compare(other, one) : compare(one, other)));
    table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
  }

  for (const head of document.querySelectorAll("thead th")) {
    head.firstElementChild.addEventListener("click", () => sortBy(head));
  }

  // A share is a bar, too.
  for (const cell of document.querySelectorAll("td.number")) {
    const share = /^(\d+(?:\.\d+)?)%$/.exec(cell.textContent);
    if (share) cell.style.background = `linear-gradient(90deg, var(--bar) ${share[1]}%, transparent ${share[1]}%)`;
  }

  if (!data.levels) return;

  // Groups ------------------------------------------------------------------------------------

  const byName = new Map(data.groups.map((group, number) => [group.name, number]));
  let chosen = -1, level = 0, at = 0, colour = "group"; // the tab key reaches box `at` of the picture

  // Neighbouring numbers get distant hues: multiples of the golden angle.
  const hue = (number) => `hsl(${(number * 137.508) % 360} 65% 76%)`;
  const heat = (cosine) => `hsl(${Math.max(0, Math.min(1, (cosine - 0.8) / 0.2)) * 120} 65% 72%)`;

  const picture = document.getElementById("picture");
  const details = document.getElementById("details");
  const levels = document.getElementById("levels");

  function choose(number) {
    chosen = number;
    tell(number);
    paint();
    const box = picture.querySelector(".chosen");
    if (box) picture.scrollTop += box.getBoundingClientRect().top - picture.getBoundingClientRect().top - HIGH;
    details.scrollTop = 0;
    details.scrollIntoView({ block: "nearest" });
  }

  for (const cell of document.querySelectorAll("table.pick tbody th")) {
    const number = byName.get(cell.textContent);
    if (number === undefined) continue;
    const button = make("button", { type: "button" }, cell.textContent);
    button.addEventListener("click", () => choose(number));
    cell.replaceChildren(button);
  }

  function list(title, items, ordered = false) {
    const shown = items.slice(0, SHOWN).map((item) => make("li", {}, item));
    if (items.length > SHOWN) shown.push(make("li", {}, `and ${items.length - SHOWN} more`));
    return [make("h4", {}, title), make(ordered ? "ol" : "ul", {}, ...shown)];
  }

  function bars(group) {
    const kept = new Set(group.keep);
    const all = group.keep.length === 0;
    const sorted = group.scores.map((score, k) => [score ?? 0, all || kept.has(k)]);
    sorted.sort(([one], [other]) => other - one);
    const low = Math.min(0, ...sorted.map(([score]) => score));
    const high = Math.max(...sorted.map(([score]) => score)) - low || 1;
    const step = 300 / sorted.length;
    const label = `Scores of ${counted(sorted.length, "channel")}, highest first; ${group.kept} stay`;
    const chart = drawn("svg", { viewBox: "0 0 300 80", width: "100%", role: "img", "aria-label": label });
    sorted.forEach(([score, stays], k) => {
      const tall = ((score - low) / high) * 76 + 1;
      const fill = stays ? "#1f77b4" : "#b8b8b8";
      chart.append(drawn("rect", { x: k * step, y: 80 - tall, width: step, height: tall, fill }));
    });
    if (group.cut.length && group.cut.every((score) => score !== null)) {
      const y = 80 - (((group.cut[0] + group.cut[1]) / 2 - low) / high) * 76 - 1;
      chart.append(drawn("line", { x1: 0, x2: 300, y1: y, y2: y, stroke: "currentColor", "stroke-dasharray": "4 3" }));
    }
    return chart;
  }

  const STATUS = { free: "can go", pruned: "pruned", kept: "kept whole", blocked: "blocked" };

  function story(number) {
    const group = data.groups[number];
    const counts = group.kept === null ? counted(group.channels, "channel") : `${group.kept} of ${counted(group.channels, "channel")} stay`;
    const parts = [make("h3", {}, group.name), make("p", {}, `${STATUS[group.status]}: ${counts}`)];
    if (group.reason) parts.push(make("p", {}, group.reason));
    if (group.way.length) parts.push(...list("Way to what blocks it", group.way, true));
    if (group.scores.length) {
      parts.push(make("h4", {}, "Scores"), bars(group));
      if (group.cut.length) parts.push(make("p", {}, `Cut: the highest score that goes is ${group.cut[0]}, the lowest that stays ${group.cut[1]}.`));
    }
    parts.push(...list("Layers", group.layers));
    parts.push(...list("Members", group.members.map(([tensor, axis]) => `${tensor}, axis ${axis}`)));
    return parts;
  }

  function tell(number) {
    details.replaceChildren(...story(number));
  }

  function tellNode(index) {
    const [kind, name, groups, cosine] = data.nodes[index];
    const parts = [make("h3", {}, `${kind} ${name}`)];
    if (cosine !== null) parts.push(make("p", {}, `cosine to the original: ${cosine}`));
    if (!groups.length) parts.push(make("p", {}, "It carries no group of channels."));
    for (const group of groups) parts.push(...story(group));
    details.replaceChildren(...parts);
  }

  // Picture -----------------------------------------------------------------------------------

  function summary(start, count) {
    const groups = new Set();
    let cosine = null;
    for (const [, , carried, found] of data.nodes.slice(start, start + count)) {
      carried.forEach((number) => groups.add(number));
      if (found !== null) cosine = cosine === null ? found : Math.min(cosine, found);
    }
    return [[...groups], cosine];
  }

  // What the names of some nodes begin with, or else their operators.
  function shared(start, count) {
    const nodes = data.nodes.slice(start, start + count);
    const [first, ...others] = nodes.map(([, name]) => name);
    let length = first.length;
    for (const name of others) while (!name.startsWith(first.slice(0, length))) length--;
    const prefix = first.slice(0, length).replace(/[^/._]*$/, "");
    return prefix.length > 1 ? prefix : [...new Set(nodes.map(([kind]) => kind))].join(", ");
  }

  const sizeOf = (group) => (group.kept === null || group.kept === group.channels ? `${group.channels}` : `${group.channels} \u2192 ${group.kept}`);

  function fill(groups, cosine) {
    if (colour === "similarity") return cosine === null ? "#d8d8dc" : heat(cosine);
    return groups.length ? hue(groups[0]) : "#d8d8dc";
  }

  function boxOf(box, number, current) {
    const [column, row, offset, count, copy, copies] = box;
    const start = current.start + offset, inside = current.inside[number];
    const [groups, cosine] = summary(start, count);
    const folded = inside >= 0;
    const title = folded ? data.levels[inside].title : `${data.nodes[start][0]} ${data.nodes[start][1]}`;
    const carried = groups.map((group) => data.groups[group].name);
    const size = folded || !groups.length ? "" : sizeOf(data.groups[groups[0]]);
    const shown = colour === "group" || cosine === null ? size : cosine.toFixed(3);
    const about = `${title}; ${size ? size + " channels; " : ""}${carried.length ? "carries " + carried.slice(0, 5).join(", ") + (carried.length > 5 ? ` and ${carried.length - 5} more` : "") : "carries no group"}` +
      (cosine === null ? "" : `; ${folded ? "lowest " : ""}cosine ${cosine}`) + (folded ? "; opens" : "");
    const classes = [folded ? "folded" : "node"];
    if (groups.length && groups.every((group) => data.groups[group].status === "blocked")) classes.push("blocked");
    if (groups.includes(chosen)) classes.push("chosen");
    const x = column * STEP_X + EDGE, y = row * STEP_Y + EDGE;
    const group = drawn("g", { role: "button", tabindex: number === at ? "0" : "-1", "aria-label": about, class: classes.join(" "), transform: `translate(${x} ${y})` });
    group.append(drawn("title", {}, about), drawn("rect", { width: WIDE, height: HIGH }));
    group.lastChild.style.fill = fill(folded ? groups.slice(0, 1) : groups, cosine);
    if (folded && colour === "group") {
      groups.slice(0, 16).forEach((number, k, all) => {
        const stripe = drawn("rect", { x: 4 + (k * (WIDE - 8)) / all.length, y: HIGH - 8, width: (WIDE - 8) / all.length, height: 5 });
        stripe.style.fill = hue(number);
        stripe.style.stroke = "none";
        group.append(stripe);
      });
    }
    group.append(drawn("text", { x: WIDE - 6, y: 15, "text-anchor": "end", class: "size", "aria-hidden": "true" }, shown));
    const lines = folded ? [title, shared(start, count)] : data.nodes[start].slice(0, 2);
    lines.forEach((line, k) => {
      group.append(drawn("text", { x: 6, y: 15 + 16 * k, "aria-hidden": "true", ...(k ? {} : { "font-weight": "600" }) }, shortened(line, LETTERS)));
    });
    const act = () => (folded ? open(inside) : (chosen = groups.length ? groups[0] : -1, tellNode(start), paint()));
    group.addEventListener("click", () => (move(number), act()));
    group.addEventListener("keydown", (event) => {
      const last = current.inside.length - 1;
      const keys = {
        Enter: act, " ": act, Home: () => move(0), End: () => move(last), Escape: () => current.above >= 0 && open(current.above),
        ArrowDown: () => move(Math.min(number + 1, last)), ArrowUp: () => move(Math.max(number - 1, 0)),
      };
      keys.ArrowRight = keys.ArrowDown;
      keys.ArrowLeft = keys.ArrowUp;
      if (event.ctrlKey || event.altKey || event.metaKey || !keys[event.key]) return;
      event.preventDefault();
      at = number;
      keys[event.key]();
    });
    return group;
  }

  function arrow(points) {
    const at = points.map(([column, row]) => [column * STEP_X + EDGE + WIDE / 2, row * STEP_Y + EDGE]);
    const last = at.length - 1;
    let path = `M${at[0][0]} ${at[0][1] + HIGH}`;
    for (let k = 1; k <= last; k++) {
      const [x, y] = at[k], from = at[k - 1];
      const start = from[1] + HIGH, middle = (start + y) / 2;
      path += ` C${from[0]} ${middle} ${x} ${middle} ${x} ${y}`;
      if (k < last) path += ` L${x} ${y + HIGH}`;
    }
    return drawn("path", { d: path, "marker-end": "url(#tip)" });
  }

  // One stop for the tab key, however many boxes there are: arrows move among them.
  function move(number) {
    const boxes = picture.querySelectorAll("g[role=button]");
    boxes[at]?.setAttribute("tabindex", "-1");
    at = number;
    boxes[at]?.setAttribute("tabindex", "0");
    boxes[at]?.focus();
  }

  function paint() {
    const current = data.levels[level], drawing = data.drawings[current.drawing];
    const focused = picture.querySelector("svg")?.contains(document.activeElement);
    const width = drawing.columns * STEP_X + EDGE, height = drawing.layers * STEP_Y;
    const root = drawn("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": current.title });
    const tip = drawn("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" });
    tip.append(drawn("path", { d: "M0 0 L8 4 L0 8" }));
    root.append(drawn("defs", {}, tip), ...drawing.arrows.map(arrow));
    root.append(...drawing.boxes.map((box, number) => boxOf(box, number, current)));
    picture.replaceChildren(root);
    if (focused) move(at);
    const path = [];
    for (let k = level; k >= 0; k = data.levels[k].above) path.unshift(k);
    levels.replaceChildren(...path.map((k) => {
      if (k === level) return make("li", { "aria-current": "true" }, data.levels[k].title);
      const button = make("button", { type: "button" }, data.levels[k].title);
      button.addEventListener("click", () => open(k));
      return make("li", {}, button);
    }));
  }

  function open(number) {
    let from = level;
    while (from > 0 && data.levels[from].above !== number) from = data.levels[from].above;
    at = Math.max(0, data.levels[number].inside.indexOf(from));
    level = number;
    document.activeElement?.blur?.();
    paint();
    picture.scrollTo(0, 0);
    move(at);
  }

  for (const choice of document.querySelectorAll("#colours input")) {
    choice.addEventListener("change", () => {
      colour = choice.value;
      paint();
    });
  }

  paint();
})();
