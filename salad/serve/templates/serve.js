// Send films to the server one after the other, and show what it answers.
const data = JSON.parse(byId("data").textContent);
const DICOM_SUFFIX = /\.(dcm|dic|dicom)$/i;
const DEFAULT_WAIT = 5, OFFLINE = "The server cannot be reached: is it still running?";
const waiting = [];
let token = null, isBusy = false;

const say = (text) => { byId("said").textContent = text; };
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const paragraph = (className, ...content) => element("p", { className }, ...content);

// Ask for the token; the promise is kept when the user has typed it.
function askToken(reason) {
  const form = byId("ask");
  form.hidden = false;
  byId("token").value = "";
  byId("token").focus();
  if (reason) say(reason);
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      token = byId("token").value.trim();
      byId("token").value = "";
      form.hidden = true;
      resolve();
    };
  });
}

// Send a film until the server takes it; returns what it answers.
async function send(file, show) {
  if (file.size > data.max_bytes) {
    return { error: `a film of ${file.size.toLocaleString("en")} bytes; at most ${data.max_bytes.toLocaleString("en")} are taken` };
  }
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    return { error: "the browser cannot read it: a folder, or a file that has been moved?" };
  }
  for (;;) {
    if (data.needs_token && token === null) { show("Waiting for the token"); await askToken(); }
    show("Being scored");
    const headers = { "Content-Type": DICOM_SUFFIX.test(file.name) ? "application/dicom" : "application/octet-stream" };
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    const answer = await fetch("score?explain=1", { method: "POST", body: file, headers });
    const found = await answer.json();
    if (answer.status === 401) {
      token = null;
      show(found.error);
      await askToken(found.error);
    } else if (answer.status === 429) {
      const seconds = Number(answer.headers.get("Retry-After")) || DEFAULT_WAIT;
      show(`The server is busy: next try in ${seconds} s`);
      await pause(seconds);
    } else return found;
  }
}

function resultOf(found, name) {
  const { explanation } = found;
  const kind = { true: "abnormal", false: "normal", null: "unknown" }[found.abnormal];
  const numbers = [`Score ${shownScore(found.score)}`];
  if (found.percentile !== null) numbers.push(`higher than ${found.percentile} % of normal validation images`);
  const parts = [
    paragraph("verdict", element("span", { className: `mark ${kind}` }), explanation.verdict),
    paragraph("numbers", numbers.join(" · ")),
  ];
  if (found.note) parts.push(noteList(found.note));
  if (explanation.error) return [...parts, paragraph("note", explanation.error)];
  return [...parts, ...explained({ name, ...explanation }, explanation.words, (picture) => picture)];
}

async function scoreNext() {
  const { file, entry } = waiting.shift();
  const show = (text) => entry.replaceChildren(entry.firstElementChild, paragraph("state", text));
  let parts;
  try {
    const found = await send(file, show);
    const isRefused = found.error || !found.explanation;
    parts = isRefused ? [paragraph("note", `Not scored: ${found.error}`)] : resultOf(found, file.name);
    say(`${file.name}: ${isRefused ? `not scored: ${found.error}` : found.explanation.verdict}`);
  } catch {
    say(OFFLINE);
    const again = element("button", { type: "button", textContent: "Try again" });
    again.addEventListener("click", () => { show("Waiting"); take({ file, entry }); });
    parts = [paragraph("note", OFFLINE), again];
  }
  entry.replaceChildren(entry.firstElementChild, ...parts);
}

// Put a film at the end of the line, and score all that wait if nothing does yet.
async function take(film) {
  waiting.push(film);
  if (isBusy) return;
  isBusy = true;
  while (waiting.length) await scoreNext();
  isBusy = false;
}

function add(files) {
  byId("clear").hidden = byId("clear").hidden && !files.length;
  for (const file of files) {
    const entry = element("li", {}, element("h2", { textContent: file.name }), paragraph("state", "Waiting"));
    byId("films").prepend(entry);
    take({ file, entry });
  }
}

byId("choose").addEventListener("change", (event) => { add([...event.target.files]); event.target.value = ""; });
byId("clear").addEventListener("click", () => {
  waiting.length = 0;
  byId("films").replaceChildren();
  byId("clear").hidden = true;
  byId("choose").focus();
});
// The whole page takes films: one that is dropped beside the box must not open in place of the page.
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); byId("drop").classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  add([...event.dataTransfer.files]);
});
