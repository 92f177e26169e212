// Draw the map of embeddings or patch features; hover, click and arrow keys choose a point.
const plane = byId("plane"), tip = byId("tip");
const withRows = byId("with-rows");
let chosen = -1, marks = [], places = [];

const span = (points, i) => Math.max(...points.map((point) => point[i])) - Math.min(...points.map((point) => point[i]));

function drawPlane() {
  const rows = withRows.checked ? data.map.rows : [];
  const every = [...data.map.items, ...rows];
  const ends = (i) => {
    const values = every.map((point) => point[i]), low = Math.min(...values), high = Math.max(...values), margin = (high - low) * 0.04 || 1;
    return [low - margin, high + margin];
  };
  const [first, second] = data.map.explained.map(percent);
  const plot = axes(plane, { height: Math.min(560, Math.max(320, plane.clientWidth * 0.6)), x: ends(0), y: ends(1),
    xName: `first axis (${first} of the variance)`, yName: `second axis (${second})` });
  for (const [x, y] of rows) drawn(plot.svg, "circle", { class: "row", r: 2, cx: plot.x(x).toFixed(1), cy: plot.y(y).toFixed(1) });
  places = data.map.items.map(([x, y]) => [plot.x(x), plot.y(y)]);
  marks = places.map(([x, y], i) => {
    const big = items[i].groups.length ? 1.35 : 1, r = 4 * big;
    const shape = items[i].label
      ? drawn(plot.svg, "path", { d: `M${x} ${y - r}L${x + r} ${y + r * 0.8}H${x - r}Z` })
      : drawn(plot.svg, "circle", { cx: x, cy: y, r: 3.4 * big });
    shape.setAttribute("class", `point ${className(items[i].label)}`);
    shape.dataset.item = i;
    return shape;
  });
  Object.entries({ tabindex: 0, role: "group", "aria-label": "Map of images: arrows move between images, Enter opens one" })
    .forEach(([name, value]) => plot.svg.setAttribute(name, value));
  choose(-1);
}

// Show the tip at a point; hide it for -1.
function choose(i) {
  marks[chosen]?.classList.remove("chosen");
  chosen = i;
  tip.hidden = i < 0;
  if (i < 0) return;
  const item = items[i], [x, y] = places[i];
  marks[i].classList.add("chosen");
  marks[i].parentNode.append(marks[i]); // on top
  const percentile = item.percentile === null ? "" : `, percentile ${item.percentile} of validation normals`;
  const said = `${className(item.label)}, score ${shownScore(item.score)}${percentile}`;
  tip.replaceChildren(element("img", { src: item.thumb, alt: "" }), element("div", {}, element("b", { textContent: said }), element("br"), element("span", { textContent: item.name })));
  const scale = plane.clientWidth / Math.max(plane.clientWidth, 200);
  tip.style.left = `${Math.max(0, Math.min(x * scale + 12, plane.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${y * scale + (y > 180 ? -tip.offsetHeight - 12 : 14)}px`;
}

const byScore = () => items.map((_, i) => i).sort((a, b) => items[b].score - items[a].score);
const itemAt = (event) => (event.target.dataset.item === undefined ? -1 : Number(event.target.dataset.item));

// Find the nearest point in a direction; distance across it counts twice.
function neighbour([dx, dy]) {
  if (chosen < 0) return 0;
  let best = chosen, least = Infinity;
  places.forEach(([x, y], i) => {
    const ahead = (x - places[chosen][0]) * dx + (y - places[chosen][1]) * dy;
    const aside = Math.abs((x - places[chosen][0]) * dy) + Math.abs((y - places[chosen][1]) * dx);
    if (ahead > 0.5 && ahead + 2 * aside < least) { least = ahead + 2 * aside; best = i; }
  });
  return best;
}

const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
if (data.map) { // null where no loss has trained the embeddings
  // Hide the rows at first if they lie so far away that the test images would shrink to a blot.
  const everyPoint = [...data.map.items, ...data.map.rows];
  withRows.checked = [0, 1].every((i) => span(data.map.items, i) > 0.3 * span(everyPoint, i));
  withRows.parentNode.hidden = data.map.rows.length === 0;
  plane.addEventListener("pointerover", (event) => { if (itemAt(event) >= 0) choose(itemAt(event)); });
  plane.addEventListener("pointerleave", () => choose(-1));
  plane.addEventListener("click", (event) => { if (itemAt(event) >= 0) openDialog(itemAt(event), byScore()); });
  plane.addEventListener("keydown", (event) => {
    if (arrows[event.key]) {
      choose(neighbour(arrows[event.key]));
      byId("plane-said").textContent = tip.textContent;
    } else if (event.key === "Enter" && chosen >= 0) {
      openDialog(chosen, byScore());
    } else {
      return;
    }
    event.preventDefault();
  });
  withRows.addEventListener("change", drawPlane);
  keepDrawn(plane, drawPlane);
}
