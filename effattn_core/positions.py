"""Rotary positions: pairs of dimensions that turn with the token's position, interleaved as in this whole book."""

import functools

import torch


def rotate(tensor, first, base):
    """Turn the pair (2i, 2i+1) of the token at position t by t · base^(-2i / head_dim): interleaved rotary positions.

    tensor: [batch, heads, time, head_dim]; first: position of its first token. (Su et al. 2021, eq. 34)
    """
    return turn(tensor, first, speeds(tensor.shape[-1], base, tensor))


def speeds(head_dim, base, like):
    """base^(-2i / head_dim), radians per token of pair i, in float32 or wider on the device of `like`."""
    wide = torch.promote_types(like.dtype, torch.float32)
    return base ** (-torch.arange(0, head_dim, 2, device=like.device, dtype=wide) / head_dim)


def even_speeds(head_dim, base, like):
    """base^-linspace(0, 1, head_dim / 2), as the released RetNet and YOCO have them: the slowest is 1 / base."""
    wide = torch.promote_types(like.dtype, torch.float32)
    return base ** -torch.linspace(0, 1, head_dim // 2, dtype=wide, device=like.device)


@functools.lru_cache(maxsize=8)
def given_speeds(speeds, dtype, device):
    """Speeds that a checkpoint lists, a tuple, as `turn` takes them: moved to the device once, not in every layer."""
    return torch.tensor(speeds, dtype=torch.promote_types(dtype, torch.float32), device=device)


def turn(tensor, first, speed):
    """Turn the pair (2i, 2i+1) of the token at position t by t · speed[i]. speed: [head_dim / 2], radians per token."""
    position = torch.arange(first, first + tensor.shape[-2], device=tensor.device, dtype=speed.dtype)
    angle = position[:, None] * speed
    cosine, sine = angle.cos().to(tensor.dtype), angle.sin().to(tensor.dtype)
    even, odd = tensor[..., 0::2], tensor[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)
