/* Runs Python in Pyodide as a page's worker does: node in_pyodide.mjs CORE ZIP SCRIPT ASKED prints answered(asked).

   CORE: the folder of Pyodide; ZIP: what lab_vendor.packed makes; SCRIPT: a file that defines the function `answered`;
   ASKED: a file, whose text it is given. */
import {readFileSync} from "node:fs";

const [core, zip, script, asked] = process.argv.slice(2);
const {loadPyodide} = await import(`${core}/pyodide.mjs`);
const pyodide = await loadPyodide({indexURL: core});
pyodide.unpackArchive(new Uint8Array(readFileSync(zip)), "zip", {extractDir: "/page"});
pyodide.runPython("import sys; sys.path.insert(0, '/page')");
pyodide.runPython(readFileSync(script, "utf8"));
console.log(pyodide.globals.get("answered")(readFileSync(asked, "utf8")));
