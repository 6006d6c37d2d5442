"""The delta rules, S = γ (I - β kᵀk) S + β kᵀv, by chunks.

A token writes r = β (v - what its key reads from the decayed state): the difference between what is wanted and what is
held. Inside a chunk the r of all tokens solve one unit lower triangular system (the WY form of a product of
reflections), so a chunk is again a few matrix products.
"""

import torch

from effattn_core.calls import wide
from effattn_core.recurrences.gated import CHUNK, bounded, chunks, fading, left, spans


def delta_chunkwise(query, key, value, log_gate, beta, *, scale, state, chunk_size=None):
    """The delta rules by chunks (eq. delta-chunk). log_gate, beta: [batch, heads, time]; others as in `recurrence`.

    (I + L) r = β (v - exp(G) key · state), L_ij = β_i exp(G_i - G_j) key_i · key_j for j < i: one solve gives r for
    any state, as `fresh` minus `seen` · state. Returns (output, state); differentiable. (Yang et al. 2024)
    """
    dtype, outputs = wide(value.dtype), [value[:, :, :0]]
    log_gate, beta, state = bounded(log_gate.to(dtype))[..., None], beta[..., None], state.to(dtype)
    for span, chunk in spans(query.shape[2], chunk_size or CHUNK):
        q, k, v, rate = (chunks(each, span, chunk, dtype) for each in (query, key, value, beta))
        total = chunks(log_gate, span, chunk, log_gate.dtype).cumsum(-2)
        last, fade, entering = total[..., -1:, :], fading(total, dtype), left(total, dtype)
        overlap = (rate * (k @ k.mT) * fade).tril(-1)
        wanted = rate * torch.cat([v, k * entering], -1)
        solved = torch.linalg.solve_triangular(overlap, wanted, upper=False, unitriangular=True)
        fresh, seen = solved.split([v.shape[-1], k.shape[-1]], -1)
        leaving, kept, before, writes = (k * left(last - total, dtype)).mT, left(last, dtype), [], []
        for number in range(q.shape[2]):
            before.append(state)
            writes.append(fresh[:, :, number] - seen[:, :, number] @ state)
            state = kept[:, :, number] * state + leaving[:, :, number] @ writes[-1]
        output = (q * entering) @ torch.stack(before, 2) + ((q @ k.mT) * fade).tril_() @ torch.stack(writes, 2)
        outputs.append((scale * output).flatten(2, 3).to(value.dtype))
    return torch.cat(outputs, 2), state
