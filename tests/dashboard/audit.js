() => {
  const wrong = [];
  const name = (element) => element.getAttribute("aria-label") || element.innerText?.trim() || element.getAttribute("alt")
    || (element.id && document.querySelector(`label[for="${element.id}"]`)?.innerText)
    || element.closest("label")?.innerText?.trim() || "";
  const visible = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;

  // WCAG 4.1.2 and 1.1.1: everything that can be used, and every picture, has a name.
  for (const element of document.querySelectorAll("button, a, input, select, [role=img], [role=region], dialog")) {
    const labelled = element.getAttribute("aria-labelledby");
    if (!name(element) && !(labelled && document.getElementById(labelled))) wrong.push(`no name: ${element.outerHTML.slice(0, 120)}`);
  }
  for (const picture of document.querySelectorAll("img")) if (!picture.hasAttribute("alt")) wrong.push("a picture without alt");
  // 1.3.1: tables say what they are and what their columns and rows are; headings do not leap.
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption?.innerText) wrong.push("a table without a caption");
    for (const head of table.querySelectorAll("th")) if (!head.scope) wrong.push(`no scope: ${head.innerText}`);
  }
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    if (heading.closest("dialog")) continue;
    const next = Number(heading.tagName[1]);
    if (next > level + 1) wrong.push(`heading leaps: ${heading.innerText}`);
    level = next;
  }
  if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
  if (!document.documentElement.lang) wrong.push("no language");
  if (!document.querySelector("main") || !document.querySelector("nav[aria-label]")) wrong.push("no landmarks");
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) wrong.push(`twice: #${id}`);
  for (const element of document.querySelectorAll("[aria-labelledby]")) {
    if (!document.getElementById(element.getAttribute("aria-labelledby"))) wrong.push("labelled by nothing");
  }
  // Live regions tell little, or nobody can listen.
  if (document.querySelectorAll("[aria-live], [role=status], [role=alert]").length > 4) wrong.push("too many live regions");

  // 1.4.3: contrast of every text with the ground it stands on.
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = channels(colour).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((channels(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const told = new Set();
  const check = (element, colour) => {
    const [one, other] = [light(colour), light(ground(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    const size = parseFloat(getComputedStyle(element).fontSize), bold = Number(getComputedStyle(element).fontWeight) >= 700;
    const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const what = `contrast ${ratio.toFixed(2)} of ${element.tagName}.${element.getAttribute("class")} "${element.textContent.trim().slice(0, 30)}"`;
    if (ratio < least && !told.has(what)) { told.add(what); wrong.push(what); }
  };
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !visible(element) || element.closest(".unseen, noscript, option")) continue;
    check(element, element instanceof SVGElement ? getComputedStyle(element).fill : getComputedStyle(element).color);
  }
  return wrong;
}
