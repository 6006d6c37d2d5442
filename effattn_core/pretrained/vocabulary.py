"""Tokenizers by the `tokenizers` package, and the templates that chat models were trained on."""

# How the text is cut before pairs of pieces are merged, by GGUF's name for it. The patterns are those of the models.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"llama-bpe": WORDS + r"\p{N}{1,3}" + REST, "qwen2": WORDS + r"\p{N}" + REST}
CONTROL = 3  # GGUF's type of a token that is no text


def from_json(text, where):
    """The tokenizer of a tokenizer.json's bytes. Raises ValueError for one that cannot be read."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(text)
    except Exception as error:  # the package raises Exception itself
        raise ValueError(f"{where}: tokenizer.json cannot be read: {str(error)[:200]}") from None


def from_pieces(pieces, merges, kinds, cut, where):
    """A byte-level BPE tokenizer from a GGUF file's lists. cut: its "tokenizer.ggml.pre"."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    if cut not in (*PATTERNS, "smollm"):
        raise ValueError(f"{where}: tokenizer.ggml.pre must be smollm, {' or '.join(PATTERNS)}; it is {cut!r}.")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut == "smollm")
    first = (
        pre_tokenizers.Digits(individual_digits=True)
        if cut == "smollm"
        else pre_tokenizers.Split(Regex(PATTERNS[cut]), "isolated")
    )
    ids = {piece: number for number, piece in enumerate(pieces)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    wrong = next((pair for pair in pairs if len(pair) != 2 or "".join(pair) not in ids), None)
    if wrong is not None or len(ids) < len(pieces):
        what = "two tokens are the same" if wrong is None else f"the merge {' '.join(wrong)!r:.60} makes no token"
        raise ValueError(f"{where}: the tokenizer is damaged: {what}.")
    tokenizer = Tokenizer(models.BPE(ids, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in special])
    return tokenizer


def rendered(template, messages, reply):
    """A chat template around messages, in Jinja's sandbox: a template is a program, and may come from anywhere."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if not isinstance(template, str):
        raise ValueError("this model has no chat template: encode plain text.")

    def refused(sentence):
        raise ValueError(f"the chat template refuses these messages: {sentence}")

    room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    room.globals.update(raise_exception=refused)
    try:
        return room.from_string(template).render(
            messages=messages, add_generation_prompt=reply, bos_token="", eos_token=""
        )
    except TemplateError as error:
        raise ValueError(f"the chat template cannot be filled in: {error}") from None
