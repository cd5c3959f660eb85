// Creates elements. Texts become text nodes only, so a prompt is never interpreted as markup.

/** Create an element with properties, attributes (`data-…`, `aria-…`, `role`) and children; null children are ignored. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key in made && !key.includes("-")) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const numbers = new Intl.NumberFormat();

/** Return a count with its noun: "1 image", "1,200 images". */
export function counted(count, thing) {
  return `${numbers.format(count)} ${thing}${count === 1 ? "" : "s"}`;
}

/** Format a size in bytes. */
export function bytesText(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Format an amount of money, with as many decimals as small amounts need. */
export function moneyText(amount, currency) {
  const digits = amount !== 0 && Math.abs(amount) < 0.01 ? 6 : 4;
  return `${amount.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: digits })} ${currency}`;
}

/** Format a time in the user's locale. */
export function momentText(iso) {
  const moment = new Date(iso);
  return Number.isNaN(moment.getTime()) ? iso : moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
