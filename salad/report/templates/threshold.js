// Draw the histograms, and update the confusion matrix and the rates at the threshold.
const levels = data.threshold;
const slider = byId("slider"), field = byId("threshold-value"), histogram = byId("histogram");
const edges = levels.edges, lowest = edges[0], highest = edges.at(-1);
const onThreshold = []; // functions to call when the threshold has changed
let threshold = levels.start;

// Count the thresholds of the table that are at or below a value.
function rank(value) {
  let low = 0, high = levels.thresholds.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (levels.thresholds[middle] <= value) low = middle + 1; else high = middle;
  }
  return low;
}

// Images that score above the threshold are predicted abnormal.
function confusionAt(value) {
  const row = rank(value) - 1;
  const tn = row < 0 ? 0 : levels.normal[row], fn = row < 0 ? 0 : levels.abnormal[row];
  return { tn, fp: levels.num[0] - tn, fn, tp: levels.num[1] - fn };
}

function showRate(id, count, of) {
  const text = element("b", { textContent: of ? percent(count / of) : "undefined" });
  byId(id).replaceChildren(text);
  if (of) byId(id).append(` ${count} of ${of}; ${wilson(count, of).map(percent).join(" to ")}`);
}

function setThreshold(value) {
  if (!Number.isFinite(value)) return;
  // With very many images the table holds a sample of the scores; counts are exact only at these, so snap to one.
  threshold = levels.complete || value === levels.start ? value : levels.thresholds[Math.max(0, rank(value) - 1)];
  const { tn, fp, fn, tp } = confusionAt(threshold);
  for (const [id, count] of Object.entries({ tn, fp, fn, tp })) byId(id).textContent = count;
  showRate("sensitivity", tp, tp + fn);
  showRate("specificity", tn, tn + fp);
  showRate("precision", tp, tp + fp);
  const of = 2 * tp + fp + fn;
  byId("f1").replaceChildren(element("b", { textContent: of ? (2 * tp / of).toFixed(4) : "undefined" }));
  if (Number(slider.value) !== value) slider.value = value;
  slider.setAttribute("aria-valuetext", shownScore(threshold));
  if (document.activeElement !== field) field.value = Number(threshold.toPrecision(8));
  document.body.dataset.threshold = threshold; // in full
  for (const tell of onThreshold) tell();
}

function drawHistogram() {
  const { shares } = levels, tallest = Math.max(...Object.values(shares).flat(), 1e-9);
  const half = 128, gap = 26, heading = 18; // in pixels; bars and the line of the threshold stay below the heading
  const plot = axes(histogram, { height: 2 * half + gap + 50, x: [lowest, highest], y: [0, 1], yTicks: 0, xName: "score" });
  const clip = drawn(plot.svg, "clipPath", { id: "above" });
  const region = drawn(clip, "rect", { y: 0, height: plot.height });
  const rows = [["normal", half], ["abnormal", 2 * half + gap]];
  const toY = (share, base) => base - share / tallest * (half - heading);
  for (const [name, base] of rows) {
    if (!shares[name]) continue;
    for (const value of ticks(0, tallest, 3)) {
      drawn(plot.svg, "line", { class: "rule", x1: plot.left, x2: plot.width - plot.right, y1: toY(value, base), y2: toY(value, base) });
      drawn(plot.svg, "text", { class: "tick", x: plot.left - 8, y: toY(value, base) + 4, "text-anchor": "end" }, `${short(100 * value)} %`);
    }
    const outline = stairs(shares[name], plot.x, (share) => toY(share, base));
    drawn(plot.svg, "path", { class: `${name} ghost`, d: outline });
    drawn(plot.svg, "path", { class: name, d: outline, "clip-path": "url(#above)" });
    if (name === "normal" && shares.validation) {
      drawn(plot.svg, "path", { class: "validation", d: stairs(shares.validation, plot.x, (share) => toY(share, base)) });
      byId("validation-key").hidden = false;
    }
    drawn(plot.svg, "text", { class: "title", x: plot.left + 4, y: base - half + 14 }, `${name} (${levels.num[name === "normal" ? 0 : 1]})`);
  }
  const lines = rows.map(([, base]) => drawn(plot.svg, "line", { class: "threshold", y1: base - half + heading, y2: base }));
  histogram.place = () => {
    const at = plot.x(Math.min(Math.max(threshold, lowest), highest));
    for (const line of lines) { line.setAttribute("x1", at); line.setAttribute("x2", at); }
    region.setAttribute("x", at); region.setAttribute("width", Math.max(0, plot.width - at));
  };
  histogram.place();
  // Align the thumb, 16 px wide, with the line.
  slider.style.marginLeft = `${100 * (plot.left - 8) / plot.width}%`;
  slider.style.width = `${100 * (plot.width - plot.left - plot.right + 16) / plot.width}%`;
}

function stairs(shares, toX, toY) {
  let path = `M${toX(edges[0])} ${toY(0)}`;
  shares.forEach((share, i) => { path += `V${toY(share)}H${toX(edges[i + 1])}`; });
  return `${path}V${toY(0)}Z`;
}

Object.assign(slider, { min: lowest, max: highest, value: levels.start });
slider.addEventListener("input", () => setThreshold(Number(slider.value)));
field.addEventListener("input", () => { if (field.value !== "") setThreshold(Number(field.value)); });
field.addEventListener("blur", () => setThreshold(threshold));
byId("reset").addEventListener("click", () => setThreshold(levels.start));
keepDrawn(histogram, drawHistogram);
onThreshold.push(() => histogram.place());
