"""Where the Triton of the page is imported from."""

import sys

from support.house import ROOT

sys.path.append(str(ROOT / "book"))
