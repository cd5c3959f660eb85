// The dialog with the details of one card, and buttons to the previous and the next card.

import { billedBadge, description, title } from "./cards.js";
import { bytesText, element, moneyText, momentText } from "./elements.js";
import { airflowAddress, copy, freeFromFrame, imageAddress } from "./places.js";

const find = (id) => document.getElementById(id);

export class Detail {
  /**
   * @param {object} list the cards: `at(position)`, `count`, `hasMore`, and `more()` which loads some
   * @param {(card: object) => HTMLElement | undefined} buttonOf the button that gets the focus when the dialog is closed
   */
  constructor(list, buttonOf) {
    this.list = list;
    this.buttonOf = buttonOf;
    this.position = 0;
    this.dialog = find("detail");
    freeFromFrame(find("download"));
    find("close").addEventListener("click", () => this.dialog.close());
    find("previous").addEventListener("click", () => this.go(-1));
    find("next").addEventListener("click", () => this.go(1));
    this.dialog.addEventListener("keydown", (event) => this.onKey(event));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => this.onClose());
  }

  get isOpen() {
    return this.dialog.open;
  }

  open(position) {
    this.position = position;
    this.show();
    this.dialog.showModal();
    find("close").focus();
  }

  async go(by) {
    const wanted = this.position + by;
    if (wanted >= this.list.count && this.list.hasMore) await this.list.more();
    if (wanted < 0 || wanted >= this.list.count) return;
    this.position = wanted;
    this.show();
  }

  onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      event.preventDefault();
      this.go(by);
    }
  }

  onClose() {
    find("stage").replaceChildren();
    const button = this.buttonOf(this.list.at(this.position));
    button?.scrollIntoView({ block: "nearest" });
    button?.focus();
  }

  show() {
    const card = this.list.at(this.position);
    const isImage = card.kind === "image";
    find("detail-title").textContent = isImage ? card.name || title(card) : card.code;
    find("detail-position").textContent = `${this.position + 1} of ${this.list.count}${this.list.hasMore ? "+" : ""}`;
    find("previous").disabled = this.position === 0;
    find("next").disabled = this.position + 1 >= this.list.count && !this.list.hasMore;
    showDownload(card);
    find("stage").replaceChildren(isImage ? image(card) : failure(card));
    find("facts").replaceChildren(...facts(card));
    find("facts").scrollTop = 0;
  }
}

function showDownload(card) {
  const link = find("download");
  link.hidden = card.kind !== "image";
  if (link.hidden) {
    link.removeAttribute("href");
    return;
  }
  link.href = imageAddress(card, "download");
  link.setAttribute("download", "");
}

function image(card) {
  if (card.has_thumbnail === false) {
    return element("p", { className: "muted" }, "svg images may contain scripts and are not displayed. Download the image to view it.");
  }
  const box = element("div", { className: "stage__image" });
  box.style.setProperty("--width", `${card.width}px`);
  box.style.setProperty("--ratio", String(card.width / card.height));
  const small = element("img", { alt: "", className: "stage__small", "aria-hidden": "true", src: imageAddress(card, "thumbnail") });
  const whole = element("img", { alt: description(card), className: "stage__whole", width: card.width, height: card.height });
  whole.addEventListener("load", () => box.classList.add("is-loaded"));
  whole.addEventListener("error", () => {
    whole.remove();
    box.append(element("p", { className: "stage__note", role: "alert" }, "The image cannot be loaded. It may have been deleted from S3, or your browser cannot reach S3."));
  });
  whole.src = imageAddress(card);
  box.append(small, whole);
  return box;
}

function failure(card) {
  return element(
    "div",
    { className: "stage__failure" },
    element("p", { className: "stage__code" }, card.code),
    element("p", {}, card.message),
    card.advice ? element("p", {}, card.advice) : null,
    element("p", {}, billedBadge(card) ?? ""),
  );
}

function facts(card) {
  const shown = [
    prose("Prompt", card.prompt),
    card.revised_prompt !== card.prompt ? prose("Revised prompt", card.revised_prompt) : null,
    element(
      "dl",
      {},
      ...fact("Model", [card.model, card.gateway && `at ${card.gateway}`].filter(Boolean).join(" ")),
      ...fact("Size", sizeText(card)),
      ...fact("Cost", costText(card)),
      ...fact("Tokens", pairs(card.usage)),
      ...fact("Parameters", pairs(card.parameters)),
      ...fact("Differs from request", pairs(card.differs)),
      ...fact(card.kind === "image" ? "Created" : "Failed", card.created_at && momentText(card.created_at)),
      ...fact("DAG", card.dag_id),
      ...linked("Run", card.run_id, airflowAddress(card, "run")),
      ...linked("Task", card.task_id && card.task_id + (card.map_index >= 0 ? ` [${card.map_index}]` : ""), airflowAddress(card, "task")),
      ...fact("Row", card.row === undefined ? "" : `${card.row}${card.name ? ` (${card.name})` : ""}`),
      ...copied("Gateway task id", card.gateway_task_id),
      ...copied("Trace id", card.trace_id),
      ...copied("S3 URI", card.uri),
    ),
  ];
  return shown.filter(Boolean);
}

function sizeText(card) {
  if (!card.width) return "";
  const type = (card.content_type ?? "").replace("image/", "").replace("svg+xml", "svg");
  return [`${card.width} × ${card.height}`, bytesText(card.bytes), type].filter(Boolean).join(", ");
}

function costText(card) {
  const isKnown = card.cost !== undefined && card.cost !== null;
  const amount = isKnown ? moneyText(card.cost, card.currency ?? "") : "";
  if (card.reused) return isKnown ? `${amount}, paid earlier` : "paid earlier";
  return amount;
}

function pairs(values) {
  const text = (value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : String(value));
  return Object.entries(values ?? {}).map(([name, value]) => `${name.replaceAll("_", " ")} ${text(value)}`).join(", ");
}

function prose(name, text) {
  if (!text) return null;
  return element(
    "section",
    { className: "prose" },
    element("h3", {}, name, copyButton(name, text)),
    element("p", { dir: "auto" }, text),
  );
}

function fact(name, text) {
  return text ? [element("dt", {}, name), element("dd", {}, text)] : [];
}

function linked(name, text, address) {
  if (!text) return [];
  const link = element("a", { href: address }, text);
  freeFromFrame(link);
  return [element("dt", {}, name), element("dd", {}, link)];
}

function copied(name, text) {
  if (!text) return [];
  return [
    element("dt", { className: "wide" }, name, copyButton(name, text)),
    element("dd", { className: "wide" }, element("code", {}, text)),
  ];
}

function copyButton(name, text) {
  const button = element("button", { type: "button", className: "button button--small", "aria-label": `Copy ${name}` }, "Copy");
  const status = element("span", { className: "hidden", role: "status" });
  button.addEventListener("click", async () => {
    try {
      await copy(text);
      button.textContent = "Copied";
      status.textContent = `${name} copied`;
    } catch (error) {
      button.textContent = "Copy failed";
      status.textContent = String(error.message ?? error);
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return element("span", { className: "copy" }, button, status);
}
