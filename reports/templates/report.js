"use strict";
// Sorting, filtering, and a state that lives in the address: "#section?sort=-ratio&find=boot".
// Everything else of the page works without this script.
(() => {
  const tables = [...document.querySelectorAll("table.sortable")];
  const find = document.getElementById("find");
  const subject = document.getElementById("only-subject");
  const verdict = document.getElementById("only-verdict");
  const shown = document.getElementById("shown");
  const filters = document.getElementById("filters");
  const bases = [...document.querySelectorAll("input[name=base]")];
  const themes = [...document.querySelectorAll("input[name=theme]")];
  const run = document.getElementById("run"); // absent where no start was seen
  const falls = [...document.querySelectorAll("table.waterfall")]
    .map((table) => ({ table, medians: table.tBodies[0], runs: JSON.parse(table.dataset.runs) }));
  const verdicts = ["worse", "unsure", "same", "better", "none"];
  let sort = "";

  const key = (row, name) => {
    const text = row.dataset[name];
    if (name === "subject") return text;
    if (name === "verdict") return verdicts.indexOf(text);
    return text === "" ? NaN : Number(text);
  };

  const compare = (name, sign) => (one, other) => {
    const a = key(one, name), b = key(other, name);
    const order = typeof a === "string" ? a.localeCompare(b)
      : Number.isNaN(a) || Number.isNaN(b) ? sign * (Number.isNaN(a) - Number.isNaN(b)) // gaps last
      : a - b;
    return sign * order || one.dataset.metric - other.dataset.metric;
  };

  const arrange = () => {
    const name = sort.replace(/^-/, "") || "metric";
    const sign = sort.startsWith("-") ? -1 : 1;
    for (const table of tables) {
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare(name, sign)));
      for (const head of table.querySelectorAll("th[data-sort]")) {
        const mine = sort !== "" && head.dataset.sort === name;
        head.setAttribute("aria-sort", mine ? (sign < 0 ? "descending" : "ascending") : "none");
      }
    }
  };

  const filter = () => {
    const words = find.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    for (const table of tables) {
      let visible = 0, before = "";
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLocaleLowerCase();
        row.hidden = !words.every((word) => text.includes(word))
          || (subject.value !== "" && row.dataset.subject !== subject.value)
          || (verdict.value !== "" && row.dataset.verdict !== verdict.value);
        visible += !row.hidden;
        if (row.hidden) continue;
        row.classList.toggle("again", row.dataset.place === before); // a name stands once in a row
        before = row.dataset.place;
      }
      if (table.checkVisibility()) shown.value = `${visible} / ${table.tBodies[0].rows.length}`;
    }
  };

  const digits = (value) => value === 0 ? "0"
    : value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(Number(value.toPrecision(3))))));

  const duration = (ns) => {
    if (ns < 1000) return ns === 0 ? "0" : `${ns} ns`;
    const units = [[1e3, "µs"], [1e6, "ms"], [1e9, "s"]];
    const [size, name] = units.find(([size]) => Number(digits(ns / size)) < 1000) ?? units[2];
    return `${digits(ns / size)} ${name}`;
  };

  const alone = (medians, times) => {
    const body = medians.cloneNode(true);
    const reached = times.filter((at) => at !== null).sort((a, b) => a - b);
    const end = reached.at(-1) || 1;
    [...body.rows].forEach((row, index) => {
      const at = times[index] ?? null;
      const before = at === null ? 0 : reached[reached.indexOf(at) - 1] ?? 0;
      const bar = row.querySelector("rect");
      bar.setAttribute("x", `${100 * before / end}%`);
      bar.setAttribute("width", `${at === null ? 0 : 100 * (at - before) / end}%`);
      row.querySelector(".whisker").remove();
      const took = row.querySelector(".took");
      if (at === null) took.textContent = "—";
      else if (took.textContent) took.textContent = `+${at === before ? "0 ns" : duration(at - before)}`;
      row.querySelector(".at").textContent = at === null ? "—" : duration(at);
    });
    return body;
  };

  const show = () => {
    for (const { table, medians, runs } of falls) {
      table.tBodies[0].replaceWith(run.value ? alone(medians, runs[run.value] ?? []) : medians);
    }
  };

  const chosen = (radios) => radios.find((radio) => radio.checked)?.value ?? "";
  const choose = (radios, value) => {
    const wanted = radios.find((radio) => radio.value === value) ?? radios[0];
    if (wanted) wanted.checked = true;
  };

  const remember = () => {
    const state = new URLSearchParams();
    const keep = (name, value, usual = "") => value !== usual && state.set(name, value);
    keep("base", chosen(bases), bases[0]?.value ?? "");
    keep("sort", sort);
    keep("find", find.value);
    keep("subject", subject.value);
    keep("verdict", verdict.value);
    keep("run", run?.value ?? "");
    keep("theme", chosen(themes), "auto");
    const section = location.hash.slice(1).split("?")[0];
    const text = state.toString();
    history.replaceState(null, "", `#${section}${text && `?${text}`}`);
  };

  const apply = () => {
    arrange();
    filter();
    show();
    remember();
  };

  const recall = () => {
    const [section, text = ""] = location.hash.slice(1).split("?");
    const state = new URLSearchParams(text);
    choose(bases, state.get("base"));
    choose(themes, state.get("theme"));
    sort = /^-?(metric|subject|value|ratio|verdict|n)$/.exec(state.get("sort"))?.[0] ?? "";
    find.value = state.get("find") ?? "";
    subject.value = state.get("subject") ?? "";
    verdict.value = state.get("verdict") ?? "";
    if (run) run.value = state.get("run") ?? "";
    if (run && run.selectedIndex < 0) run.value = "";
    if (subject.selectedIndex < 0) subject.value = "";
    if (verdict.selectedIndex < 0) verdict.value = "";
    apply();
    if (section && text) document.getElementById(section)?.scrollIntoView();
  };

  for (const head of document.querySelectorAll("th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const name = head.dataset.sort;
      sort = sort === name ? `-${name}` : sort === `-${name}` ? "" : name;
      apply();
    });
  }
  for (const box of [find, subject, verdict]) box.addEventListener("input", apply);
  run?.addEventListener("input", apply);
  for (const radio of [...bases, ...themes]) radio.addEventListener("change", apply);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => {
    sort = "";
    setTimeout(apply);
  });
  addEventListener("hashchange", () => (location.hash.includes("?") ? recall() : remember()));
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      details.dataset.closed = "";
    }
  });
  addEventListener("afterprint", () => {
    for (const details of document.querySelectorAll("details[data-closed]")) {
      details.open = false;
      delete details.dataset.closed;
    }
  });
  filters.hidden = false;
  if (run) document.getElementById("runs").hidden = false;
  recall();
})();
