// The answer: one bar for each class.
"use strict";

const MAX_BARS = 12; // of a network with more classes, the most probable ones

function buildBars() {
  const answer = h("p", { class: "answer", "aria-live": "polite" });
  const list = h("ol", { class: "bars" });
  on("result networks", () => drawBars(answer, list));
  return h("section", { class: "answers", "aria-labelledby": "answer-title" }, h("h2", { id: "answer-title" }, "Answer"), answer, list);
}

function drawBars(answer, list) {
  const { result, network, problem } = active();
  if (problem) {
    answer.replaceChildren(problem);
    list.replaceChildren();
    return;
  }
  if (!result) return answer.replaceChildren(app.picture ? "Computing \u2026" : "");
  const order = result.probabilities.map((_, i) => i);
  if (order.length > MAX_BARS) order.sort((a, b) => result.probabilities[b] - result.probabilities[a]);
  const best = bestClass(result);
  const truth = app.testImages[result.image]?.label;
  if (best < 0) return answer.replaceChildren("The scores are not numbers: the weights of this network are damaged, or too large.");
  const verdict = truth === undefined ? "" : truth === network.labels[best] ? "That is right." : `It is in fact: ${truth}.`;
  answer.replaceChildren(h("strong", {}, network.labels[best]), ` ${percent(result.probabilities[best])}`, h("span", {}, verdict));
  const others = app.entries.filter((entry) => entry !== active() && entry.result && entry.network.labels.join() === network.labels.join());
  list.replaceChildren(
    ...order.slice(0, MAX_BARS).map((i) => {
      const bar = ({ result: { probabilities } }, kind) => h("span", { class: `bar ${kind}`, style: `width:${(100 * probabilities[i]).toFixed(2)}%` });
      const name = h("span", { class: "name" }, network.labels[i]);
      const track = h("span", { class: "track" }, bar(active(), i === best ? "best" : ""), others.map((entry) => bar(entry, "other")));
      return h("li", { class: network.labels[i] === truth ? "truth" : null }, name, track, h("span", { class: "value" }, percent(result.probabilities[i])));
    }),
  );
  if (others.length) list.append(h("li", { class: "note" }, `Thin bars: ${others.map((entry) => entry.network.name).join(", ")}.`));
}
