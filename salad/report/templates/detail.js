// Describe one test image in the dialog.
describe = (i) => {
  const item = items[i], predicted = item.score > threshold ? "abnormal" : "normal";
  const facts = [`${className(item.label)}, predicted ${predicted} at threshold ${shownScore(threshold)}`, `score ${shownScore(item.score)}`];
  if (item.percentile !== null) facts.push(`percentile ${item.percentile} of validation normals`);
  const body = [element("p", {}, element("span", { className: `mark ${className(item.label)}` }), [...facts, ...item.facts, ...item.findings].join(" · "))];
  const pictures = picturesOf(i);
  if (Object.keys(pictures).length) return [...body, ...explained({ ...item, pictures }, data.words, (picture) => data.pictures[picture])];
  body.push(element("div", { className: "views" }, view("Image, small", item.thumb, item.name)));
  return [...body, element("p", { className: "caption", textContent: item.groups.length ? data.words.no_neighbours : "No explanation: only images of the gallery are explained." })];
};
