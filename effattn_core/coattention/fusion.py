"""Who asks and who answers: a question over image regions by a fused product (Dual-MFA), then over facts (R-VQA)."""

import torch

from effattn_core.coattention.attend import attend


def fused(region, context, weight, value, *, normalised=True):
    """(output, weights) of Dual-MFA's branch, each product formed in full     (eq. coattention-fused)

    z_n = (x_n ∘ c) / ‖x_n ∘ c‖;   weights_g = softmax_n(w_g · z_n);   output_g = Σ_n weights_gn v_n.
    region: x [..., regions, hidden]   context: c [..., hidden]   weight: w [glimpses, hidden]   value: v [...,
    regions, value_dim].   Returns output [..., glimpses, value_dim] and weights [..., glimpses, regions].
    normalised=False leaves the norm out: the bilinear scores of R-VQA. Raises ValueError where sizes do not fit.
    Source: the released code of Dual-MFA, netdef/ATT.lua; there the logits have a bias b_g, which softmax drops.
    """
    _check(region, context, weight)
    product = region * context[..., None, :]
    if normalised:
        product = product / product.norm(dim=-1, keepdim=True)
    weights = (product @ weight.mT).mT.softmax(-1)
    return weights @ value, weights


def fused_scores(region, context, weight, *, normalised=True):
    """The same scores by two matrix products, without a tensor [regions, hidden] per question  (eq. coattention-two).

    Shapes as of `fused`.   Returns [..., glimpses, regions]: (w_g ∘ c) · x_n / √((c ∘ c) · (x_n ∘ x_n)).
    """
    _check(region, context, weight)
    score = (weight * context[..., None, :]) @ region.mT
    if normalised:
        score = score / ((context * context)[..., None, :] @ (region * region).mT).sqrt()
    return score


def as_attention(region, context, weight, value, *, normalised=True):
    """(query, key, value, bias, scale): the branch as an argument list of `attend`, and what is left over.

    Without the norm it is attention: query w_g ∘ c, key x, scale 1, bias None. The norm depends on query and key
    together, so no choice of query and key gives it: the whole score is then handed over as a bias, with zero query.
    """
    if normalised:
        bias = fused_scores(region, context, weight)
        return torch.zeros_like(weight[..., :1]), torch.zeros_like(region[..., :1]), value, bias, 1.0
    return weight * context[..., None, :], region, value, None, 1.0


def most_weight(weight, regions):
    """The largest weight that any region can get, e^{2‖w‖} / (e^{2‖w‖} + regions - 1), for w · z lies in ±‖w‖.

    weight: [..., hidden]; regions: at least 1.   Returns [...].
    """
    if regions < 1:
        raise ValueError(f"attention needs a region; there are {regions}.")
    return 1 / (1 + (regions - 1) * torch.exp(-2 * weight.norm(dim=-1)))


def two_hops(question, region, fact, layers):
    """(answer's inputs y and f̃, weights over regions, weights over facts) of R-VQA     (eq. coattention-hops)

    question: [..., dim]; region: [..., regions, dim]; fact: [..., facts, dim]. layers: matrices U, W, U', W', T and
    vectors w, w' by these names: a(x; y) = softmax_n w · (tanh(U x_n) ∘ tanh(W y)); y = ṽ ∘ tanh(T q).
    The second question is what the first has seen: two calls of `attend` that cannot be one.
    Source: a third party's code, whose author asked the first author.
    """
    seen, weight, _ = attend(*_asking(question, region, layers["w"], layers["U"], layers["W"]), region, scale=1.0)
    then = seen[..., 0, :] * torch.tanh(question @ layers["T"].mT)
    found, of_facts, _ = attend(*_asking(then, fact, layers["w'"], layers["U'"], layers["W'"]), fact, scale=1.0)
    return (then, found[..., 0, :]), weight[..., 0, :], of_facts[..., 0, :]


def _asking(question, answer, weight, of_answer, of_question):
    """(query, key) of w · (tanh(U x) ∘ tanh(W y)): the weight goes with the question."""
    query = weight * torch.tanh(question @ of_question.mT)
    return query[..., None, :], torch.tanh(answer @ of_answer.mT)


def likeliest_facts(subject, relation, object_, count):
    """The `count` likeliest facts of three independent heads: (log probability, indices [count, 3]), best first.

    subject, relation, object_: log-probabilities [classes of each]. A fact's log-probability is the sum of its three;
    a fact of the best `count` has each element among the best `count` of its head, so that few sums are enough.
    Raises ValueError where there are fewer facts than that.
    """
    heads = (subject, relation, object_)
    if not 0 < count <= subject.numel() * relation.numel() * object_.numel():
        raise ValueError(f"between one and all facts can be asked for; got {count} of heads {[len(h) for h in heads]}.")
    best = [head.topk(min(count, len(head))) for head in heads]
    total = best[0].values[:, None, None] + best[1].values[:, None] + best[2].values
    found = total.flatten().topk(count)
    places = torch.unravel_index(found.indices, total.shape)
    return found.values, torch.stack([each.indices[at] for each, at in zip(best, places, strict=True)], -1)


def _check(region, context, weight):
    if not region.shape[-1] == context.shape[-1] == weight.shape[-1]:
        raise ValueError(
            f"regions {list(region.shape)}, context {list(context.shape)} and weight {list(weight.shape)} must end in "
            "the same hidden size."
        )
