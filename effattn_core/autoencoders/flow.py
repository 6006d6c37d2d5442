"""Flow matching from noise (t = 0) to latents (t = 1): x_t = t x_1 + (1 - t) x_0, and two ways to walk it.

As the geometric autoencoder's released code has it: times shifted towards the noise, latents standardised per channel,
an Euler-Maruyama walk without guidance, an ordinary one with it.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from effattn_core.calls import require_count

TRAIN_SHIFT, SAMPLE_SHIFT = 0.7, 0.4  # of the released configurations
FIRST, LAST = 1e-5, 0.996  # where the random walk starts, and where its last step, the mean alone, begins
RELEASED_END = (0.996, 0.004)  # time and size of that step in the released code, whatever the shift made of the grid
METHODS = ("euler", "heun")


def shifted(time, shift):
    """s t / (1 + (s - 1) t): below 1, s gives more of the times to the noise; 0 and 1 stay (eq. autoencoders-shift).

    Raises ValueError for a shift that is not positive: 0 would send every time to 0.
    """
    if shift <= 0:
        raise ValueError(f"shift must be above 0; it is {shift}.")
    return shift * time / (1 + (shift - 1) * time)


def draw_times(count, shift=TRAIN_SHIFT, generator=None):
    """Times of training, [count] in (0, 1): a normal number through the logistic function, then shifted."""
    return shifted(torch.randn(count, generator=generator).sigmoid(), shift)


def mixed(clean, noise, time):
    """(x_t, the velocity x_1 - x_0 that is asked of the network); time: [batch], beside latents [batch, ...]."""
    time = time.view(-1, *(1,) * (clean.ndim - 1))
    return time * clean + (1 - time) * noise, clean - noise


def flow_loss(velocity, wanted, cosine=1.0):
    """Squared error, and `cosine` times 1 - cos over each token's channels (B4). Both [batch, tokens, latent]."""
    angle = 1 - functional.cosine_similarity(velocity, wanted, dim=-1)
    return functional.mse_loss(velocity, wanted) + cosine * angle.mean()


@dataclass(frozen=True)
class ChannelScale:
    """Mean and deviation of each channel over images and tokens, [latent]: a generator sees latents without them."""

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, latents):
        """Of latents [..., latent]. Raises ValueError for a channel that never changes."""
        flat = latents.flatten(0, -2)
        deviation = flat.std(0)
        if (deviation == 0).any():
            raise ValueError(f"channel {int(deviation.argmin())} of the latents never changes: it has no scale.")
        return cls(flat.mean(0), deviation)

    def scaled(self, latents):
        return (latents - self.mean) / self.deviation

    def restored(self, latents):
        return latents * self.deviation + self.mean


def time_grid(steps, shift=1.0, first=0.0, last=1.0):
    """`steps` + 1 times from `first` to `last`, evenly spaced and then shifted: float64 [steps + 1].

    Raises ValueError for steps that are no count, and as `shifted` does.
    """
    require_count("steps", steps)
    return shifted(torch.linspace(first, last, steps + 1, dtype=torch.float64), shift)


def guided_from(conditional, unconditional, weight, start=0.0):
    """A velocity that is guided where t >= start: u + w (c - u), and the conditional one before (B4).

    conditional, unconditional: (x, t) -> velocity.
    """

    def velocity(noisy, time):
        found = conditional(noisy, time)
        if weight == 1 or time < start:
            return found
        without = unconditional(noisy, time)
        return without + weight * (found - without)

    return velocity


@torch.no_grad()
def walk(velocity, start, times, method="euler", trace=None):
    """Follow dx/dt = velocity(x, t) along `times`. Returns x at the last; trace: a list that gets x after each step.

    method: "euler", or "heun", the mean of the velocities at both ends of a step, twice the work.
    Raises ValueError for another method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}; it is {method!r}.")
    x = start
    for now, after in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        slope = velocity(x, now)
        ahead = x + (after - now) * slope
        if method == "heun":
            ahead = x + (after - now) / 2 * (slope + velocity(ahead, after))
        x = ahead
        if trace is not None:
            trace.append(x)
    return x


def drift(velocity, noisy, time):
    """v + g ∇log p_t = 2 v - x / t: ∇log p_t = (t v - x) / (1 - t), g = (1 - t) / t (eq. autoencoders-drift)."""
    return 2 * velocity - noisy / time


@torch.no_grad()
def random_walk(velocity, start, times=None, *, end=None, generator=None, trace=None):
    """Euler-Maruyama: x += drift dt + sqrt(2 g dt) noise along `times`, then one step of the drift alone.

    times: by default the released 250 steps, all in all: 249 from FIRST to LAST, shifted by SAMPLE_SHIFT, and the end.
    end: (time, size) of the last step; by default from the last of `times` to 1, RELEASED_END as released.
    Raises ValueError for times that start at 0, where the noise has no bound.
    """
    times = time_grid(249, SAMPLE_SHIFT, FIRST, LAST) if times is None else times
    if times[0] <= 0:
        raise ValueError(f"a random walk starts after time 0; its first time is {times[0].item()}.")
    x = start
    for now, after in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        step, spread = after - now, 2 * (1 - now) / now * (after - now)
        noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        x = x + step * drift(velocity(x, now), x, now) + spread**0.5 * noise
        if trace is not None:
            trace.append(x)
    time, size = (times[-1].item(), 1 - times[-1].item()) if end is None else end
    return x + size * drift(velocity(x, time), x, time)


@dataclass(frozen=True)
class GaussianFlow:
    """Data of the law N(mean, spread²), number by number, whose velocity and flow are known."""

    mean: float = 0.7
    spread: float = 0.3

    def deviation(self, time):
        """Of x_t: sqrt(t² q² + (1 - t)²)."""
        return ((time * self.spread) ** 2 + (1 - time) ** 2) ** 0.5

    def velocity(self, noisy, time):
        """E[x_1 - x_0 | x_t] = m + (t q² - (1 - t)) / (t² q² + (1 - t)²) (x_t - t m) (eq. autoencoders-gaussian)."""
        share = (time * self.spread**2 - (1 - time)) / self.deviation(time) ** 2
        return self.mean + share * (noisy - time * self.mean)

    def flow(self, noisy, now=0.0, after=1.0):
        """x carried from one time to another: its distance from the mean, in deviations, stays."""
        return after * self.mean + self.deviation(after) / self.deviation(now) * (noisy - now * self.mean)
