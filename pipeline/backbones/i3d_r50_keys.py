"""The checkpoints that I3D-R50 reads, as data: PyTorchVideo's, mmaction2's with and without non-local blocks, ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.backbones.checkpoints import KeyMap
from pipeline.backbones.identity import Option

DEPTHS = {"res2": 3, "res3": 4, "res4": 6, "res5": 3}  # stage -> blocks
NON_LOCAL = {"res3": (1, 3), "res4": (1, 3, 5)}  # stage -> the blocks that have a non-local block after them
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
COUNTERS = r".*\.num_batches_tracked"

PYTORCHVIDEO_STAGES = {"res2": 1, "res3": 3, "res4": 4, "res5": 5}  # blocks.2 is a pool
MMACTION2_STAGES = {"res2": "layer1", "res3": "layer2", "res4": "layer3", "res5": "layer4"}
EMBEDDED_NOTE = (
    "mmaction2's dot-product and embedded-gaussian blocks have the same keys; these are read as dot-product: add "
    "model_options {affinity: softmax} if they are of the embedded-gaussian config"
)

Keys = dict[str, str]  # the file's key -> our parameter


def _blocks() -> Iterator[tuple[str, int]]:
    return ((stage, block) for stage, depth in DEPTHS.items() for block in range(depth))


def _conv_bn(ours: str, conv: str, bn: str) -> Keys:
    return {f"{conv}.weight": f"{ours}.conv.weight"} | {f"{bn}.{kind}": f"{ours}.bn.{kind}" for kind in BATCH_NORM}


def _conv(ours: str, theirs: str) -> Keys:
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}


def _pytorchvideo() -> Keys:
    keys = _conv_bn("stem", "blocks.0.conv", "blocks.0.norm")
    for stage, block in _blocks():
        ours, theirs = f"{stage}.{block}", f"blocks.{PYTORCHVIDEO_STAGES[stage]}.res_blocks.{block}"
        for conv, letter in (("conv1", "a"), ("conv2", "b"), ("conv3", "c")):
            keys |= _conv_bn(f"{ours}.{conv}", f"{theirs}.branch2.conv_{letter}", f"{theirs}.branch2.norm_{letter}")
        if block == 0:
            keys |= _conv_bn(f"{ours}.shortcut", f"{theirs}.branch1_conv", f"{theirs}.branch1_norm")
    return keys | _conv("logits", "blocks.6.proj")


def _mmaction2(non_local: str, *, prefix: str = "", head: str | None = None) -> Keys:
    keys = _conv_bn("stem", f"{prefix}conv1.conv", f"{prefix}conv1.bn")
    for stage, block in _blocks():
        ours, theirs = f"{stage}.{block}", f"{prefix}{MMACTION2_STAGES[stage]}.{block}"
        for conv in ("conv1", "conv2", "conv3"):
            keys |= _conv_bn(f"{ours}.{conv}", f"{theirs}.{conv}.conv", f"{theirs}.{conv}.bn")
        if block == 0:
            keys |= _conv_bn(f"{ours}.shortcut", f"{theirs}.downsample.conv", f"{theirs}.downsample.bn")
        if non_local != "none" and block in NON_LOCAL.get(stage, ()):
            keys |= _mmaction2_non_local(non_local, f"{ours}.non_local", f"{theirs}.non_local_block")
    return keys | (_conv("logits", head) if head else {})


def _mmaction2_non_local(non_local: str, ours: str, theirs: str) -> Keys:
    keys = _conv(f"{ours}.g", f"{theirs}.g.0.conv")
    keys |= _conv_bn(f"{ours}.out", f"{theirs}.conv_out.conv", f"{theirs}.conv_out.bn")
    if non_local == "embedded":
        keys |= _conv(f"{ours}.theta", f"{theirs}.theta.conv") | _conv(f"{ours}.phi", f"{theirs}.phi.0.conv")
    return keys


def _formats() -> Iterator[KeyMap]:
    """Those with more keys first: a file of theirs has all keys of the others, too."""
    for non_local, words in (("embedded", ", non-local"), ("gaussian", ", gaussian non-local"), ("none", "")):
        recognizer = _mmaction2(non_local, prefix="backbone.", head="cls_head.fc_cls")
        ours = sorted(recognizer.values())
        note = EMBEDDED_NOTE if non_local == "embedded" else ""
        options: Mapping[str, Option] = {"non_local": non_local}
        theirs: Mapping[str, Option] = {"non_local": non_local, "variant": "32x2"}
        yield KeyMap(f"reelmill{words}", dict(zip(ours, ours, strict=True)), options=options)
        yield KeyMap(f"mmaction2 recognizer{words}", recognizer, note, ignored=(COUNTERS,), options=theirs)
        yield KeyMap(f"mmaction2 backbone{words}", _mmaction2(non_local), note, ignored=(COUNTERS,), options=theirs)
    options = {"non_local": "none", "variant": "8x8"}
    yield KeyMap("PyTorchVideo I3D_8x8_R50", _pytorchvideo(), ignored=(COUNTERS,), options=options)


FORMATS = tuple(_formats())
