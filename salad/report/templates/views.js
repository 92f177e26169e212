// Elements, and the views of an explanation: its pictures, the map over the film, its places and its nearest normal images.
const byId = (id) => document.getElementById(id);
const shownScore = (value) => value.toPrecision(6); // as the program shows scores everywhere

function element(tag, content = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(content)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function view(title, source, name, hasScale = false) {
  const scale = hasScale ? [element("div", { className: "scale" })] : [];
  return element("figure", {}, element("img", { src: source, alt: `${title} of ${name}` }), ...scale, element("figcaption", { textContent: title }));
}

function noteList(note) {
  return element("ul", { className: "notes" }, ...note.split("; ").map((textContent) => element("li", { textContent })));
}

// Enlarge a picture, or make it small again, with a click, Enter or the space bar.
function zoomable(figure, picture) {
  Object.entries({ tabindex: 0, role: "button", "aria-label": "Enlarge or shrink the picture" }).forEach(([name, value]) => picture.setAttribute(name, value));
  const toggle = () => figure.classList.toggle("zoomed");
  picture.addEventListener("click", toggle);
  picture.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); } });
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

function placeTable(places) {
  const head = element("tr", {}, ...["", "Place", "SD above normal", "of the threshold"].map((name) => element("th", { scope: "col", textContent: name })));
  const rows = places.map((place, number) => element("tr", {}, ...[number + 1, place.words, place.value.toFixed(1), `${place.ratio.toFixed(2)} x`].map((text) => element("td", { textContent: text }))));
  return element("table", { className: "places" }, element("thead", {}, head), element("tbody", {}, ...rows));
}

function neighbourList(neighbours, sourceOf) {
  const list = element("ol", { className: "neighbours" });
  for (const { name, far, picture } of neighbours) {
    const entry = element("li", {});
    if (picture !== null) entry.append(element("img", { src: sourceOf(picture), alt: "" }));
    entry.append(element("p", {}, element("b", { textContent: far }), element("br"), name));
    list.append(entry);
  }
  return list;
}

// List the elements that explain an image: sentence, pictures, places and nearest normal images.
function explained(item, words, sourceOf) {
  const views = element("div", { className: "views" });
  for (const kind of Object.keys(words.titles).filter((name) => item.pictures[name])) {
    const shown = view(words.titles[kind], item.pictures[kind], item.name, kind !== "input" && kind !== "recon");
    views.append(kind === "score" ? layered(words.titles[kind], item.pictures, item) : zoomable(shown, shown.firstElementChild));
  }
  const parts = item.sentence ? [element("p", { className: "sentence", textContent: item.sentence }), views] : [views];
  if (item.places.length) parts.push(placeTable(item.places));
  if (!item.neighbours.length) return [...parts, element("p", { className: "caption", textContent: words.no_neighbours })];
  const list = neighbourList(item.neighbours, sourceOf);
  return [...parts, element("h3", { textContent: "Nearest normal training images" }), list, element("p", { className: "caption", textContent: words.far })];
}
