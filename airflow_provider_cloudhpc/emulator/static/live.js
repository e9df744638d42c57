// SPDX-License-Identifier: Apache-2.0
// Refreshes the page's content in place, without an API call; a log that was scrolled to its end stays there.
const content = document.getElementById("content");
const light = document.getElementById("live");

// A click on a link that is taken away under it would be lost.
let pressed = false;
addEventListener("pointerdown", () => (pressed = true));
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(() => (pressed = false)));

function logEnd() {
  const log = content.querySelector(".log");
  if (log) log.scrollTop = log.scrollHeight;
}

async function refresh() {
  try {
    const answer = await fetch(content.dataset.live, { credentials: "same-origin" });
    if (answer.status === 401) location.reload(); // the emulator was started anew
    if (!answer.ok) throw new Error(answer.status);
    const { html } = await answer.json();
    const log = content.querySelector(".log");
    const position = log && log.scrollHeight - log.scrollTop - log.clientHeight > 20 ? log.scrollTop : null;
    if (!pressed && !window.getSelection().toString()) {
      const scrolled = [...content.querySelectorAll(".card")].map((card) => card.scrollLeft);
      const focused = content.contains(document.activeElement) && document.activeElement.getAttribute("href");
      content.innerHTML = html;
      content.querySelectorAll(".card").forEach((card, number) => (card.scrollLeft = scrolled[number] || 0));
      if (focused) content.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
      if (position === null) logEnd();
      else content.querySelector(".log").scrollTop = position;
    }
    light.className = "live";
    light.textContent = "live";
  } catch {
    light.className = "live lost";
    light.textContent = "not connected";
  }
}

if (content.dataset.live) {
  logEnd();
  setInterval(() => document.hidden || refresh(), 1500);
} else {
  light.remove();
}
