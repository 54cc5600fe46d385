// The page's language: messages, and numbers and dates as that language writes them.
import en from "./messages.en.js";
import vi from "./messages.vi.js";

const MESSAGES = { vi, en };
const said = new WeakMap(); // node -> what it says, to say it again in the other language

export let language = kept() ?? (navigator.language.startsWith("vi") ? "vi" : "en");

function kept() {
  try {
    const value = localStorage.getItem("vireo.language");
    return value in MESSAGES ? value : null;
  } catch {
    return null;
  }
}

const WRITTEN = {
  percent: (value) => new Intl.NumberFormat(language, { style: "percent" }).format(value),
  bytes: (value) => {
    const step = value >= 1e6 ? [1e6, "MB"] : value >= 1e3 ? [1e3, "kB"] : [1, "B"];
    return `${number(value / step[0], value >= 1e6 ? 1 : 0)} ${step[1]}`;
  },
  score: (value) =>
    new Intl.NumberFormat(language, { minimumFractionDigits: 3, maximumFractionDigits: 3 }).format(value),
  duration: (value) => {
    const [amount, unit] = value >= 5400 ? [value / 3600, "hour"] : value >= 90 ? [value / 60, "minute"] : [value, "second"];
    const options = { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 };
    return new Intl.NumberFormat(language, options).format(Math.max(1, Math.round(amount)));
  },
};

function number(value, digits) {
  const most = digits ?? (Math.abs(value) >= 10 ? 0 : 3);
  return new Intl.NumberFormat(language, { maximumFractionDigits: most }).format(value);
}

/** Write a date ("2024-05-17" or longer) as the language does; what is no date stays as it is. */
export function date(text) {
  const day = /^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d:\d\d))?/.exec(text);
  if (!day) return text;
  const time = new Date(Number(day[1]), Number(day[2]) - 1, Number(day[3]));
  const written = new Intl.DateTimeFormat(language, { dateStyle: "medium" }).format(time);
  return day[4] ? `${written}, ${day[4]}` : written;
}

/** Return the message of `key` with its values; `n` decides between one and several. */
export function t(key, values = {}) {
  let message = MESSAGES[language][key];
  if (message === undefined) throw new Error(`no message ${key} in ${language}`);
  if (typeof message === "object") {
    message = message[new Intl.PluralRules(language).select(values.n)] ?? message.other;
  }
  return message.replace(/\{(\w+)(?::(\w+))?\}/g, (_, name, how) => {
    const value = values[name];
    if (how) return WRITTEN[how](value);
    return typeof value === "number" ? number(value) : String(value ?? "");
  });
}

/** Let a node say a message, now and after a change of language. */
export function say(node, key, values) {
  node.dataset.t = key;
  if (values) said.set(node, values);
  else said.delete(node);
  node.textContent = t(key, values);
}

/** Give a node a name for screen readers, and a tip where it is a control; a `.tip` gets a tip alone. */
export function label(node, key, values) {
  node.dataset.tLabel = key;
  if (values) said.set(node, values);
  const text = t(key, values);
  if (!node.matches(".tip")) node.setAttribute("aria-label", text);
  if (node.matches("button, summary, a, .tip")) node.title = text;
}

/** Say everything on the page in the current language. */
export function translate() {
  for (const node of document.querySelectorAll("[data-t]")) {
    node.textContent = t(node.dataset.t, said.get(node));
  }
  for (const node of document.querySelectorAll("[data-t-label]")) {
    label(node, node.dataset.tLabel, said.get(node));
  }
  for (const node of document.querySelectorAll("[data-t-placeholder]")) {
    node.placeholder = t(node.dataset.tPlaceholder);
  }
  document.documentElement.lang = language;
}

/** Change to the other language, and keep the choice. */
export function switchLanguage() {
  language = language === "vi" ? "en" : "vi";
  try {
    localStorage.setItem("vireo.language", language);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  translate();
  document.dispatchEvent(new CustomEvent("language"));
}
