"""Latents with a geometry (GAE): of one length, pointing where a teacher says, decoded under noise, made by a flow.

sphere       unit_rms, its oracle and its gradient; directional and semantic_loss, 2 - 2 cos
teacher      Teacher, train_teacher, Downsampler, train_downsampler, features_of, targets_of
autoencoder  geometric(), train_autoencoder with targets; means_of, agreement
probes       probe: what a linear softmax reads in latents
flow         shifted times, ChannelScale, flow_loss; walk (Euler, Heun), random_walk (Euler-Maruyama); GaussianFlow
generator    FlowModel, train_flow, generate
plane        latents of two numbers per digit, which can be drawn
"""

from effattn_core.autoencoders.autoencoder import geometric, train_autoencoder
from effattn_core.autoencoders.flow import ChannelScale, GaussianFlow, random_walk, shifted, walk
from effattn_core.autoencoders.generator import FlowModel, generate, train_flow
from effattn_core.autoencoders.probes import probe
from effattn_core.autoencoders.sphere import directional, semantic_loss, unit_rms, unit_rms_backward, unit_rms_oracle
from effattn_core.autoencoders.teacher import Downsampler, Teacher, train_downsampler, train_teacher

__all__ = [
    "ChannelScale",
    "Downsampler",
    "FlowModel",
    "GaussianFlow",
    "Teacher",
    "directional",
    "generate",
    "geometric",
    "probe",
    "random_walk",
    "semantic_loss",
    "shifted",
    "train_autoencoder",
    "train_downsampler",
    "train_flow",
    "train_teacher",
    "unit_rms",
    "unit_rms_backward",
    "unit_rms_oracle",
    "walk",
]
