"""Serve the built pages on this machine, so that kernels run on them: browsers start no Python from a file.

python book/_ext/lab_serve.py _build/html [PORT]      http://localhost:8000/ unless another port is named
"""

import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from repository import BUILT, require_built

PORT = 8000


class Handler(SimpleHTTPRequestHandler):
    """Files with the types that modules and wasm need, whatever this system thinks of their names."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *given):
        """Nothing: a reader has no use for a line per file."""


def server(folder, port=PORT):
    """A server of `folder` for this machine alone. Raises OSError if the port is taken; 0 takes a free one."""
    return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=str(folder)))


def main(folder=BUILT, port=PORT):
    require_built(Path(folder))
    try:
        running = server(folder, int(port))
    except OSError as error:
        sys.exit(f"port {port} cannot be used ({error.strerror}): make serve PORT=8001 takes another.")
    with running:
        print(f"the book is at  http://localhost:{running.server_port}/  until Ctrl+C", flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main(*sys.argv[1:])
