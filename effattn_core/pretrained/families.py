"""What config.json of each family means for a `Configuration`; a field that is not known is refused by name."""

import math

from effattn_core.pretrained.checkpoint import configured, number_of, size_of

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
SIZES = {
    "vocab_size": "vocabulary",
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "key_value_heads",
    "intermediate_size": "feed_forward",
    "max_position_embeddings": "context",
}
# Fields that change no number of a forward pass, or whose only value that this model computes is the one given.
HARMLESS = set(
    "_name_or_path architectures attention_dropout attn_implementation bos_token_id dtype eos_token_id id2label "
    "initializer_range is_llama_config label2id name_or_path output_attentions output_hidden_states pad_token_id "
    "problem_type return_dict rope_interleaved tokenizer_class torch_dtype transformers.js_config "
    "transformers_version unsloth_fixed unsloth_version unk_token_id use_cache _attn_implementation_autoset "
    "max_window_layers chunk_size_feed_forward is_encoder_decoder is_decoder add_cross_attention "
    "tie_encoder_decoder cross_attention_hidden_size finetuning_task".split()
)
ONLY = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "attention_bias": False,
    "pretraining_tp": 1,
    "partial_rotary_factor": 1.0,
    "use_sliding_window": False,
    "quantization_config": None,
    "use_qk_norm": None,
    "rope_interleaved": False,
}
ROTARY = {"rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
          "original_max_position_embeddings"}  # fmt: skip


def configuration(config, where):
    """The Configuration of a config.json, a dict. Raises ValueError for a family, field or value that is not known."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ValueError(f"{where}: model_type must be one of {', '.join(FAMILIES)}; it is {family!r}.")
    _require_known(config, where)
    sizes = {ours: size_of(config, theirs, where) for theirs, ours in SIZES.items() if config.get(theirs) is not None}
    for theirs, ours in SIZES.items():
        if ours not in sizes and ours != "key_value_heads":
            raise ValueError(f"{where}: the field {theirs} is missing.")
    sizes.setdefault("key_value_heads", sizes["heads"])
    if config.get("head_dim") is None and sizes["width"] % sizes["heads"]:
        raise ValueError(f"{where}: {sizes['heads']} heads do not divide the width {sizes['width']}; give head_dim.")
    head_dim = size_of(config, "head_dim", where) if config.get("head_dim") else sizes["width"] // sizes["heads"]
    base, speeds = rotary(config, head_dim, where)
    window = config.get("sliding_window") if family == "mistral" else None
    return configured(
        where,
        **sizes,
        head_dim=head_dim,
        window=None if window is None else size_of(config, "sliding_window", where),
        rotary_base=base,
        rotary_speeds=speeds,
        epsilon=number_of(config, "rms_norm_eps", where, 1e-6),
        tied=bool(config.get("tie_word_embeddings", False)),
        biases=family == "qwen2",
        head_norms=family == "qwen3",
    )


def _require_known(config, where):
    known = {*SIZES, *HARMLESS, *ONLY, "model_type", "head_dim", "rms_norm_eps", "tie_word_embeddings",
             "sliding_window", "rope_theta", "rope_scaling", "rope_parameters", "layer_types"}  # fmt: skip
    for name in config:
        if name not in known:
            raise ValueError(f"{where}: the field {name} is not known to this book, and may change what is computed.")
    for name, only in ONLY.items():
        if config.get(name, only) != only:
            raise ValueError(f"{where}: {name} must be {only!r} in this book's model; it is {config[name]!r}.")
    kind = "sliding_attention" if config.get("sliding_window") and config["model_type"] == "mistral" else None
    other = set(config.get("layer_types") or ()) - {kind or "full_attention"}
    if other:
        raise ValueError(f"{where}: layer_types must be alike in all layers; one is {sorted(other)[0]!r}.")


def rotary(config, head_dim, where):
    """(base, speeds or None) of a config's rotary positions, in its old form or its new one."""
    settings = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(settings, dict) or set(settings) - ROTARY:
        name = sorted(set(settings) - ROTARY)[0] if isinstance(settings, dict) else settings
        raise ValueError(f"{where}: the rotary setting {name} is not known to this book.")
    base = number_of({"rope_theta": 10000.0, **config, **settings}, "rope_theta", where)
    kind = settings.get("rope_type", settings.get("type", "default"))
    speeds = [base ** (-2 * pair / head_dim) for pair in range(head_dim // 2)]
    if kind == "default":
        return base, None
    factor = number_of(settings, "factor", where)
    if kind == "linear":
        return base, tuple(speed / factor for speed in speeds)
    if kind == "llama3":
        low, high = (number_of(settings, name, where) for name in ("low_freq_factor", "high_freq_factor"))
        trained = number_of(settings, "original_max_position_embeddings", where)
        return base, tuple(llama3_speed(speed, factor, low, high, trained) for speed in speeds)
    raise ValueError(f"{where}: rope_type must be default, linear or llama3; it is {kind!r}.")


def llama3_speed(speed, factor, low, high, trained):
    """A pair's speed in Llama 3.1: kept where it turns `high` times in `trained` tokens, 1 / factor where under `low`.

    In between the two are mixed, linearly in the number of turns.
    """
    turns = trained * speed / (2 * math.pi)
    mix = min(1.0, max(0.0, (turns - low) / (high - low)))
    return mix * speed + (1 - mix) * speed / factor
