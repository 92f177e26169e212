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
  if (item.places?.length) body.push(placeTable(item.places));
  if (item.neighbours?.length) {
    body.push(element("h3", { textContent: "Nearest normal training images" }), neighbourList(item.neighbours, (picture) => data.pictures[picture]));
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
