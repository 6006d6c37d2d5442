"""One index for all heads and layers, on the common frontier of quality against bytes of `effattn_core.frontier`."""

import functools

import torch

from effattn_core.frontier import Way
from effattn_core.indexing import choose_rows, row_attention, scores_oracle
from effattn_core.indexing.model import IndexedCache, distillation

INDEX_HEADS, INDEX_DIM = 8, 32


class ReaderCache(IndexedCache):
    """What a frontier's reader reads: `append`, `look`, and the bytes of a step, of one list for all of its heads.

    top_k: rows read of each key head; an index key per token is made from the keys of all heads.
    """

    def __init__(self, *shape, indexer, top_k):
        super().__init__(*shape, indexer.index_dim)
        self.indexer, self.top_k = indexer, top_k

    def append(self, key, value):
        super().append(key, value)
        with torch.no_grad():
            self.append_index(self.indexer.keys(key.transpose(1, 2).flatten(2)))

    def look(self, query):
        """query: [batch, heads, 1, head_dim]; returns attention's output over the chosen rows."""
        with torch.no_grad():
            ask, weight = self.indexer.ask(query.transpose(1, 2).flatten(2))
            scores = scores_oracle(ask, self.index, weight)
            self.rows = choose_rows(scores, min(self.top_k, self.length))[:, 0]
        return row_attention(query, self.key, self.value, self.rows).output

    def step_bytes(self):
        """Bytes of one look, as they are stored: index keys of all tokens, and rows of keys and values."""
        row = (self.key[:, :, :1].nbytes + self.value[:, :, :1].nbytes) * min(self.top_k, self.length)
        return {"descriptors": self.index.nbytes, "blocks": row}


class ReaderIndexer(torch.nn.Module):
    """A LightningIndexer's scores where queries and keys are given: it has a projection for each.

    heads · head_dim numbers of all queries in, index_heads · index_dim out; key_heads · head_dim of all keys in.
    """

    def __init__(self, query_size, key_size, index_heads=INDEX_HEADS, index_dim=INDEX_DIM):
        super().__init__()
        self.heads, self.index_dim = index_heads, index_dim
        self.query = torch.nn.Linear(query_size, index_heads * index_dim, bias=False)
        self.key = torch.nn.Linear(key_size, index_dim, bias=False)
        self.weight = torch.nn.Parameter(torch.ones(index_heads))

    def keys(self, hidden):
        """[batch, time, key_size] to [batch, 1, time, index_dim]."""
        return self.key(hidden)[:, None]

    def ask(self, hidden):
        """[batch, time, query_size] to (query, weight), as of a LightningIndexer."""
        query = self.query(hidden).unflatten(-1, (self.heads, self.index_dim)).transpose(1, 2)
        return query, self.weight[:, None].expand(len(hidden), -1, hidden.shape[1])


def taught(reader, text, *, steps=300, keys=1024, queries=32, seed=0):
    """A ReaderIndexer that learned, by KL to the mean over heads, what a reader attends to along a text."""
    torch.manual_seed(seed)
    indexer = ReaderIndexer(reader.heads * reader.head_dim, reader.key_heads * reader.head_dim)
    optimizer = torch.optim.Adam(indexer.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        start = torch.randint(len(text) - keys - 1, (), generator=generator).item()
        key, _ = reader.key_value(text[start : start + keys])
        places = torch.randint(keys // 2, keys, (queries,), generator=generator).tolist()
        query = torch.cat([reader.query(text[start + place - 16 : start + place]) for place in places], 2)
        group = query.shape[1] // key.shape[1]
        score = query.shape[-1] ** -0.5 * query @ key.repeat_interleave(group, 1).mT
        unseen = torch.arange(keys) >= torch.tensor(places)[:, None]  # keys from the query's place on
        teacher = score.masked_fill(unseen, float("-inf")).softmax(-1).mean(1)
        ask, weight = indexer.ask(query.transpose(1, 2).flatten(2))
        index = scores_oracle(ask, indexer.keys(key.transpose(1, 2).flatten(2)), weight)
        loss = distillation(teacher, index.masked_fill(unseen, float("-inf")))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return indexer


@functools.cache
def reader_indexer():
    """The indexer of the common reader, taught once a process on a stretch of the plays that no cache holds."""
    from effattn_core.data import Characters, shakespeare
    from effattn_core.reader import Reader, plain_letters

    text = plain_letters(shakespeare())
    letters = Characters(text)
    return taught(Reader(len(letters)), letters.encode(text[:1_000_000]))


def cache_of(indexer, dial, shape):
    """An empty ReaderCache that reads a share `dial` of its capacity, and at 1 everything."""
    return ReaderCache(*shape, indexer=indexer, top_k=max(1, round(dial * shape[2])))


WAYS = [Way("CLSA", "one index for all heads", lambda dial, shape: cache_of(reader_indexer(), dial, shape))]
