// URLs of images and pages, and navigation out of Airflow's frame. They are relative, so any mount path works.

/** The gallery's own root. */
export const gallery = new URL("../", import.meta.url);

/** The root of Airflow's UI. */
export const airflow = new URL("../", gallery);

/** Return the address of a card's image, of its small version, or of its download. */
export function imageAddress(card, kind = "") {
  const address = new URL(card.address + (kind ? `/${kind}` : ""), gallery);
  address.search = card.version;
  return address.href;
}

/** Return the address of the page in Airflow's UI about the task of a card, or about its run. */
export function airflowAddress(card, what) {
  const path = ["dags", card.dag_id, "runs", card.run_id];
  if (what === "task") {
    path.push("tasks", card.task_id);
    if (card.map_index >= 0) path.push("mapped", String(card.map_index));
  }
  return new URL(path.map(encodeURIComponent).join("/"), airflow).href;
}

/** Return the document that can navigate: the sandbox of Airflow's frame allows neither navigation nor downloads. */
function outermost() {
  try {
    return window.parent.document ?? document;
  } catch {
    return document;
  }
}

/** Make a link act from outside the frame. */
export function freeFromFrame(link) {
  link.addEventListener("click", (event) => {
    const outside = outermost();
    if (outside === document || !link.href) return;
    event.preventDefault();
    const clone = outside.createElement("a");
    clone.href = link.href;
    clone.rel = "noopener";
    if (link.hasAttribute("download")) clone.download = "";
    else if (event.ctrlKey || event.metaKey || event.shiftKey) clone.target = "_blank";
    outside.body.append(clone);
    clone.click();
    clone.remove();
  });
}

/** Copy a text, also where the page is not on https. */
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.readOnly = true;
  area.className = "hidden";
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (!isCopied) throw new Error("The browser does not allow the page to copy text.");
}
