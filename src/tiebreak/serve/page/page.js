// The page of `tiebreak serve`: paste two answers, see both orders, vote before the judge speaks.
"use strict";

const TEXTS = ["prompt", "response_a", "response_b"];
const NAMES = { prompt: "The prompt", response_a: "Answer A", response_b: "Answer B" };
const ANSWERS = { p_a: "Answer A", p_b: "Answer B", p_tie: "Tie" };
const EXAMPLES = {
  "A direct and an evasive answer": {
    prompt: "Is it raining in Lisbon? I have to decide whether to take an umbrella.",
    response_a: "I cannot see the weather. Look outside, or at a forecast; if clouds are low, take a small umbrella.",
    response_b: "Maybe. Weather is a complex system, and many people have asked this before.",
  },
  "A list where one is asked for": {
    prompt: "Name three breakfasts without eggs. Give a list.",
    response_a: "- Porridge with berries\n- Bread with hummus\n- Yoghurt with nuts",
    response_b: "You could eat porridge, or bread with hummus. Yoghurt with nuts is good as well.",
  },
  "Nearly the same answers": {
    prompt: "What is the capital of Australia?",
    response_a: "Canberra.",
    response_b: "The capital of Australia is Canberra.",
  },
};

const find = (id) => document.getElementById(id);
const percent = (p) => `${Math.round(100 * p)} %`;
const ballot = { pair: null, swapped: false, queue: [], skip: () => {} };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function say(text, isError = false) {
  find("status").textContent = text;
  find("status").classList.toggle("error", isError);
}

async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (find("key").value) headers.Authorization = `Bearer ${find("key").value}`;
  const options = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  if (response.ok) return response;
  if (response.status === 401) {
    find("key-row").hidden = false;
    find("key").focus();
  }
  let message = `the server answers ${response.status}`;
  try { message = (await response.json()).error.message; } catch { /* it is not JSON */ }
  throw new Error(message);
}

async function busily(text, work) {
  say(text);
  document.querySelectorAll("button").forEach((button) => { button.disabled = true; });
  try {
    await work();
    say("");
  } catch (error) {
    say(`That did not work: ${error.message}`, true);
  } finally {
    document.querySelectorAll("button").forEach((button) => { button.disabled = false; });
  }
}

// --- the pair

const pasted = () => Object.fromEntries(TEXTS.map((name) => [name, find(name).value]));

function fill(pair) {
  for (const name of TEXTS) find(name).value = pair[name];
  find("result").hidden = true;
  say("");
}

async function judge() {
  await busily("The judge reads both answers in both orders …", async () => {
    const response = await call("v1/compare", pasted());
    show((await response.json()).results[0], "");
  });
}

// --- the result

function show(comparison, before) {
  find("verdict").textContent = before + verdict(comparison);
  find("bars").replaceChildren(...bars(comparison));
  find("orders").replaceChildren(...comparison.orders.map(orderOf));
  find("orders-note").textContent = disagreement(comparison.orders);
  const cut = TEXTS.filter((name) => comparison.tokens[name].kept < comparison.tokens[name].given);
  find("cut").hidden = cut.length === 0;
  find("cut-list").replaceChildren(...cut.map((name) => make("li", {}, cutOf(name, comparison.tokens[name]))));
  find("result").hidden = false;
  find("result-title").focus();
}

function verdict(comparison) {
  const [name] = Object.keys(ANSWERS).sort((one, other) => comparison[other] - comparison[one]);
  const by = { model: "", blend: " The model and its baseline of word counts decide together.",
    rule: " A rule decides, as voters did on such answers: one is missing, or both are the same." };
  return `${ANSWERS[name]} is most probable, with ${percent(comparison[name])}.${by[comparison.decided_by]}`;
}

function bars(p) {
  return Object.entries(ANSWERS).map(([name, label]) => {
    const filled = make("div", { class: `fill ${name}` });
    filled.style.width = `${100 * p[name]}%`;
    return make("div", { class: "bar" }, make("span", {}, label),
      make("div", { class: "track", "aria-hidden": "true" }, filled),
      make("span", { class: "share", "data-share": name }, percent(p[name])));
  });
}

function orderOf(order) {
  return make("div", { class: "order" }, make("h4", {}, `Answer ${order.first.toUpperCase()} shown first`), ...bars(order));
}

function disagreement(orders) {
  if (orders.length < 2) return "One order was enough: the judge is certain in it.";
  const points = Math.max(...Object.keys(ANSWERS).map((name) => Math.abs(orders[0][name] - orders[1][name])));
  return `The two orders differ by ${Math.round(100 * points)} points at most. ` +
    "Where they differ much, the position of an answer decides more than its text.";
}

function cutOf(name, tokens) {
  return `${NAMES[name]}: ${tokens.kept} of ${tokens.given} tokens were read.`;
}

// --- votes

const readable = (text) => Array.isArray(text)
  ? text.map((turn) => turn?.content ?? turn ?? "").join("\n\n") : text ?? "";

function openBallot(pair, skip) {
  Object.assign(ballot, { pair, skip, swapped: Math.random() < 0.5 });
  find("ballot-left").textContent = "";
  const [first, second] = ballot.swapped ? ["response_b", "response_a"] : ["response_a", "response_b"];
  find("ballot-prompt").textContent = readable(pair.prompt);
  find("ballot-first").textContent = readable(pair[first]);
  find("ballot-second").textContent = readable(pair[second]);
  find("pair").hidden = true;
  find("result").hidden = true;
  find("ballot").hidden = false;
  find("ballot-title").focus();
}

function closeBallot() {
  find("ballot").hidden = true;
  find("pair").hidden = false;
}

async function openNext() {
  let found;
  await busily("The next pair is fetched …", async () => { found = await (await call("v1/votes/next")).json(); });
  if (!found) return;
  if (!found.pair) {
    say("All pairs have a vote.");
    return;
  }
  openBallot(found.pair, openNext);
  find("ballot-left").textContent = `${found.left} ${found.left === 1 ? "pair has" : "pairs have"} no vote yet.`;
}

async function vote(choice) {
  const { pair, swapped } = ballot;
  const winner = choice === "tie" ? "tie" : (choice === "first") !== swapped ? "a" : "b";
  await busily("Your vote is written, then the judge speaks …", async () => {
    const shown_first = swapped ? "b" : "a";
    const response = await call("v1/votes", { ...pair, winner, shown_first });
    const { comparison } = await response.json();
    closeBallot();
    fill({ prompt: readable(pair.prompt), response_a: readable(pair.response_a), response_b: readable(pair.response_b) });
    const voted = winner === "tie" ? "You voted for a tie." : `You voted for answer ${winner.toUpperCase()}.`;
    show(comparison, `${voted} `);
    find("vote").textContent = ballot.queue.length ? `Next of ${ballot.queue.length} pairs` : "Vote first";
  });
}

function startVote() {
  const next = ballot.queue.shift();
  if (next) openBallot(next, () => { if (ballot.queue.length) startVote(); });
  else if (find("pair").reportValidity()) openBallot(pasted(), () => {});
}

async function readPairs(file) {
  const lines = (await file.text()).split("\n").filter((line) => line.trim());
  ballot.queue = lines.map((line, n) => {
    let row;
    try { row = JSON.parse(line); } catch { throw new Error(`line ${n + 1} of ${file.name} is not JSON`); }
    if (!TEXTS.every((name) => name in row)) throw new Error(`line ${n + 1} of ${file.name} has not ${TEXTS.join(", ")}`);
    return Object.fromEntries(TEXTS.map((name) => [name, row[name]]));
  });
  for (let n = ballot.queue.length - 1; n > 0; n -= 1) {
    const other = Math.floor(Math.random() * (n + 1));
    [ballot.queue[n], ballot.queue[other]] = [ballot.queue[other], ballot.queue[n]];
  }
  startVote();
}

async function exportVotes() {
  const blob = await (await call("v1/votes")).blob();
  const link = make("a", { href: URL.createObjectURL(blob), download: "votes.jsonl" });
  link.click();
  URL.revokeObjectURL(link.href);
}

// --- what happens when

find("pair").addEventListener("submit", (event) => { event.preventDefault(); judge(); });
find("pair").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("pair").requestSubmit();
});
find("swap").addEventListener("click", () => {
  const { prompt, response_a, response_b } = pasted();
  const again = !find("result").hidden;
  fill({ prompt, response_a: response_b, response_b: response_a });
  if (again) judge();
});
find("clear").addEventListener("click", () => { fill({ prompt: "", response_a: "", response_b: "" }); find("prompt").focus(); });
find("example").append(...Object.keys(EXAMPLES).map((name) => make("option", {}, name)));
find("example").addEventListener("change", (event) => { if (event.target.value) fill(EXAMPLES[event.target.value]); });
find("vote").addEventListener("click", startVote);
find("skip").addEventListener("click", () => { closeBallot(); ballot.skip(); });
find("stop").addEventListener("click", () => { closeBallot(); find("prompt").focus(); });
document.querySelectorAll(".next").forEach((button) => button.addEventListener("click", openNext));
find("export").addEventListener("click", () => busily("The votes are fetched …", exportVotes));
find("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) busily("The file is read …", () => readPairs(file));
});
document.querySelectorAll("[data-choice]").forEach((button) => {
  button.addEventListener("click", () => vote(button.dataset.choice));
});

async function about() {
  const { model, votes, pairs } = await (await fetch("page.json")).json();
  find("model").textContent = model;
  find("vote").hidden = find("collect").hidden = !votes;
  document.querySelectorAll(".next").forEach((button) => { button.hidden = !pairs; });
}
about();
