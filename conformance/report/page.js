"use strict";
const report = JSON.parse(document.getElementById("data").textContent);
const names = Object.keys(report.subjects);
const at = (id) => document.getElementById(id);

// Elements are built from text nodes only: what a subject said must never become markup.
function el(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((child) => child !== null));
  return node;
}
const list = (items) => el("ul", {}, ...items.map((item) => el("li", {}, item)));

at("facts").textContent = `${report.suite.name} ${report.suite.version}, profile ${report.profile}, ${report.finished}, ${report.seconds} s on ${report.host}`;
at("command").textContent = report.command;

function card(name) {
  const subject = report.subjects[name];
  const broken = subject.must_broken.length;
  const verdict = subject.unreachable ? `could not be judged: ${subject.unreachable}`
    : broken ? `${broken} MUST clauses do not hold` : "every MUST clause that was decided holds";
  const told = Object.entries(subject.checks).filter(([, n]) => n).map(([kind, n]) => `${n} ${kind}`).join(", ");
  const skips = Object.entries(subject.skips);
  return el("div", { className: "card" },
    el("h3", {}, name),
    el("p", {}, `${subject.product} ${subject.version}`),
    el("p", { className: `verdict ${subject.unreachable || broken ? "failed" : "passed"}` }, verdict),
    el("p", {}, `checks: ${told}; MUST clauses undecided: ${subject.must_undecided.length}`),
    skips.length ? el("details", {}, el("summary", {}, "what was skipped, and why"), list(skips.map(([why, n]) => `${n}: ${why}`))) : null,
    Object.keys(subject.serves).length ? el("details", {}, el("summary", {}, "whose code served what"),
      list(Object.entries(subject.serves).map(([uri, where]) => `${uri}: ${where}`))) : null);
}
at("subjects").append(...names.map(card));

function cell(counts) {
  if (!counts) return el("td", { className: "none" }, "-");
  if (counts.error && !counts.failed && !counts.passed && !counts.skipped) return el("td", { className: "error" }, "not judged");
  const failed = (counts.failed || 0) + (counts.error || 0);
  const part = (n, kind) => el("span", { className: n ? kind : "none" }, String(n));
  const td = el("td", {}, part(counts.passed || 0, "passed"), " / ", part(failed, "failed"), " / ", part(counts.skipped || 0, "skipped"));
  if (counts.known) td.append(" ", el("span", { className: "known" }, `+${counts.known} known`));
  return td;
}
at("matrix").append(
  el("thead", {}, el("tr", {}, el("th", {}, "plugin"), ...names.map((name) => el("th", {}, name)))),
  el("tbody", {}, ...Object.entries(report.matrix).map(([plugin, row]) =>
    el("tr", {}, el("td", {}, plugin), ...names.map((name) => cell(row[name]))))));

const results = new Map();
for (const result of report.results)
  for (const id of result.clauses) results.set(id, [...(results.get(id) || []), result]);

function body(clause) {
  const facts = el("dl", {});
  const add = (title, ...content) => facts.append(el("dt", {}, title), el("dd", {}, ...content));
  add("Rule", clause.text);
  add("Binds", clause.plugins.join(", "));
  add("Since, source", `${clause.since}; ${clause.source.join("; ")}`);
  add("What the real containerd did", clause.observed);
  add("Check", clause.check);
  add("Mutant that the check must catch", clause.mutant);
  for (const result of results.get(clause.id) || []) {
    const where = result.snapshotter ? `${result.subject}, ${result.snapshotter}` : result.subject;
    add(`${where}: ${result.check}`, el("span", { className: result.outcome }, result.outcome), result.reason ? `: ${result.reason}` : "",
      result.message ? el("pre", {}, [result.location, result.message, "", ...result.calls].join("\n")) : null);
  }
  return el("div", { className: "body" }, facts);
}

function row(clause) {
  const details = el("details", { className: "clause" },
    el("summary", {}, el("code", {}, clause.id), el("span", { className: "level" }, clause.level), el("span", { className: "title" }, clause.title),
      el("span", { className: "marks" }, ...names.filter((n) => clause.outcomes[n]).map((name) =>
        el("span", { className: clause.outcomes[name], title: name }, names.length > 1 ? `${name} ${clause.outcomes[name]}` : clause.outcomes[name])))));
  // A thousand closed bodies would make the page slow on a phone: each is built when it is opened.
  details.addEventListener("toggle", () => details.open && details.children.length === 1 && details.append(body(clause)));
  return details;
}
const rows = report.clauses.map((clause) => ({ clause, node: row(clause), words: `${clause.id} ${clause.title} ${clause.text}`.toLowerCase() }));
at("clauses").append(...rows.map((entry) => entry.node));

const areas = [...new Set(report.clauses.map((clause) => clause.area))];
at("area").append(el("option", { value: "" }, "every area"), ...areas.map((area) => el("option", { value: area }, report.areas[area] || area)));

function filter() {
  const [text, area, level, outcome] = ["text", "area", "level", "outcome"].map((id) => at(id).value);
  let shown = 0;
  for (const { clause, node, words } of rows) {
    const fits = words.includes(text.toLowerCase()) && (!area || clause.area === area) && (!level || clause.level === level)
      && (!outcome || Object.values(clause.outcomes).includes(outcome));
    node.hidden = !fits;
    shown += fits;
  }
  at("count").textContent = `${shown} of ${rows.length} clauses`;
}
at("filters").addEventListener("input", filter);
at("filters").addEventListener("submit", (event) => event.preventDefault());
filter();
