"""Random numbers by counter, Philox4x32-10 (Salmon et al. 2011): what is drawn depends on where, never on when.

An element's number follows from a seed and its place among all elements, so that rounding is the same whatever the
order, the grid, the number of devices, or a stop between two steps. Equal, bit by bit, to Triton's `tl.randint4x`.
"""

import torch

from effattn_core.calls import require_count

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
INCREMENTS = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
LOW = 0xFFFFFFFF
UNIT = 4.6566127342e-10  # a little less than 2**-31: a product is never 1
LARGEST_SEED = 2**63 - 1


def require_seed(seed: int) -> None:
    """Raise ValueError unless `seed` is a whole number from 0 to LARGEST_SEED."""
    require_count("seed", seed, 0)
    if seed > LARGEST_SEED:
        raise ValueError(f"seed must be below 2**63; it is {seed}.")


def words(seed: torch.Tensor | int, call: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The four 32-bit words of each call, as int64 in [0, 2**32), of the shape of `call`.

    seed: in [0, 2**63), a number or int64 that broadcasts with call. call: int64, the counter, at least 0.
    """
    seed = torch.as_tensor(seed, dtype=torch.int64, device=call.device)
    key = [seed & LOW, seed >> 32]
    counter = [call & LOW, call >> 32, torch.zeros_like(call), torch.zeros_like(call)]
    for _ in range(ROUNDS):
        # A product of 32-bit numbers fills 64 bits: int64 wraps, and shifting and masking find its halves again.
        even, odd = counter[0] * MULTIPLIERS[0], counter[2] * MULTIPLIERS[1]
        counter = [
            (odd >> 32 & LOW) ^ counter[1] ^ key[0],
            odd & LOW,
            (even >> 32 & LOW) ^ counter[3] ^ key[1],
            even & LOW,
        ]
        key = [(each + increment) & LOW for each, increment in zip(key, INCREMENTS, strict=True)]
    return tuple(counter)


def element_words(seed: torch.Tensor | int, first: torch.Tensor | int, count: int, *, aligned: bool = False):
    """The word of each of `count` elements from the global place `first` on: int64 [..., count] in [0, 2**32).

    Four elements share a call: element i takes word i mod 4 of call i // 4. seed, first: numbers, or int64 [...].
    aligned: the caller's word that every `first` is a multiple of 4, which spares a gather.
    """
    first = torch.as_tensor(first, dtype=torch.int64)
    seed = torch.as_tensor(seed, dtype=torch.int64, device=first.device)[..., None]
    places = torch.arange(count, device=first.device)
    more = 0 if aligned else 1
    calls = first[..., None] // 4 + torch.arange((count + 3) // 4 + more, device=first.device)
    drawn = torch.stack(words(seed, calls), -1).flatten(-2)
    if aligned:
        return drawn[..., :count]
    places = first[..., None] % 4 + places
    return drawn.gather(-1, places.expand(*drawn.shape[:-1], count))


def uniform(word: torch.Tensor) -> torch.Tensor:
    """A word as float32 in [0, 1), as Triton's `uint_to_uniform_float` makes it."""
    signed = word.to(torch.int32)  # which wraps
    return (signed ^ signed >> 31).float() * UNIT  # x where it is positive, else -x - 1


def uniforms(seed: torch.Tensor | int, first: torch.Tensor | int, count: int, *, aligned: bool = False) -> torch.Tensor:
    """`element_words` as float32 in [0, 1), [..., count]."""
    return uniform(element_words(seed, first, count, aligned=aligned))


def derived(seed: int, step: int, stream: int, purpose: int) -> int:
    """A seed in [0, 2**63) for one use: of a run's seed, its step, a stream (a parameter) and what it is drawn for.

    Mixed by the finaliser of splitmix64 (Steele et al. 2014), one part after the other.
    """
    require_seed(seed)
    mask, mixed = 2**64 - 1, seed
    for part in (step, stream, purpose):
        mixed = (mixed + 0x9E3779B97F4A7C15 * (part + 1)) & mask
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & mask
        mixed ^= mixed >> 31
    return mixed >> 1
