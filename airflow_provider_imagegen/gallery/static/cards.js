// One card in the grid: a button with the thumbnail, or with the error.

import { element } from "./elements.js";
import { imageAddress } from "./places.js";

const NARROWEST = 0.72;
const WIDEST = 1.9;
const OF_FAILURE = 1.25;

const BILLED = { yes: "Billed", no: "Not billed", unknown: "Possibly billed" };

/** Return the identity of a card. */
export function identity(card) {
  return JSON.stringify([card.dag_id, card.run_id, card.task_id, card.map_index, card.row, card.index, card.kind, card.name]);
}

/** Return a one-line description of a card. */
export function description(card) {
  return card.prompt || card.revised_prompt || card.name || title(card);
}

/** Return the position of a card in its task. Images and rows count from 0, as in keys, URLs and manifests. */
export function title(card) {
  if (card.row !== undefined) return `${card.task_id}, row ${card.row}`;
  return card.index === undefined ? card.task_id || card.run_id : `${card.task_id}, image ${card.index}`;
}

/** Return the billing state as an element; nothing if it is not known what was asked for. */
export function billedBadge(card) {
  return BILLED[card.billed] ? element("span", { className: `badge badge--${card.billed}` }, BILLED[card.billed]) : null;
}

/** Make the list item of a card; its button calls `open`. */
export function cardItem(card, { withDag, open }) {
  const isImage = card.kind === "image";
  const button = element(
    "button",
    { type: "button", className: "card__button" },
    isImage ? frame(card) : failure(card),
    element("span", { className: "card__prompt", dir: "auto", "aria-hidden": isImage ? "true" : null }, description(card)),
    element("span", { className: "card__meta" }, ...meta(card, withDag)),
  );
  button.addEventListener("click", () => open(card, button));
  const item = element("li", { className: isImage ? "card" : "card card--failure" }, button);
  item.style.setProperty("--ratio", String(isImage ? ratio(card) : OF_FAILURE));
  return item;
}

function ratio(card) {
  const natural = card.width && card.height ? card.width / card.height : 1;
  return Math.min(WIDEST, Math.max(NARROWEST, natural)).toFixed(3);
}

function frame(card) {
  const box = element("span", { className: "card__frame" });
  if (card.has_thumbnail === false) {
    box.append(element("span", { className: "card__note" }, "svg image: download only"));
    return box;
  }
  const image = element("img", { alt: description(card), decoding: "async", loading: "lazy", width: card.width, height: card.height });
  image.addEventListener("error", () => {
    image.remove();
    box.append(element("span", { className: "card__note", role: "img", "aria-label": `${description(card)} (no preview)` }, "No preview"));
  });
  image.src = imageAddress(card, "thumbnail");
  box.append(image);
  return box;
}

function failure(card) {
  return element(
    "span",
    { className: "card__frame card__failure" },
    element("span", { className: "card__code" }, card.code),
    element("span", { className: "card__message" }, card.message),
    card.advice ? element("span", { className: "card__advice" }, card.advice) : null,
    billedBadge(card),
  );
}

function meta(card, withDag) {
  const mapped = card.map_index >= 0 ? `[${card.map_index}]` : "";
  const parts = [withDag ? card.dag_id : `${card.task_id}${mapped}`, card.name, card.model].filter(Boolean);
  return [
    element("span", { className: "card__place" }, parts.join(" · ")),
    card.reused ? element("span", { className: "card__mark" }, "\u00a0· paid earlier") : null,
  ];
}
