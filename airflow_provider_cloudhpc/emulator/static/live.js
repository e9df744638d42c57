// SPDX-License-Identifier: Apache-2.0
// Refreshes the page's content in place, without an API call; a log that was scrolled to its end stays there.
const content = document.getElementById("content");
const light = document.getElementById("live");

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
    if (!window.getSelection().toString()) {
      content.innerHTML = html;
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
