// The trace viewer: any item of the page's records, arms side by side, latent steps as dots.
// Without it, and in browsers that cannot unpack, the page shows three items by itself. It asks for nothing from outside.
"use strict";
(async () => {
  if (!window.DecompressionStream) return;
  const packed = Uint8Array.from(atob(document.getElementById("records").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = JSON.parse(await new Response(stream).text());
  const viewer = document.getElementById("viewer");
  if (!data.items.length) return;

  const find = viewer.querySelector("#find");
  const show = viewer.querySelector("#show");
  const list = viewer.querySelector("#items");
  const stage = viewer.querySelector("#stage");
  const place = viewer.querySelector("#place");
  const tip = viewer.querySelector("#tip");
  const [previous, next] = ["#previous", "#next"].map((id) => viewer.querySelector(id));
  const arms = [...viewer.querySelectorAll("input[name=arm]")];
  const counted = viewer.querySelector("#arms > summary");
  const seeds = [...viewer.querySelectorAll("input[name=seed]")];
  const DOT = "●";
  const DOTS = 200; // more latent steps of a thought are written as a number
  const LONG = 1500; // a trace longer than this scrolls in a box of its own

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const chosen = () => new Set(arms.filter((box) => box.checked).map((box) => box.value));
  const seedShown = () => Number((seeds.find((one) => one.checked) || { value: 0 }).value);

  // What the chosen arms wrote on an item under the chosen seed, in the order of the arms.
  const tracesOf = (item, wanted = chosen(), seed = seedShown()) =>
    item.traces
      .filter((trace) => trace[1] === seed && wanted.has(data.arms[trace[0]]))
      .sort((a, b) => a[0] - b[0]);
  const judged = ([, , , correct, reward]) => (correct === null ? reward : correct);
  const textOf = (pieces) => pieces.map((piece) => (Array.isArray(piece) ? piece[0] : piece)).join("");
  const thinks = (trace) => trace[9].some((piece) => Array.isArray(piece) && piece[1]);
  const hasLens = (trace) => trace[9].some((piece) => Array.isArray(piece) && piece[2]);
  const kinds = {
    all: () => true,
    differ: (traces) => new Set(traces.map(judged)).size > 1,
    right: (traces) => traces.length > 0 && traces.every((trace) => trace[3]),
    wrong: (traces) => traces.length > 0 && traces.every((trace) => trace[3] === false),
    latent: (traces) => traces.some(thinks),
    lens: (traces) => traces.some(hasLens),
  };

  // What is said of the lens: how to look, why it is not there.
  const lenses = data.items.some((item) => item.traces.some(hasLens));
  const hint = viewer.querySelector("#hint");
  const HOW = hint.textContent;
  const NOT_HERE = "No lens was kept for what is shown here; “Show items with a latent lens” lists those that have one.";
  const NO_LENS = "These records hold no latent lens; `litereason eval --lens 20` keeps it for 20 items.";

  let shown = []; // indices of the items in the list
  let current = data.first;

  const matches = (item, words, kind, wanted, seed) => {
    const traces = tracesOf(item, wanted, seed);
    if (!kinds[kind](traces)) return false;
    const texts = [item.name, item.label, ...item.prompts, ...traces.map((trace) => textOf(trace[9]))];
    return !words || texts.some((text) => text.toLowerCase().includes(words));
  };

  const refill = () => {
    counted.textContent = `Arms (${chosen().size} of ${arms.length})`;
    const [words, wanted, seed] = [find.value.trim().toLowerCase(), chosen(), seedShown()];
    shown = [...data.items.keys()].filter((index) => matches(data.items[index], words, show.value, wanted, seed));
    if (!shown.includes(current) && shown.length) current = shown[0];
    const options = shown.map((index) => {
      const item = data.items[index];
      const marks = tracesOf(item, wanted, seed).filter((trace) => trace[3] !== null);
      const right = marks.filter((trace) => trace[3]).length;
      const told = marks.length ? ` · ${right} of ${marks.length} right` : "";
      return new Option(`${item.name}${item.label && ` · ${item.label}`}${told}`, index);
    });
    list.replaceChildren(...options);
    draw();
  };

  const draw = () => {
    hide();
    list.value = String(current);
    const at = shown.indexOf(current);
    previous.disabled = at <= 0;
    next.disabled = at < 0 || at === shown.length - 1;
    if (at < 0) {
      place.textContent = "No item matches.";
      stage.replaceChildren();
      return;
    }
    const item = data.items[current];
    place.textContent = `Item ${at + 1} of ${shown.length}: ${item.name}`;
    const traces = tracesOf(item);
    const cards = traces.map((trace) => card(trace, item));
    const why = chosen().size ? "The chosen arms have no answer to this item under this seed." : "No arm is chosen.";
    const absent = make("p", { class: "note" }, why);
    stage.replaceChildren(
      ...(item.label ? [make("p", {}, "Right answer: ", make("strong", {}, item.label))] : []),
      ...prompts(item, traces),
      traces.length ? make("div", { class: "traces" }, ...cards) : absent,
    );
    hint.textContent = !lenses ? NO_LENS : traces.some(thinks) && !traces.some(hasLens) ? NOT_HERE : HOW;
  };

  const prompts = (item, traces) => {
    const used = [...new Set(traces.map((trace) => trace[2]))];
    return used.map((index) => {
      const names = traces.filter((trace) => trace[2] === index).map((trace) => titleOf(trace[0]));
      const whose = used.length > 1 ? ` of ${names.join(", ")}` : "";
      const text = make("pre", { tabindex: "0" }, item.prompts[index]);
      return make("details", {}, make("summary", {}, `Prompt${whose}`), text);
    });
  };

  const boxOf = (arm) => arms.find((box) => box.value === data.arms[arm]);
  const titleOf = (arm) => boxOf(arm).dataset.title;

  const card = (trace, item) => {
    const [arm, , , correct, reward, discrete, latent, truncated, cut, pieces] = trace;
    const swatch = boxOf(arm).parentElement.querySelector("svg").cloneNode(true);
    const cutOff = truncated ? ", cut at the token limit" : "";
    const mark = correct === null
      ? make("p", { class: "mark" }, `reward ${reward === null ? "none" : reward.toFixed(3)}${cutOff}`)
      : make("p", { class: `mark ${correct ? "held" : "did-not-hold"}` },
             `${correct ? "✓ correct" : "✗ incorrect"}${cutOff}`);
    const count = `${plural(discrete, "discrete token")}, ${plural(latent, "latent step")}`;
    const text = make("div", { class: "text" }, ...pieces.map(piece));
    if (textOf(pieces).length > LONG) {
      text.classList.add("long");
      text.setAttribute("tabindex", "0");
      text.setAttribute("role", "region");
      text.setAttribute("aria-label", `Trace of ${titleOf(arm)} on item ${item.name}`);
    }
    text.querySelectorAll(".thought").forEach((thought, index) => {
      const dots = thought.querySelectorAll(".dot");
      dots.forEach((dot, step) => dot.setAttribute(
        "aria-label", `thought ${index + 1}, latent step ${step + 1} of ${dots.length}`));
    });
    // one stop of the tab key a trace; arrows go from dot to dot
    text.querySelectorAll(".dot").forEach((dot, index) => (dot.tabIndex = index ? -1 : 0));
    const left = cut ? [make("p", { class: "note" }, `${cut} more characters are left out here.`)] : [];
    return make("article", { class: "trace" },
      make("h3", { class: "swatch-line" }, swatch, titleOf(arm)), mark, make("p", { class: "count" }, count),
      text, ...left);
  };

  const piece = (one) => {
    if (!Array.isArray(one)) return one;
    const [tag, steps, lens] = one;
    const thought = make("span", { class: "thought" });
    if (tag) thought.append(make("code", {}, tag));
    if (steps && !lens) {
      const dots = steps <= DOTS ? DOT.repeat(steps) : `${DOT} × ${steps}`;
      thought.append(" ", make("span", { class: "dots", "aria-hidden": "true" }, dots));
      thought.append(make("span", { class: "hidden" }, `(thought of ${plural(steps, "latent step")})`));
    } else if (steps) {
      thought.append(" ", ...lens.map(dot));
    }
    return thought;
  };

  const dot = (said) => {
    const button = make("button", { type: "button", class: "dot" }, DOT);
    button.said = said;
    return button;
  };

  // The latent lens: what the LM head would say at a dot.
  let looked = null;
  const visible = (token) => token.replace(/\n/g, "⏎").replace(/^ | $/g, "␣") || "(empty)";
  const look = (button) => {
    if (looked === button) return;
    hide();
    looked = button;
    button.setAttribute("aria-describedby", "tip");
    const rows = button.said.map(([token, p]) => {
      const share = make("span", { class: "share" });
      share.style.width = `${100 * p}%`;
      const bar = make("span", { class: "bar", "aria-hidden": "true" }, share);
      return make("li", {}, make("code", {}, visible(token)), bar, make("span", {}, ` ${(100 * p).toFixed(1)} % `));
    });
    const title = `${button.getAttribute("aria-label")}: the LM head would say`;
    tip.replaceChildren(make("p", {}, title), make("ol", {}, ...rows));
    tip.hidden = false;
    put(button.getBoundingClientRect());
  };
  const phone = matchMedia("(max-width: 40rem)");
  const put = (at) => {
    const box = tip.getBoundingClientRect();
    const { clientWidth: width, clientHeight: height } = document.documentElement;
    const left = Math.max(8, Math.min(at.left + at.width / 2 - box.width / 2, width - box.width - 8));
    const above = at.top - box.height; // no gap, so that the pointer can go over to it
    tip.style.left = `${left}px`;
    const near = above > 8 ? above : at.bottom;
    const far = at.top > height / 2 ? 8 : height - box.height - 8; // leaves the words around the dot free
    tip.style.top = `${phone.matches ? far : near}px`;
  };
  const hide = () => {
    if (looked) looked.removeAttribute("aria-describedby");
    looked = null;
    tip.hidden = true;
  };
  const dotOf = (event) => event.target.closest && event.target.closest(".dot");
  const focused = () => (stage.contains(document.activeElement) && document.activeElement.said ? document.activeElement : null);

  stage.addEventListener("mouseover", (event) => dotOf(event) && look(dotOf(event)));
  stage.addEventListener("focusin", (event) => (dotOf(event) ? look(dotOf(event)) : hide()));
  stage.addEventListener("click", (event) => dotOf(event) && look(dotOf(event)));
  stage.addEventListener("focusout", hide);
  // the pointer may go over to the tip; away from both, the dot that has the focus is told again
  const away = (event) => {
    const to = event.relatedTarget;
    if (to && (tip.contains(to) || (to.closest && to.closest(".dot")))) return;
    hide();
    if (focused()) look(focused());
  };
  stage.addEventListener("mouseout", (event) => dotOf(event) && away(event));
  tip.addEventListener("mouseleave", away);
  const follow = () => {
    if (!looked) return;
    const at = looked.getBoundingClientRect();
    tip.hidden = at.bottom < 0 || at.top > document.documentElement.clientHeight;
    if (!tip.hidden) put(at);
  };
  window.addEventListener("scroll", follow, { passive: true, capture: true });
  window.addEventListener("resize", follow);
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !dotOf(event)) return;
    const dots = [...dotOf(event).closest(".text").querySelectorAll(".dot")];
    const to = dots[dots.indexOf(dotOf(event)) + step];
    if (!to) return;
    event.preventDefault();
    dotOf(event).tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });

  const go = (step) => {
    const at = shown.indexOf(current) + step;
    if (at < 0 || at >= shown.length) return;
    current = shown[at];
    draw();
  };
  previous.addEventListener("click", () => go(-1));
  next.addEventListener("click", () => go(1));
  list.addEventListener("change", () => {
    current = Number(list.value);
    draw();
  });
  find.addEventListener("input", refill);
  show.addEventListener("change", refill);
  for (const box of [...arms, ...seeds]) box.addEventListener("change", refill);

  const [kept, total] = [data.items.length, data.total].map((count) => count.toLocaleString("en"));
  viewer.querySelector("#kept").textContent = kept === total
    ? `All ${total} items are here.`
    : `${kept} of ${total} items are here: half of the room went to those on which arms differ most`
      + `${lenses ? " (before all others, those with a lens)" : ""}, the rest to items drawn at random.`;
  // a long list would push the traces out of sight
  viewer.querySelector("#arms").open = arms.length <= 12 && !phone.matches;
  document.getElementById("static-traces").remove();
  viewer.hidden = false;
  refill();
})();
