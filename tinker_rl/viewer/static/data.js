/* The runs' data: blobs, unpacked when they are asked for. In a file they are compressed text of the page, on a server addresses. */
((Tinker) => {
  "use strict";

  const { breathe } = Tinker.dom;
  const CHUNKS_KEPT = 64;
  const page = JSON.parse(document.getElementById("tinker-data").textContent);
  const cache = new Map();
  const elements = new Map();

  distinguish(page.runs);

  /** Gives runs of the same name the folder that theirs lies in, and a number where that is the same too. */
  function distinguish(runs) {
    const again = (names) => (name, i) => names.indexOf(name) !== i || names.lastIndexOf(name) !== i;
    const named = (write) => {
      const names = runs.map((run) => run.name);
      const isAgain = names.map(again(names));
      runs.forEach((run, i) => isAgain[i] && (run.name = write(run, names.slice(0, i + 1))));
    };
    named((run) => [...run.path.split("/").slice(-2, -1), run.name].join("/"));
    named((run, names) => `${run.name} (${names.filter((name) => name === run.name).length})`);
  }

  /** A run's name where there is little room: without the words that all names begin with, if those are long. */
  function brief(name) {
    const names = page.runs.map((run) => run.name);
    let shared = names[0];
    for (const other of names) while (!other.startsWith(shared)) shared = shared.slice(0, -1);
    shared = shared.replace(/[^-_./ ]*$/, "");
    return names.length > 1 && shared.length >= 8 ? `…${name.slice(shared.length)}` : name;
  }

  /** The run with this id, or null. */
  const run = (id) => page.runs.find((r) => r.id === id) || null;

  /** The run that the address names, or the first. */
  const current = () => run(Tinker.state.get("run")) || page.runs[0];

  /** The blob's value, or null where the page has none of this name. Rejects when it cannot be read. */
  function blob(name) {
    if (cache.has(name)) {
      const kept = cache.get(name);
      cache.delete(name); // asked for last, thrown away last
      cache.set(name, kept);
      return kept;
    }
    const loaded = page.mode === "serve" ? fromServer(name) : fromPage(name);
    cache.set(name, loaded);
    loaded.catch(() => cache.delete(name));
    forgetOldChunks();
    return loaded;
  }

  function forgetOldChunks() {
    const chunks = [...cache.keys()].filter((name) => name.includes("/chunk/"));
    for (const name of chunks.slice(0, Math.max(0, chunks.length - CHUNKS_KEPT))) cache.delete(name);
  }

  async function fromServer(name) {
    const response = await fetch(`blobs/${name}`, { cache: "no-store" });
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
    return response.json();
  }

  async function fromPage(name) {
    const element = await find(name);
    if (!element) return null;
    const stream = new Blob([bytesOf(element.textContent.trim())])
      .stream()
      .pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  function bytesOf(base64) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const characters = atob(base64);
    const bytes = new Uint8Array(characters.length);
    for (let i = 0; i < characters.length; i++) bytes[i] = characters.charCodeAt(i);
    return bytes;
  }

  /** The element of a blob. While the page is still being read the element may be half there or not at all. */
  async function find(name) {
    for (;;) {
      const whole = document.readyState !== "loading";
      const known = elements.get(name);
      const element = known || document.querySelector(`script[data-blob="${CSS.escape(name)}"]`);
      if (element && (known || whole || element.nextSibling)) {
        elements.set(name, element);
        return element;
      }
      if (whole) return null;
      await breathe();
    }
  }

  /** Drops what is kept of a blob, or of all whose name begins so. */
  function forget(prefix) {
    for (const name of [...cache.keys()])
      if (name === prefix || (prefix.endsWith("/") && name.startsWith(prefix))) cache.delete(name);
  }

  Tinker.data = { page, brief, run, current, blob, forget };
})(window.Tinker);
