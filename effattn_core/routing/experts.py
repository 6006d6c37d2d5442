"""A feed-forward layer of experts in plain PyTorch: route, gather, multiply per expert, put back and sum."""

import torch
from torch import nn
from torch.nn import functional

from effattn_core import calls
from effattn_core.calls import require_count
from effattn_core.layers import SwiGLU
from effattn_core.routing.interface import BOUND, ROUTERS, capacity_of, route, violation
from effattn_core.routing.prices import priced

# How each router decodes, a token at a time: what matches a whole batch has no batch then.
DECODES = {
    "gshard": "top_k",
    "switch": "top_k",
    "expert_choice": "top_k",
    "base": "top_k",
    "sinkhorn": "top_k",
    "maxscore_released": "top_k",
    "maxscore_reroute": "top_k",
    "sinkhorn_repaired": "mean price",
    "prices": "mean price",
    "optimum": "mean price",
}
operators = calls.operators("routing")
SCOPES = ("batch", "sequence")
CARRIED = ("bias", "past_prices")  # routers whose state goes from batch to batch
KEPT = 0.9  # of the mean price, from step to step


def mixed(tokens, mask, gates, gate, up, down, *, choices=None, implementation=None):
    """Σ over a token's experts e of gates[e] · (silu(x gate[e]) ⊙ x up[e]) down[e]     (eq. routing-experts)

    tokens: [tokens, width]; mask: bool [tokens, experts]; gates: [tokens, experts]; gate, up: [experts, width, inner];
    down: [experts, inner, width], all of one floating dtype. Returns [tokens, width].
    choices: the most experts that a token has, None for all, which the kernels make room for.
    implementation: "oracle" (every expert for every token, in float64), "torch" (the rows of each expert), "triton", or
    None: see `effattn_core.calls`. Raises ValueError for shapes or dtypes that do not fit.
    """
    calls.require_rank("tokens, width", tokens=tokens)
    calls.require_rank("experts, width, inner", gate=gate)
    calls.require_alike(tokens=tokens, gates=gates, gate=gate, up=up, down=down)
    count, (experts, width, inner) = len(tokens), gate.shape
    shapes = [tuple(each.shape) for each in (tokens, mask, gates, gate, up, down)]
    wanted = [(count, width), *[(count, experts)] * 2, *[(experts, width, inner)] * 2, (experts, inner, width)]
    if shapes != wanted:
        raise ValueError(f"tokens, mask, gates, gate, up and down must have the shapes {wanted}; they have {shapes}.")
    chosen = calls.choose(implementation, tokens.device, tokens.dtype)
    if chosen == "triton":
        return _by_kernels(tokens, mask, gates, gate, up, down, choices or experts)
    if chosen == "torch":
        return _by_expert(tokens, mask, gates, gate, up, down)
    return calls.exactly(oracle, tokens, mask, gates, gate, up, down).to(tokens.dtype)


def oracle(tokens, mask, gates, gate, up, down):
    """Every expert for every token, and the gates of those that are chosen: shapes as `mixed` takes them."""
    inner = functional.silu(torch.einsum("nd,edf->nef", tokens, gate)) * torch.einsum("nd,edf->nef", tokens, up)
    return torch.einsum("nef,efd,ne->nd", inner, down, gates * mask)


def _by_expert(tokens, mask, gates, gate, up, down):
    expert, token = mask.T.nonzero(as_tuple=True)  # expert by expert, each in the order of the tokens
    rows = tokens[token].split(mask.sum(0).tolist())
    made = [
        (functional.silu(each @ gate[number]) * (each @ up[number])) @ down[number] for number, each in enumerate(rows)
    ]
    weighed = torch.cat(made) * gates[token, expert, None]
    # Where each token's rows lie, by a stable sort, so that the sum below is always taken in the same order.
    most = int(mask.sum(1).max()) if len(token) else 0
    places = torch.full((len(tokens), most), len(token), device=tokens.device)
    places[torch.arange(most, device=tokens.device) < mask.sum(1)[:, None]] = token.argsort(stable=True)
    return torch.cat([weighed, weighed.new_zeros(1, weighed.shape[1])])[places].sum(1)


def _by_kernels(tokens, mask, gates, gate, up, down, choices):
    expert = chosen_experts(mask, choices)
    plan = operators.planned(expert, len(gate), tokens.dtype)
    inner = functional.silu(operators.grouped_product(tokens, gate, *plan, True))
    inner = inner * operators.grouped_product(tokens, up, *plan, True)
    made = operators.grouped_product(inner, down, *plan, False)
    return operators.combine_rows(made, gates.gather(1, expert.clamp(min=0)), plan.place, plan.order, plan.offsets)


def chosen_experts(mask, choices):
    """int64 [tokens, choices]: the experts of each token in their order, then -1. No value is looked at on the host."""
    first = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :choices]
    return torch.where(mask.gather(1, first), first, -1)


class MixtureOfExperts(nn.Module):
    """experts SwiGLU layers of `inner`, of which the router gives each token top_k, weighed by their softmax values.

    width, inner: of the layer and of one expert; shared: how many more experts every token passes, with weight 1.
    router: one of ROUTERS; factor: of the capacity over an equal share, for routers that have one; scope: whether the
    tokens of a "batch" or of one "sequence" are routed together (a state is carried over batches alone).
    normalised: whether a token's weights are divided by their sum. implementation: as of `mixed`.
    matched: whether `eval()` routes as in training, for comparison; by default it routes as it decodes: each token by
    itself (DECODES), with the bias or the prices of the past as they are. After a call `load` holds the loads before
    the capacity, `auxiliary` the mean balancing loss, 0 where it decodes.
    Sums are taken in one order: two calls give the same bits. Raises ValueError for settings that do not fit.
    """

    def __init__(
        self, width, inner, experts, top_k, *, router="top_k", shared=0, factor=1.0, scope="batch", normalised=False,
        implementation=None,
    ):  # fmt: skip
        super().__init__()
        for name, size in dict(width=width, inner=inner, experts=experts, top_k=top_k).items():
            require_count(name, size)
        require_count("shared", shared, 0)
        if top_k > experts:
            raise ValueError(f"top_k must be at most the {experts} experts; it is {top_k}.")
        if router not in ROUTERS:
            raise ValueError(f"router must be one of {', '.join(ROUTERS)}; it is {router!r}.")
        if scope not in SCOPES:
            raise ValueError(f"scope must be one of {SCOPES}; it is {scope!r}.")
        if not factor > 0:
            raise ValueError(f"factor must be more than 0; it is {factor}.")
        if BOUND[router] == "fill" and factor < 1:
            raise ValueError(f"router={router!r} places every token: factor must be at least 1; it is {factor}.")
        self.top_k, self.router, self.factor, self.scope = top_k, router, factor, scope
        self.normalised, self.matched, self.implementation = normalised, False, implementation
        calls.require_implementation(implementation)
        self.score = nn.Linear(width, experts, bias=False)
        self.gate, self.up = (nn.Parameter(torch.empty(experts, width, inner)) for _ in range(2))
        self.down = nn.Parameter(torch.empty(experts, inner, width))
        for weight in (self.gate, self.up, self.down):
            nn.init.normal_(weight, std=0.02)
        self.shared = SwiGLU(width, shared * inner) if shared else None
        # What the router carries: a bias or prices. Stored with the weights, and always in float32: a step of the bias
        # is lost in bfloat16.
        self.register_buffer("state", torch.zeros(experts))
        self.auxiliary = self.load = None

    @classmethod
    def of(cls, sizes):
        """The layer of a `effattn_core.model.Configuration`."""
        made = cls(
            sizes.width,
            sizes.feed_forward,
            sizes.experts,
            sizes.top_k,
            router=sizes.router,
            shared=sizes.shared_experts,
        )
        made.down.data *= (2 * sizes.layers) ** -0.5  # as LanguageModel does to what adds to its residual stream
        return made

    def _apply(self, fn, recurse=True):
        kept = self.state
        super()._apply(fn, recurse)
        if not self.state.is_meta and not kept.is_meta:
            self.state = kept.to(self.state.device)
        return self

    def __getstate__(self):
        return {**vars(self), "auxiliary": None}  # it has a graph, which cannot be copied with the layer

    def forward(self, hidden):
        """hidden: [batch, time, width]. Returns that shape; a token without an expert gets the shared ones, or 0."""
        tokens = hidden.flatten(0, -2)
        scores = self.score(tokens)
        parts = scores.split(hidden.shape[-2]) if self.scope == "sequence" else [scores]
        if not len(tokens):
            return hidden + 0 * scores.sum()
        mask, gates, loads, losses = zip(*map(self._routed, parts), strict=True)
        mask, gates, self.load = torch.cat(mask), torch.cat(gates), torch.stack(loads).sum(0)
        self.auxiliary = torch.stack(losses).mean()
        if self.normalised:
            gates = gates / gates.sum(1, keepdim=True).clamp(min=torch.finfo(gates.dtype).tiny)
        output = mixed(
            tokens, mask, gates.to(tokens.dtype), self.gate, self.up, self.down,
            choices=None if self.router == "expert_choice" else self.top_k, implementation=self.implementation,
        ).view_as(hidden)  # fmt: skip
        return output if self.shared is None else output + self.shared(hidden)

    def _routed(self, scores):
        """(mask, gates, loads before the capacity, balancing loss) of tokens that are routed together."""
        if not self.training and not self.matched and self.router in DECODES:
            prices = self.state if DECODES[self.router] == "mean price" else torch.zeros_like(self.state)
            values = scores.float().softmax(1)
            mask = priced(values.detach(), prices, self.top_k)
            return mask, torch.where(mask, values, 0), mask.sum(0), values.new_zeros(())
        tokens, experts = scores.shape
        carried = self.router in CARRIED
        bounded = BOUND[self.router] != "free"
        capacity = capacity_of(tokens, experts, self.top_k, self.factor) if bounded else None
        state = self.state if carried else None
        found = route(scores, router=self.router, top_k=self.top_k, capacity=capacity, state=state)
        if self.training and torch.is_grad_enabled():
            if carried:
                self.state = found.state
            elif found.prices is not None:
                self.state = KEPT * self.state + (1 - KEPT) * found.prices.float()
        return found.mask, found.gates, found.wanted, found.auxiliary

    @property
    def violation(self):
        """MaxVio of the last call, before the capacity."""
        return violation(self.load)
