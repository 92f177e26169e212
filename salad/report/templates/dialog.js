// Show images one after the other in a dialog.
const dialog = byId("detail");
let sequence = [], current = 0, describe = null;

// The pictures of a card are not in the data: read them from the card.
function picturesOf(i) {
  const pictures = { ...(data.items[i].pictures || {}) };
  for (const image of document.querySelectorAll(`[data-item="${i}"].card img[data-kind]`)) pictures[image.dataset.kind] = image.src;
  return pictures;
}

function showDetail() {
  const i = sequence[current];
  byId("detail-name").textContent = data.items[i].name;
  byId("detail-place").textContent = `${current + 1} of ${sequence.length}`;
  byId("detail-body").replaceChildren(...describe(i));
  dialog.scrollTop = 0;
}

// Open the dialog at an image; `order` are the images to step through, and `describe` makes the elements of one.
function openDialog(i, order) {
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

// Arrange the cards anew when their filters change, and open the dialog at a card, to step through the visible ones.
function listen(form, cards, arrange) {
  form.addEventListener("input", arrange);
  form.addEventListener("reset", () => setTimeout(arrange));
  form.addEventListener("submit", (event) => event.preventDefault());
  cards.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    const visible = [...cards.children].filter((entry) => !entry.hidden).map((entry) => Number(entry.firstElementChild.dataset.item));
    if (card) openDialog(Number(card.dataset.item), visible);
  });
}
