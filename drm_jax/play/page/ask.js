// What the page asks its server, and what it says where something goes wrong.

export function problem(text) {
  const place = document.getElementById("problem");
  place.textContent = text;
  place.hidden = !text;
}

const ENDED = "drm play doesn't answer: is it still running?";

async function answered(path, body, signal) {
  const settings = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, { ...settings, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(ENDED, { cause: error });
  }
  if (response.ok) return response;
  let words = `the server answered ${response.status}`;
  try { words = (await response.json()).error || words; } catch { /* no JSON */ }
  throw new Error(words);
}

export const ask = async (path, body) => (await answered(path, body)).json();

// The events of a job, as they come, until it ends or is aborted; then the server stops it. The last one is
// "end" or "error", or drm play has ended.
export async function follow(path, body, signal, take) {
  const reader = (await answered(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => { throw error.name === "AbortError" ? error : new Error(ENDED, { cause: error }); });
      if (done && !ended) throw new Error(ENDED);
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const event = JSON.parse(line);
        ended ||= event.event === "end" || event.event === "error";
        if (!signal.aborted) take(event);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Runs something that may fail; what went wrong is said on the page. quiet: what was said before stays.
export async function trying(act, quiet = false) {
  if (!quiet) problem("");
  try {
    return await act();
  } catch (error) {
    if (error.name !== "AbortError") problem(error.message);
    return undefined;
  }
}

export function download(name, value) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(value)], { type: "application/json" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export const seed = () => Math.floor(Math.random() * 2 ** 31);
export const waiting = ({ before }) => (before ? `waiting for ${counted(before, "other request")} …` : "getting ready …");
