// Filter and sort the gallery.
const form = byId("filters"), cards = byId("cards");
const entries = [...cards.children].map((entry) => ({ entry, i: Number(entry.firstElementChild.dataset.item) }));

function fits(item, wanted) {
  return (!wanted.group || item.groups.includes(wanted.group))
    && (!wanted.label || item.label === Number(wanted.label))
    && (!wanted.finding || item.findings.includes(wanted.finding))
    && (!wanted.predicted || (item.score > threshold) === (wanted.predicted === "1"))
    && (!wanted.low || item.score >= Number(wanted.low))
    && (!wanted.high || item.score <= Number(wanted.high));
}

const orders = {
  falling: (a, b) => items[b.i].score - items[a.i].score,
  rising: (a, b) => items[a.i].score - items[b.i].score,
  name: (a, b) => (items[a.i].name < items[b.i].name ? -1 : 1),
};

function arrange() {
  const wanted = Object.fromEntries(new FormData(form));
  for (const { entry, i } of entries) entry.hidden = !fits(items[i], wanted);
  const sorted = [...entries].sort(orders[wanted.sort] || orders.falling).map(({ entry }) => entry);
  if (sorted.some((entry, position) => cards.children[position] !== entry)) cards.append(...sorted);
  byId("shown").textContent = `${entries.filter(({ entry }) => !entry.hidden).length} of ${entries.length} images shown`;
}

listen(form, cards, arrange);
onThreshold.push(() => { if (form.elements.predicted.value) arrange(); });
arrange();
setThreshold(levels.start);
