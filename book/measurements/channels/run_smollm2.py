"""Which key channels does SmolLM2 need? LeanK's two stages on it, judged beside rules that need no training.

python book/measurements/channels/run_smollm2.py     writes smollm2-cpu.json or smollm2-gpu.json beside this file

A prompt is read whole, as in deployment; the tokens after it read the prompt's middle by the channels that are kept. A
part that is done is kept in .cache/runs/channels: an interrupted command goes on after the last.
"""

import functools

import torch
from torch.nn import functional

from effattn_core.channels import build_mask, masked
from effattn_core.channels import training as channels_training
from effattn_core.measurements import RUNS, once, record_pretrained
from effattn_core.pretrained import probe
from effattn_core.rectified.cache import kl_divergence
from effattn_core.states import KeyValueCache

PASSAGES, PROMPT, SCORED = 3, 1024, 256
LESSONS, LESSON = 5, 512  # passages to learn from, for each one that is judged, and their tokens
FIRST, SECOND, RATE = 50, 10, 0.04  # steps of the two stages; the published rate of the smaller of its models
SHARES, ENDS = (0.3, 0.5, 0.7), dict(sinks=4, recent=64)
WIDTHS = 4  # channels are kept by quarters of a head, as in the release: 16 of 64, 32 of 128
DEPTHS, NUMBERS, NEEDLE_TOKENS = (0.1, 0.35, 0.6, 0.85), 2, 768


class ThinCache(KeyValueCache):
    """A cache whose middle is read by the channels of `kept` alone, bool [key_heads, head_dim]."""

    def __init__(self, *shape, kept, **settings):
        super().__init__(*shape, **settings)
        self.kept = kept

    def look(self, query):
        return masked(query, self.key, self.value, self.kept, **ENDS).output


def importances(model, texts, first=FIRST, second=SECOND, shares=SHARES):
    """Stage 1 once, under "1", and stage 2 from it for each share, under "2 <share>": [layers, key_heads, head_dim]."""
    model.requires_grad_(False)
    wanted = [channels_training.hidden_states(model, text[None]) for text in texts]
    turn = 0

    def distance(factors):
        nonlocal turn
        number, turn = turn % len(texts), turn + 1
        ours = channels_training.hidden_states(model, texts[number][None], factors, **ENDS)
        loss = functional.mse_loss(ours, wanted[number])
        print(f"step {turn}: distance {loss.item():.4f}, mean importance {factors.mean().item():.3f}", flush=True)
        return loss

    sizes = model.sizes
    start = torch.ones(sizes.layers, sizes.key_value_heads, sizes.head_dim, device=model.head.weight.device)
    quiet = dict(progress=False)
    penalty = channels_training.PENALTY
    found = {"1": channels_training.descend(distance, start, steps=first, learning_rate=RATE, penalty=penalty, **quiet)}
    for share in shares:
        hard = dict(steps=second, learning_rate=RATE / 2, pruned=share, align=sizes.head_dim // WIDTHS)
        found[f"2 {share}"] = channels_training.descend(distance, found["1"], **hard, **quiet)
    return found


def masks(model, texts, found, shares=SHARES):
    """(rule, share pruned, mask) of every rule at every share, and first a mask that keeps everything."""
    shape, device = found["1"].shape, texts.device
    rules = {
        "learned, stage 1": found["1"],
        "sizes of q and k": channels_training.by_norm(model, texts[:4]),
        "random": torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device),
        "slowest pairs": channels_training.by_frequency(shape).to(device),
        "fastest pairs": channels_training.by_frequency(shape, fastest=True).to(device),
    }
    yield "dense", 0.0, torch.ones_like(found["1"], dtype=torch.bool)
    for share in shares:
        for rule, importance in {"learned, two stages": found[f"2 {share}"], **rules}.items():
            yield rule, share, build_mask(importance.detach(), share, model.sizes.head_dim // WIDTHS)


def mask_rows(made):
    """What each mask keeps: all in all, of each eighth of the rotary pairs, fastest first, of each layer and head."""
    return [
        {"what": "mask", "rule": rule, "pruned": share, "kept": round(mask.float().mean().item(), 4),
         "empty": round((~mask.any(-1)).float().mean().item(), 4),
         "eighths": [round(each, 4) for each in mask.float().mean((0, 1)).view(8, -1).mean(1).tolist()],
         "counts": mask.sum(-1).tolist()}
        for rule, share, mask in made
    ]  # fmt: skip


def importance_rows(found):
    """Importances of each layer and rotary pair, means over heads and the pair's channels; the shares at 0 and 1."""
    return [
        {"what": "importance", "stage": stage, "zero": round((values == 0).float().mean().item(), 4),
         "one": round((values == 1).float().mean().item(), 4),
         "pairs": [[round(each, 3) for each in layer] for layer in values.unflatten(-1, (-1, 2)).mean((1, 3)).tolist()]}
        for stage, values in found.items()
    ]  # fmt: skip


@torch.no_grad()
def followed(model, recorded, tokens, mask):
    """Logits of tokens after a prompt whose caches are recorded: [tokens, vocabulary]."""
    states = []
    for state, kept in zip(recorded, mask, strict=True):
        batch, heads, length, head_dim = state.key.shape
        states.append(ThinCache(batch, heads, length + len(tokens), head_dim, kept=kept, device=state.key.device))
        states[-1].append(state.key, state.value)
    return model(tokens[None], states)[0][0].float()


@torch.no_grad()
def text_rows(model, made, text, passage, prompt=PROMPT):
    """Loss and KL to dense of the tokens after a prompt, nats per token: a row per mask."""
    recorded, rows, dense = probe.recorded(model, text[None, :prompt]), [], None
    for rule, share, mask in made:
        logits = followed(model, recorded, text[prompt:-1], mask)
        dense = logits if dense is None else dense
        loss, kl = functional.cross_entropy(logits, text[prompt + 1 :]), kl_divergence(dense, logits).mean()
        rows.append({"what": "text", "rule": rule, "pruned": share, "passage": passage,
                     "kept": round(mask.float().mean().item(), 4), "loss": round(loss.item(), 4),
                     "kl": round(kl.item(), 6)})  # fmt: skip
        print(f"passage {passage}, {rule} at {share}: {loss:.3f} nats per token, KL {kl:.3f}", flush=True)
    return rows


@torch.no_grad()
def needle_rows(model, tokenizer, made, text, tokens=NEEDLE_TOKENS, numbers=NUMBERS):
    """Is a number of five digits found that stood in the prompt? A row per mask: how many whole, how many digits."""
    found = {(rule, share): [] for rule, share, _ in made}
    for number, hidden in enumerate(probe.hidden_numbers(tokenizer, text, tokens, numbers=numbers, depths=DEPTHS)):
        for read, given, answer in hidden:
            recorded = probe.recorded(model, read[None])
            for rule, share, mask in made:
                right = followed(model, recorded, given, mask).argmax(-1) == answer
                found[rule, share].append((bool(right.all()), right.float().mean().item()))
        print(f"needles: {number + 1} of {numbers} numbers", flush=True)
    return [
        {"what": "needle", "rule": rule, "pruned": share, "tokens": tokens, "asked": len(each),
         "found": sum(whole for whole, _ in each), "digits": round(sum(part for _, part in each) / len(each), 4)}
        for (rule, share), each in found.items()
    ]  # fmt: skip


def main(source="smollm2", passages=PASSAGES, prompt=PROMPT, scored=SCORED, lesson=LESSON, lessons=LESSONS,
         first=FIRST, second=SECOND, needle=NEEDLE_TOKENS, numbers=NUMBERS, folder=None, target=None):  # fmt: skip
    folder = folder or RUNS / "channels"

    def parts(model, tokenizer):
        each = lessons + 1
        texts = probe.passages(tokenizer, passages * each, prompt + scored + 1).to(model.head.weight.device)
        judged = texts[each // 2 :: each]
        learned = torch.stack([text[:lesson] for n, text in enumerate(texts) if n % each != each // 2])

        @functools.cache
        def stages():
            path = folder / f"smollm2-importance-{len(learned)}-{lesson}-{first}-{second}.pt"
            return once(path, lambda: importances(model, learned, first, second))

        @functools.cache
        def made():
            return list(masks(model, learned, stages()))

        yield f"masks-{first}-{second}", lambda: [*mask_rows(made()), *importance_rows(stages())]
        for passage, text in enumerate(judged):
            yield (
                f"text-{passage}-{prompt}-{scored}-{first}-{second}",
                lambda text=text, passage=passage: text_rows(model, made(), text, passage, prompt),
            )
        yield (
            f"needle-{needle}-{numbers}-{first}-{second}",
            lambda: needle_rows(model, tokenizer, made(), judged[0], needle, numbers),
        )

    record_pretrained(__file__, parts, source=source, context=prompt + scored + 1, folder=folder, target=target)


if __name__ == "__main__":
    main()
