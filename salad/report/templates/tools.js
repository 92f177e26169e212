// Tools shared by all scripts of the page: data, elements, numbers, scales and axes.
const data = JSON.parse(document.getElementById("data").textContent);
const items = data.items;

function drawn(parent, tag, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  parent.append(made);
  return made;
}

const className = (label) => (label ? "abnormal" : "normal");
const short = (value) => String(Number(value.toPrecision(4)));
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`; // on one line

// Compute the 95 % interval of Wilson for a share of images.
function wilson(count, of) {
  const z = 1.959963984540054, share = count / of, bottom = 1 + z * z / of;
  const middle = (share + z * z / (2 * of)) / bottom;
  const reach = z / bottom * Math.sqrt(share * (1 - share) / of + z * z / (4 * of * of));
  return [Math.max(0, middle - reach), Math.min(1, middle + reach)];
}

// List round values between two ends, about `wanted` of them.
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw * 0.999);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) values.push(Number((i * step).toPrecision(10)));
  return values;
}

// Draw an empty plot with axes; `x` and `y` of the result map values to pixels.
function axes(host, { height, x, y, xName = "", yName = "", title = "", bottom = 38, yTicks = 5, xTicks = 6, xWhole = false }) {
  const width = Math.max(host.clientWidth, 200), top = title ? 24 : 10, right = 20;
  const yLabels = (yTicks ? ticks(...y, yTicks) : []).map((value) => [value, short(value)]);
  const left = Math.max(46, ...yLabels.map(([, label]) => 7 * label.length + (yName ? 28 : 8))); // room for the longest label
  host.replaceChildren();
  const svg = drawn(host, "svg", { viewBox: `0 0 ${width} ${height}`, width, height });
  const toX = (value) => left + (value - x[0]) / (x[1] - x[0] || 1) * (width - left - right);
  const toY = (value) => height - bottom - (value - y[0]) / (y[1] - y[0] || 1) * (height - bottom - top);
  for (const [value, label] of yLabels) {
    drawn(svg, "line", { class: "rule", x1: left, x2: width - right, y1: toY(value), y2: toY(value) });
    drawn(svg, "text", { class: "tick", x: left - 8, y: toY(value) + 4, "text-anchor": "end" }, label);
  }
  for (const value of ticks(...x, Math.min(xTicks, width / 60)).filter((tick) => !xWhole || Number.isInteger(tick))) {
    drawn(svg, "text", { class: "tick", x: toX(value), y: height - bottom + 16, "text-anchor": "middle" }, short(value));
  }
  drawn(svg, "line", { class: "base", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom });
  if (xName) drawn(svg, "text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xName);
  if (yName) drawn(svg, "text", { transform: `translate(12 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yName);
  if (title) drawn(svg, "text", { class: "title", x: left, y: 14 }, title);
  return { svg, x: toX, y: toY, width, height, left, right, top, bottom };
}

const pathOf = (points, plot) => points.map(([x, y], i) => `${i ? "L" : "M"}${plot.x(x).toFixed(1)} ${plot.y(y).toFixed(1)}`).join("");

// Draw now, and again whenever the width of the host changes.
function keepDrawn(host, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (host.clientWidth && host.clientWidth !== width) { width = host.clientWidth; draw(); }
  }).observe(host);
  width = host.clientWidth;
  draw();
}
