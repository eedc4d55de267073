"""The keys of I3D checkpoints, as data: for each published form, key of the file -> our parameter."""

from __future__ import annotations

from typing import Literal

from pipeline.backbones.checkpoints import KeyMap

STEM = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")
MIXED = ("Mixed_3b", "Mixed_3c", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f", "Mixed_5b", "Mixed_5c")
BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
UNITS = (*STEM, *(f"{mixed}.{branch}" for mixed in MIXED for branch in BRANCHES))  # each a convolution and batch norm

CONV, GAMMA, BETA, MEAN, VARIANCE = "conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"

HASSONY2 = {
    "b0": "branch_0",
    "b1a": "branch_1.0",
    "b1b": "branch_1.1",
    "b2a": "branch_2.0",
    "b2b": "branch_2.1",
    "b3b": "branch_3.1",
}
HASSONY2_NOTE = (
    "video_features runs such files with another eps of batch norm and another padding than DeepMind: add "
    "model_options {port: video_features} for its numbers"
)
DEEPMIND = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}
# The code and every released checkpoint of DeepMind's name this one unit differently.
DEEPMIND_5B_B2B = "Branch_2/Conv3d_0a_3x3"


def formats(modality: Literal["rgb", "flow"]) -> tuple[KeyMap, ...]:
    """What i3d_rgb or i3d_flow can read."""
    scope = {"rgb": "RGB", "flow": "Flow"}[modality]
    published = (_ours(), _piergiaj(), _hassony2(), _deepmind(f"DeepMind {scope}", f"{scope}/inception_i3d/"))
    return (*published, _deepmind("DeepMind RGB, Kinetics-600", "")) if modality == "rgb" else published


def _ours() -> KeyMap:
    names = [f"{unit}.{value}" for unit in UNITS for value in (CONV, GAMMA, BETA, MEAN, VARIANCE)]
    return KeyMap("reelmill", {name: name for name in (*names, "logits.weight", "logits.bias")})


def _piergiaj() -> KeyMap:
    keys = {"logits.conv3d.weight": "logits.weight", "logits.conv3d.bias": "logits.bias"}
    for unit in UNITS:
        keys[f"{unit}.conv3d.weight"] = f"{unit}.{CONV}"
        keys |= {f"{unit}.{value}": f"{unit}.{value}" for value in (GAMMA, BETA, MEAN, VARIANCE)}
    return KeyMap("piergiaj pytorch-i3d", keys)


def _hassony2() -> KeyMap:
    keys = {"conv3d_0c_1x1.conv3d.weight": "logits.weight", "conv3d_0c_1x1.conv3d.bias": "logits.bias"}
    for unit in UNITS:
        mixed, _, branch = unit.partition(".")
        theirs = f"{mixed.lower()}.{HASSONY2[branch]}" if branch else mixed.lower()
        keys[f"{theirs}.conv3d.weight"] = f"{unit}.{CONV}"
        for value in (GAMMA, BETA, MEAN, VARIANCE):
            keys[f"{theirs}.batch3d.{value.removeprefix('bn.')}"] = f"{unit}.{value}"
    return KeyMap("hassony2 / video_features", keys, HASSONY2_NOTE)


def _deepmind(name: str, prefix: str) -> KeyMap:
    """Of a tensor bundle. Its batch norms have no gamma; what was saved in mid-training has Momentum's slots."""
    head = f"{prefix}Logits/Conv3d_0c_1x1/conv_3d"
    keys = {f"{head}/w": "logits.weight", f"{head}/b": "logits.bias"}
    for unit in UNITS:
        mixed, _, branch = unit.partition(".")
        named = DEEPMIND_5B_B2B if unit == "Mixed_5b.b2b" else DEEPMIND.get(branch, "")
        theirs = f"{prefix}{mixed}/{named}" if branch else f"{prefix}{mixed}"
        keys[f"{theirs}/conv_3d/w"] = f"{unit}.{CONV}"
        for key, value in (("beta", BETA), ("moving_mean", MEAN), ("moving_variance", VARIANCE)):
            keys[f"{theirs}/batch_norm/{key}"] = f"{unit}.{value}"
    gammas = {f"{unit}.{GAMMA}": 1.0 for unit in UNITS}
    return KeyMap(name, keys, layout="tensorflow", constants=gammas, ignored=(r"/Momentum$",))
