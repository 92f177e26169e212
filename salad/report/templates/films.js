// Filter the films, and describe one in the dialog.
const data = JSON.parse(byId("data").textContent);
const form = byId("filters"), cards = byId("cards");
const films = [...document.querySelectorAll("[data-score]")].map((entry) => ({ entry, ...entry.dataset, name: entry.querySelector(".name").textContent.toLowerCase() }));

describe = (i) => {
  const item = data.items[i], facts = [`score ${shownScore(item.score)}`];
  if (item.percentile !== null) facts.push(`higher than ${item.percentile} % of normal validation images`);
  for (const [name, value] of Object.entries(item.tags)) facts.push(`${name} ${value}`);
  const kind = { true: "abnormal", false: "normal", null: "unknown" }[item.abnormal];
  const verdict = { abnormal: "Above the threshold", normal: "Not above the threshold", unknown: "No threshold" }[kind];
  const body = [element("p", {}, element("span", { className: `mark ${kind}` }), [verdict, ...facts].join(" · "))];
  if (item.note) body.push(noteList(item.note));
  return [...body, ...explained({ ...item, pictures: picturesOf(i) }, data.words, (picture) => data.pictures[picture])];
};

function fits(film, wanted) {
  return (!wanted.state || film.state === wanted.state)
    && (!wanted.noted || film.noted === wanted.noted)
    && (!wanted.low || Number(film.score) >= Number(wanted.low))
    && (!wanted.name || film.name.includes(wanted.name.toLowerCase()));
}

function arrange() {
  const wanted = Object.fromEntries(new FormData(form));
  for (const film of films) film.entry.hidden = !fits(film, wanted);
  const rows = films.filter(({ entry }) => entry.tagName === "TR");
  byId("shown").textContent = `${rows.filter(({ entry }) => !entry.hidden).length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} films shown`;
}

listen(form, cards, arrange);
arrange();
