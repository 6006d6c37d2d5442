/* The worker behind the editors of a page (lab.js): Pyodide's core and the book's own Triton, from this site alone.

   In: {id, kind: "run" | "check", request}, request as JSON (book/_ext/lab/lab_worker.py says what is in it).
   Out: {loaded, total} in bytes while it fetches, {id, running} once Python is there, {id, printed} of new text that is
   printed, and then {id, answer} in JSON or {id, failed} in words. It is stopped by being terminated: a loop without end
   leaves it no other moment. It is a module worker: Pyodide knows no other. */
(() => {
  "use strict";

  const HERE = self.location.href;
  const STEP = 200_000; // bytes between two words about progress
  let python; // a promise of the functions of lab_worker.py, made by the first request

  // The loaded share of what lab.json counts, told as it comes. A script is imported, not fetched: it is left out.
  function count(sizes) {
    const fetched = Object.entries(sizes).filter(([name]) => !name.endsWith(".mjs"));
    const total = fetched.reduce((sum, [, size]) => sum + size, 0);
    const plain = self.fetch.bind(self);
    let [loaded, told] = [0, 0];
    function tell(size) {
      loaded += size;
      if (loaded - told < STEP && loaded < total) return;
      told = loaded;
      self.postMessage({loaded, total});
    }
    self.fetch = async (address, options) => {
      const answer = await plain(address, options);
      const name = new URL(address.url ?? address, HERE).pathname.split("/").pop();
      if (!Object.hasOwn(sizes, name)) return answer;
      if (!answer.ok) throw new Error(`${name} cannot be fetched: ${answer.status}`);
      const counted = answer.body.pipeThrough(new TransformStream({
        transform(chunk, controller) {
          tell(chunk.byteLength);
          controller.enqueue(chunk);
        },
      }));
      return new Response(counted, {status: answer.status, headers: answer.headers});
    };
  }

  async function start() {
    const vendor = new URL("vendor/lab/", HERE);
    const found = await (await self.fetch(new URL("lab.json", vendor), {cache: "no-cache"})).json();
    count(found.bytes);
    const core = new URL(`${found.pyodide}/`, vendor).href;
    const page = self.fetch(new URL(found.page, vendor)).then((answer) => answer.arrayBuffer());
    const {loadPyodide} = await import(`${core}pyodide.mjs`);
    const pyodide = await loadPyodide({indexURL: core});
    pyodide.unpackArchive(await page, "zip", {extractDir: "/page"});
    pyodide.runPython("import sys; sys.path.insert(0, '/page')");
    return pyodide.pyimport("lab_worker");
  }

  self.addEventListener("message", async ({data: {id, kind, request}}) => {
    try {
      python ??= start();
      const functions = await python;
      self.postMessage({id, running: true});
      functions.tell = (printed) => self.postMessage({id, printed});
      self.postMessage({id, answer: kind === "check" ? functions.check(request) : functions.run(request)});
    } catch (error) {
      python = undefined; // the next request tries anew
      self.postMessage({id, failed: String(error?.message ?? error)});
    }
  });
})();
