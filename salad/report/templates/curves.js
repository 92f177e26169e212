// Draw ROC, precision-recall, and the history of the training.
function drawRate(host, { path, band = null, chance, xName, yName, here }) {
  const side = Math.min(Math.max(host.clientWidth, 200), 460);
  const plot = axes(host, { height: side, x: [0, 1], y: [0, 1], xName, yName, xTicks: 5 });
  if (band) {
    const there = band.map(([x, , high]) => [x, high]), back = band.map(([x, low]) => [x, low]).reverse();
    drawn(plot.svg, "path", { class: "band", d: `${pathOf([...there, ...back], plot)}Z` });
  }
  drawn(plot.svg, "path", { class: "chance", d: pathOf(chance, plot) });
  drawn(plot.svg, "path", { class: "curve", d: pathOf(path, plot) });
  const dot = drawn(plot.svg, "circle", { class: "here", r: 5 });
  host.place = () => {
    const point = here(confusionAt(threshold));
    dot.setAttribute("visibility", point ? "visible" : "hidden");
    if (point) { dot.setAttribute("cx", plot.x(point[0])); dot.setAttribute("cy", plot.y(point[1])); }
  };
  host.place();
}

if (data.curves) {
  const { roc, band, pr, prevalence } = data.curves;
  const plots = [
    [byId("roc"), { path: roc, band, chance: [[0, 0], [1, 1]], xName: "1 - specificity", yName: "sensitivity",
      here: ({ tn, fp, fn, tp }) => [fp / (fp + tn), tp / (tp + fn)] }],
    [byId("pr"), { path: pr, chance: [[0, prevalence], [1, prevalence]], xName: "recall (sensitivity)", yName: "precision",
      here: ({ fp, fn, tp }) => (tp + fp ? [tp / (tp + fn), tp / (tp + fp)] : null) }],
  ];
  for (const [host, options] of plots) {
    keepDrawn(host, () => drawRate(host, options));
    onThreshold.push(() => host.place());
  }
}

function drawSeries(host, title, values) {
  const { epochs, rounds, scored } = data.history;
  const rows = values.map((value, i) => [epochs[i], ...[value].flat()]).filter((row) => typeof row[1] === "number");
  const isAuc = rows[0].length > 2, every = rows.flatMap((row) => row.slice(1)).filter((value) => typeof value === "number");
  const low = isAuc ? Math.min(0.5, ...every) : Math.min(...every), high = isAuc ? Math.max(0.5, ...every) : Math.max(...every);
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.05 || 0.5, few = rows.length < 3 ? 0.5 : 0;
  const plot = axes(host, { height: 190, title, x: [epochs[0] - few, epochs.at(-1) + few], y: [low - margin, high + margin], xName: "epoch", yTicks: 4, xTicks: Math.min(5, epochs.length), xWhole: true });
  for (const first of Object.values(rounds)) {
    if (first > epochs[0]) drawn(plot.svg, "line", { class: "chance", x1: plot.x(first - 0.5), x2: plot.x(first - 0.5), y1: plot.top, y2: plot.height - plot.bottom });
  }
  if (isAuc) {
    drawn(plot.svg, "line", { class: "base", x1: plot.left, x2: plot.width - plot.right, y1: plot.y(0.5), y2: plot.y(0.5) });
    for (const [epoch, , from, to] of rows) {
      if (typeof from === "number" && typeof to === "number") drawn(plot.svg, "line", { class: "whisker", x1: plot.x(epoch), x2: plot.x(epoch), y1: plot.y(from), y2: plot.y(to) });
    }
  }
  drawn(plot.svg, "path", { class: "curve", d: pathOf(rows, plot) });
  if (rows.length < 60) for (const [epoch, value] of rows) drawn(plot.svg, "circle", { class: "spot", r: 2.6, cx: plot.x(epoch), cy: plot.y(value) });
  const at = rows.find((row) => row[0] === scored);
  if (at) drawn(plot.svg, "circle", { class: "here", "fill-opacity": 0, r: 6, cx: plot.x(at[0]), cy: plot.y(at[1]) });
}

if (data.history) {
  for (const [title, values] of Object.entries(data.history.series)) {
    const last = values.filter((value) => value !== null).at(-1);
    const host = element("div", { className: "plot", role: "img" });
    host.setAttribute("aria-label", `${title} by epoch; the last is ${short([last].flat()[0])}`);
    byId("history").append(host);
    keepDrawn(host, () => drawSeries(host, title, values));
  }
}
