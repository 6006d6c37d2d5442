"""An optimizer whose states are kept in few bits: what AdamW and SGD share (states, tiles, saving, many processes)."""

import math
import warnings
import zlib
from typing import NamedTuple

import torch

from effattn_core import calls
from effattn_core.calls import require_count
from effattn_core.lowbit import philox, rules
from effattn_core.lowbit.levels import WHOLE
from effattn_core.lowbit.packing import pack, packed_bytes, unpack
from effattn_core.lowbit.quantisers import Quantiser, to_rows
from effattn_core.lowbit.rules import Rows, Stored
from effattn_core.lowbit.shards import shard

LEAST = 128  # a parameter with fewer elements keeps its states in float32
TILE = 2**18  # elements that are decoded at a time


class Slot(NamedTuple):
    """One parameter within one step: its elements in a row, its gradient's, its state, how that is kept, its seeds."""

    weight: torch.Tensor
    gradient: torch.Tensor
    state: dict
    quantisers: tuple
    base: int
    seeds: tuple
    block: int


class Piece(NamedTuple):
    """Rows start to stop of a slot."""

    slot: Slot
    start: int
    stop: int


class LowBitOptimizer(torch.optim.Optimizer):
    """The base of the optimizers of this topic: a subclass names its RULE, its MOMENTS, and the rates of a step.

    A group may have settings of its own, `bits` and `maps` too. bits: per moment 2, 3, 4 or 8, or 32 for float32;
    maps: per moment a kind of `quantisers.KINDS`. block, quantile, signed_extreme: as of `Quantiser`; least: elements
    under which a parameter's states stay in float32, whatever the share that one process has of it. seed: of all random
    rounding. foreach: small parameters are updated together. compiled: the step on a tile is one graph of
    `torch.compile`; True, or the name of its backend. implementation: as in `calls`.

    A gradient that is NaN, infinite or too large to square counts as 0 for its element alone; on a CPU a warning names
    the parameter. Raises ValueError for settings out of range, and RuntimeError for sparse gradients.
    """

    RULE = None
    MOMENTS = ()
    UNGUARDED = False  # whether a second moment may have a level of zero

    def __init__(self, params, defaults, *, foreach=False, compiled=False, implementation=None):
        calls.require_implementation(implementation)
        self.foreach, self.implementation = foreach, implementation
        backend = {} if compiled is True else {"backend": compiled}
        self._step_rows = torch.compile(rules.step_rows, dynamic=True, **backend) if compiled else rules.step_rows
        self._compiled = compiled
        super().__init__(params, defaults)

    def add_param_group(self, param_group):
        """As torch.optim.Optimizer has it; the group's settings are checked, what it leaves open is the default."""
        super().add_param_group(param_group)
        try:
            self._require_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.compiler.disable
    @torch.no_grad()
    def step(self, closure=None):
        """One step of every parameter that has a gradient. closure: evaluates the loss anew. Returns its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        stream = 0
        for group in self.param_groups:
            alike, quantisers = {}, self._quantisers(group)
            for place, parameter in enumerate(group["params"]):
                if parameter.grad is None:
                    continue
                if slot := self._slot(group, quantisers, place, parameter, stream + place):
                    key = (int(self.state[parameter]["step"]), slot.weight.device, slot.weight.dtype, slot.quantisers)
                    alike.setdefault(key, []).append((slot, place))
            for (step, *_), found in alike.items():
                self._step_slots(group, step, found)
            stream += len(group["params"])
        return loss

    def _slot(self, group, quantisers, place, parameter, stream):
        """The Slot of a parameter, its state made at its first step and counted on; None where it is empty."""
        if parameter.grad.is_sparse:
            raise RuntimeError("a sparse gradient has no blocks: make it dense, as AdamW wants it too.")
        mine = shard(parameter)
        gradient = shard(parameter.grad).local
        state, block = self.state[parameter], group["block"]
        if mine.count < group["least"]:
            quantisers = (None,) * len(self.MOMENTS)
        if not state:
            name = group["param_names"][place] if "param_names" in group else None
            state["step"] = torch.tensor(0)
            state["stream"] = stream if name is None else zlib.crc32(name.encode())
            for moment, how in zip(self.MOMENTS, quantisers, strict=True):
                state.update(fresh(moment, how, mine.local))
        state["step"] += 1
        if mine.local.numel() == 0:
            return None
        step = int(state["step"])
        seeds = tuple(philox.derived(group["seed"], step, state["stream"], purpose) for purpose in range(3))
        return Slot(mine.local, gradient, state, quantisers, mine.base, seeds, block)

    def _step_slots(self, group, step, found):
        """Step slots that share rates, dtype and quantisers: by the fused kernel, or tile by tile."""
        rates = self._rates(group, step)
        for slot, place in list(found):
            if self._fused(group, step, slot):
                found.remove((slot, place))
        # A weight that is strided is updated in a copy.
        flat = [(slot, place, slot.weight.contiguous().view(-1)) for slot, place in found]
        slots = [slot._replace(weight=weight, gradient=slot.gradient.reshape(-1)) for slot, _, weight in flat]
        strange = [0] * len(slots)
        for tile in self._tiles(slots):
            count = self._step_tile(tile, rates)
            if slots[0].weight.device.type == "cpu" and count:
                for number, slot in enumerate(slots):
                    pieces = [each for each in tile if each.slot is slot]
                    strange[number] += sum(_strange(each) for each in pieces)
        for (slot, place, weight), count in zip(flat, strange, strict=True):
            if weight.data_ptr() != slot.weight.data_ptr():
                slot.weight.copy_(weight.view(slot.weight.shape))
            if count:
                self._warn(group, place, step, count)

    def _tiles(self, slots):
        """Lists of pieces, at most TILE elements each: a slot's own, or several slots' where foreach asks for it."""
        tiles, room = [], 0
        for slot in slots:
            rows, most = -(-slot.weight.numel() // slot.block), max(1, TILE // slot.block)
            for start in range(0, rows, most):
                piece = Piece(slot, start, min(rows, start + most))
                size = piece.stop - piece.start
                if self.foreach and tiles and size <= room:
                    tiles[-1].append(piece)
                    room -= size
                else:
                    tiles.append([piece])
                    room = most - size
        return tiles

    def _step_tile(self, tile, rates):
        """Update the pieces of a tile together; returns how many gradients did not count."""
        slot = tile[0].slot
        loaded = [_loaded(piece, self.MOMENTS) for piece in tile]
        weight, gradient, counts, first, seeds = map(_joined, zip(*(each[:5] for each in loaded), strict=True))
        stored = [
            Stored(*map(_joined, zip(*parts, strict=True))) for parts in zip(*(e[5] for e in loaded), strict=True)
        ]
        aligned = all(piece.slot.base % 4 == 0 for piece in tile)
        rows = Rows(counts, first, seeds.T, aligned)
        if self._compiled:
            rates = rates._replace(**{name: _tensors(getattr(rates, name)) for name in rates._fields})
        weight, stored, strange = self._step_rows(
            type(self).RULE, weight, gradient, tuple(stored), slot.quantisers, rows, rates, slot.weight.dtype
        )
        at = 0
        for piece in tile:
            size = piece.stop - piece.start
            _store(piece, self.MOMENTS, weight[at : at + size], [_rows_of(each, at, size) for each in stored])
            at += size
        return int(strange) if weight.device.type == "cpu" else 0

    def _fused(self, group, step, slot):
        """Whether the topic's kernel has taken the step of this slot; AdamW's has, where it fits."""
        return False

    def _rates(self, group, step):
        raise NotImplementedError

    def _quantisers(self, group):
        """A Quantiser per moment, None for one of 32 bits."""
        found = []
        for place, (bits, kind) in enumerate(zip(group["bits"], group["maps"], strict=True)):
            settings = dict(block=group["block"], quantile=group["quantile"], stochastic=group["stochastic"])
            extreme = place == 0 and group["signed_extreme"]
            how = (
                Quantiser(kind, bits, signed=place == 0, signed_extreme=extreme, **settings) if bits != WHOLE else None
            )
            found.append(how)
        return tuple(found)

    def _require_group(self, group):
        """Raise ValueError for a setting of a group that is out of range."""
        for name in ("lr", "weight_decay", "eps"):
            given = group.get(name, 0.0)
            if isinstance(given, torch.Tensor) and given.numel() != 1:
                raise ValueError(f"{name} must be one number; its shape is {tuple(given.shape)}.")
            if not 0 <= float(given) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0; it is {given}.")
        for name in ("bits", "maps"):
            group[name] = tuple(group[name])
            if len(group[name]) != len(self.MOMENTS):
                raise ValueError(f"{name} must name one per moment, {len(self.MOMENTS)}; it is {group[name]}.")
        philox.require_seed(group["seed"])
        require_count("least", group["least"], 0)
        quantisers = self._quantisers(group)
        if len(quantisers) < 2 or self.UNGUARDED:
            return
        first, second = quantisers
        if first is not None and not first.has_zero:
            raise ValueError(
                f"the first moment needs a level of zero; {first.kind!r} has none, and what is left of a weight whose "
                "gradient is 0 would be divided by next to nothing."
            )
        if second is not None and second.has_zero:
            raise ValueError(
                f"the second moment must have no level of zero; {second.kind!r} has one, and steps divide by its root."
            )

    def _warn(self, group, place, step, count):
        names = group.get("param_names")
        name = repr(names[place]) if names else f"number {place} of its group, {tuple(group['params'][place].shape)},"
        warnings.warn(
            f"the gradient of parameter {name} has {count} elements at step {step} that are NaN, infinite or too large "
            "to square: they count as 0.",
            RuntimeWarning,
            stacklevel=2,
        )

    def load_state_dict(self, state_dict):
        """As torch.optim.Optimizer has it, without its casts: codes, scales and slopes stay what they were saved as.

        Settings of the groups come from what was saved, block and seed too, so that a run goes on as it was. Raises
        ValueError where a state is of another optimizer, or of another share of a parameter.
        """
        saved = [place for group in state_dict["param_groups"] for place in group["params"]]
        mine = [parameter for group in self.param_groups for parameter in group["params"]]
        for group in state_dict["param_groups"]:
            if missing := {"bits", "maps", "block", "seed"} - group.keys():
                raise ValueError(
                    f"the state is of an optimizer without {', '.join(sorted(missing))}: not a low-bit one."
                )
        super().load_state_dict(state_dict)
        for place, parameter in zip(saved, mine, strict=True):
            if place in state_dict["state"]:
                self.state[parameter] = _copied(state_dict["state"][place], parameter)
        for group in self.param_groups:
            self._require_group(group)
            for place, parameter in enumerate(group["params"]):
                if self.state.get(parameter):
                    self._require_state(group, place, parameter)

    def _require_state(self, group, place, parameter):
        """Raise ValueError unless a loaded state has the tensors that this parameter's settings make."""
        mine, state = shard(parameter), self.state[parameter]
        quantisers = self._quantisers(group) if mine.count >= group["least"] else (None,) * len(self.MOMENTS)
        for moment, how in zip(self.MOMENTS, quantisers, strict=True):
            for name, made in fresh(moment, how, mine.local, device="meta").items():
                found = state.get(name)
                if found is None or found.shape != made.shape or found.dtype != made.dtype:
                    given = "missing" if found is None else f"{tuple(found.shape)} {found.dtype}"
                    raise ValueError(
                        f"{name} of parameter {place} must be {tuple(made.shape)} {made.dtype}; it is {given}: the "
                        "state was saved for another shape, or for another share of the parameter."
                    )


def fresh(moment, quantiser, local, device=None):
    """The tensors of a state before the first step: zeros, by name (eq. lowbit-bytes)."""
    device, count = device or local.device, local.numel()
    if quantiser is None:
        return {moment: torch.zeros(count, device=device)}
    numbers = {"scale": True, "slope": quantiser.logarithmic}
    size = quantiser.blocks(count)
    found = {f"{moment}_codes": torch.zeros(packed_bytes(count, quantiser.bits), dtype=torch.uint8, device=device)}
    return found | {f"{moment}_{name}": torch.zeros(size, device=device) for name, kept in numbers.items() if kept}


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the storages of an optimizer's states, this process's share; the counters of steps are left out.

    Of any optimizer: torch.optim.AdamW's moments too. A storage that several tensors share counts once.
    """
    storages = {}
    for state in optimizer.state.values():
        for name, each in state.items():
            if isinstance(each, torch.Tensor) and name != "step":
                local = shard(each).local.untyped_storage()
                storages[local.data_ptr() or id(local)] = local.nbytes()
    return sum(storages.values())


def moment(optimizer: LowBitOptimizer, group: dict, parameter: torch.Tensor, name: str) -> torch.Tensor:
    """A moment ("m", "v") of a parameter as the next step will decode it: float32, its local elements in a row."""
    state = optimizer.state[parameter]
    if name in state:
        return state[name]
    how = optimizer._quantisers(group)[optimizer.MOMENTS.index(name)]
    count = shard(parameter).local.numel()
    rows, _ = to_rows(unpack(state[f"{name}_codes"], how.bits, count), how.block)
    return how.to_values(rows, state[f"{name}_scale"], state.get(f"{name}_slope")).reshape(-1)[:count]


def _loaded(piece, moments):
    """(weight, gradient, counts, first, seeds, states) of a piece, the tensors as rows."""
    slot, start, stop = piece
    block, total = slot.block, slot.weight.numel()
    low, high = start * block, min(total, stop * block)
    weight, counts = to_rows(slot.weight[low:high], block)
    gradient, _ = to_rows(slot.gradient[low:high], block)
    device = slot.weight.device
    first = slot.base + torch.arange(start, stop, device=device) * block
    seeds = torch.tensor(slot.seeds, device=device).expand(stop - start, -1)
    states = []
    for moment, how in zip(moments, slot.quantisers, strict=True):
        if how is None:
            states.append(Stored(to_rows(slot.state[moment][low:high], block)[0]))
            continue
        packed = slot.state[f"{moment}_codes"][_bytes(low, high, how.bits)]
        codes, _ = to_rows(unpack(packed, how.bits, high - low), block)
        slope = slot.state[f"{moment}_slope"][start:stop] if how.logarithmic else None
        states.append(Stored(None, codes, slot.state[f"{moment}_scale"][start:stop], slope))
    return weight, gradient, counts, first, seeds, states


def _store(piece, moments, weight, states):
    """Write a piece's rows back where they came from."""
    slot, start, stop = piece
    low, high = start * slot.block, min(slot.weight.numel(), stop * slot.block)
    slot.weight[low:high] = weight.reshape(-1)[: high - low]
    for moment, how, kept in zip(moments, slot.quantisers, states, strict=True):
        if how is None:
            slot.state[moment][low:high] = kept.values.reshape(-1)[: high - low]
            continue
        packed = pack(kept.codes.reshape(-1)[: high - low], how.bits)
        slot.state[f"{moment}_codes"][_bytes(low, high, how.bits)] = packed
        slot.state[f"{moment}_scale"][start:stop] = kept.scale
        if how.logarithmic:
            slot.state[f"{moment}_slope"][start:stop] = kept.slope


def _bytes(low, high, bits):
    """Where the codes of elements low to high stand; low begins a block, and so a byte."""
    return slice(packed_bytes(low, bits), packed_bytes(high, bits))


def _joined(parts):
    """Tensors one after the other, or None where there are none."""
    return parts[0] if len(parts) == 1 or parts[0] is None else torch.cat(parts)


def _rows_of(stored, at, size):
    return Stored(*(None if each is None else each[at : at + size] for each in stored))


def _strange(piece):
    low, high = piece.start * piece.slot.block, piece.stop * piece.slot.block
    return int(rules.contained(piece.slot.gradient[low:high])[1])


def _tensors(given):
    if isinstance(given, tuple):
        return tuple(map(_tensors, given))
    return torch.tensor(given, dtype=torch.float32)


def _copied(state, parameter):
    """A saved state on the device of a parameter; the counter of steps stays on the CPU."""
    device = shard(parameter).local.device
    return {
        name: each.detach().to("cpu" if name == "step" else device, copy=True)
        if isinstance(each, torch.Tensor)
        else each
        for name, each in state.items()
    }
