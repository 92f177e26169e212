// Show the dialog with the details of one image.
const dialog = byId("detail");
const titles = data.words.titles;
let sequence = [], current = 0;

// The pictures of a card are not in the data: read them from the card.
function picturesOf(i) {
  const pictures = { ...(items[i].pictures || {}) };
  for (const image of document.querySelectorAll(`[data-item="${i}"].card img[data-kind]`)) pictures[image.dataset.kind] = image.src;
  return pictures;
}

function view(title, source, name, hasScale = false) {
  const scale = hasScale ? [element("div", { className: "scale" })] : [];
  return element("figure", {}, element("img", { src: source, alt: `${title} of ${name}` }), ...scale, element("figcaption", { textContent: title }));
}

// Enlarge a picture, or make it small again, with a click or with Enter.
function zoomable(figure, picture) {
  Object.entries({ tabindex: 0, role: "button", "aria-label": "Enlarge or shrink the picture" }).forEach(([name, value]) => picture.setAttribute(name, value));
  const toggle = () => figure.classList.toggle("zoomed");
  picture.addEventListener("click", toggle);
  picture.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); toggle(); } });
  return figure;
}

// Show the film with the map of the score over it, the numbers of its places, and a slider for its opacity.
let opacity = 1;
function layered(title, pictures, item) {
  const layer = element("img", { className: "layer", src: pictures.layer, alt: "" });
  const film = element("div", { className: "film" }, element("img", { src: pictures.input, alt: `${title} of ${item.name}` }), layer);
  item.places.forEach((place, number) => {
    const spot = element("span", { className: "spot", textContent: number + 1 });
    spot.style.left = `${100 * place.x}%`;
    spot.style.top = `${100 * place.y}%`;
    film.append(spot);
  });
  const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: opacity, ariaLabel: "Opacity of the map" });
  const show = () => {
    opacity = Number(slider.value);
    film.style.setProperty("--shown", opacity);
  };
  slider.addEventListener("input", show);
  show();
  return zoomable(element("figure", {}, film, element("label", { className: "opacity" }, "Map ", slider), element("figcaption", { textContent: title })), film);
}

function placeTable(item) {
  const head = element("tr", {}, ...["", "Place", "SD above normal", "of the threshold"].map((name) => element("th", { scope: "col", textContent: name })));
  const rows = item.places.map((place, number) => element("tr", {}, ...[number + 1, place.words, place.value.toFixed(1), `${place.ratio.toFixed(2)} x`].map((text) => element("td", { textContent: text }))));
  return element("table", { className: "places" }, element("thead", {}, head), element("tbody", {}, ...rows));
}

function neighbourList(item) {
  const list = element("ol", { className: "neighbours" });
  for (const { name, far, picture } of item.neighbours) {
    const entry = element("li", {});
    if (picture !== null) entry.append(element("img", { src: data.pictures[picture], alt: "" }));
    entry.append(element("p", {}, element("b", { textContent: far }), element("br"), name));
    list.append(entry);
  }
  return list;
}

function showDetail() {
  const i = sequence[current], item = items[i], pictures = picturesOf(i);
  byId("detail-name").textContent = item.name;
  byId("detail-place").textContent = `${current + 1} of ${sequence.length}`;
  const predicted = item.score > threshold ? "abnormal" : "normal";
  const facts = [`${className(item.label)}, predicted ${predicted} at threshold ${shownScore(threshold)}`, `score ${shownScore(item.score)}`];
  if (item.percentile !== null) facts.push(`percentile ${item.percentile} of validation normals`);
  const body = [element("p", {}, element("span", { className: `mark ${className(item.label)}` }), [...facts, ...item.facts, ...item.findings].join(" · "))];
  const views = element("div", { className: "views" });
  for (const kind of Object.keys(titles).filter((name) => pictures[name])) {
    const shown = view(titles[kind], pictures[kind], item.name, kind !== "input" && kind !== "recon");
    views.append(kind === "score" ? layered(titles[kind], pictures, item) : zoomable(shown, shown.firstElementChild));
  }
  if (!views.children.length) views.append(view("Image, small", item.thumb, item.name));
  body.push(views);
  if (item.sentence) body.push(element("p", { className: "sentence", textContent: item.sentence }));
  if (item.places?.length) body.push(placeTable(item));
  if (item.neighbours?.length) {
    body.push(element("h3", { textContent: "Nearest normal training images" }), neighbourList(item));
    body.push(element("p", { className: "caption", textContent: data.words.far }));
  } else {
    body.push(element("p", { className: "caption", textContent: item.groups.length ? data.words.no_neighbours : "No explanation: only images of the gallery are explained." }));
  }
  byId("detail-body").replaceChildren(...body);
  dialog.scrollTop = 0;
}

function openDetail(i, order) {
  sequence = order;
  current = Math.max(0, order.indexOf(i));
  showDetail();
  dialog.showModal();
}

function step(by) {
  current = (current + by + sequence.length) % sequence.length;
  showDetail();
}

byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by && event.target.type !== "range") { event.preventDefault(); step(by); }
});
