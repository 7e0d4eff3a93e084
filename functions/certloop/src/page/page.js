"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const form = at("search"), field = at("q"), found = at("found");
  const sections = [...document.querySelectorAll("main section")].map((section) => {
    const heading = section.querySelector(".count");
    return [section, heading, heading.textContent];
  });
  const number = new Intl.NumberFormat("en");
  let entries = null;

  // An ARN is shown in short; its title has the whole.
  const whole = (part) => [part.textContent, ...[...part.querySelectorAll("abbr")].map((arn) => arn.title)];
  const text = (element) => [...element.querySelectorAll(".f")].flatMap(whole).join("\n").toLowerCase();

  // Read once, when somebody searches: [entry, its text, its folded domains]. A problem that
  // several certificates share belongs to each of them.
  const shared = (entry) => entry.closest(".cause")?.querySelector(".trouble");
  const read = () => [...document.querySelectorAll("li.c")].map((entry) => [
    entry,
    text(entry) + (shared(entry) ? "\n" + text(shared(entry)) : ""),
    entry.querySelector("details.rest"),
  ]);

  // What was copied from an address bar is a name; a wildcard holds each name under it.
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const name = word.replace(/^https?:\/\//, "").replace(/[/?#].*$/, "") || word;
    const dot = name.indexOf(".");
    return dot > 0 ? [name, "*" + name.slice(dot)] : [name];
  });

  const search = () => {
    const wanted = words(field.value);
    if (!entries && wanted.length === 0) return;
    entries ??= read();
    let count = 0;
    for (const [entry, text, rest] of entries) {
      const fits = wanted.every((word) => word.some((one) => text.includes(one)));
      if (entry.hidden === fits) entry.hidden = !fits;
      if (fits) count += 1;
      if (rest) rest.open = fits && wanted.some((word) => word.some((one) => rest.textContent.toLowerCase().includes(one)));
    }
    for (const cause of document.querySelectorAll(".cause")) {
      cause.hidden = !cause.querySelector("li.c:not([hidden])");
    }
    for (const [section, heading, all] of sections) {
      const left = section.querySelectorAll("li.c:not([hidden])").length;
      section.hidden = left === 0;
      heading.textContent = wanted.length === 0 ? all : `${number.format(left)} of ${all}`;
    }
    found.textContent = wanted.length === 0 ? "" :
      count === 0 ? "Nothing matches." : `${number.format(count)} of ${number.format(entries.length)} match.`;
  };

  // #q=shop is a link to a search.
  const follow = () => {
    const asked = new URLSearchParams(location.hash.slice(1)).get("q");
    if (asked !== null && asked !== field.value) {
      field.value = asked;
      search();
    }
  };

  let soon = 0;
  field.addEventListener("input", () => {
    clearTimeout(soon);
    soon = setTimeout(() => {
      search();
      history.replaceState(null, "", field.value ? "#" + new URLSearchParams({ q: field.value }) : "#");
    }, 80);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", follow);
  form.hidden = sections.length === 0;
  follow();

  const made = document.querySelector("#as-of time");
  const counted = (count, unit) => `${number.format(count)} ${unit}${count === 1 ? "" : "s"} ago`;
  const age = () => {
    const minutes = Math.floor((Date.now() - Date.parse(made.dateTime)) / 60000);
    const hours = Math.floor(minutes / 60);
    at("age").textContent = ", " + (minutes < 1 ? "just now" : minutes < 90 ? counted(minutes, "minute")
      : hours < 48 ? counted(hours, "hour") : counted(Math.floor(hours / 24), "day"));
  };
  if (made) {
    age();
    setInterval(age, 60000);
  }
})();
