"""Golden numbers of I3D-R50 from the code of those who published it: PyTorchVideo and mmaction2.

    git clone https://github.com/facebookresearch/pytorchvideo DIR/pytorchvideo      # f3142bb05cdb
    git clone https://github.com/open-mmlab/mmaction2 DIR/mmaction2                  # 4d6c93474730
    pip install mmengine==0.10.7 mmcv-lite==2.1.0 fvcore iopath scipy
    python make_i3d_r50.py --peers DIR

A case is TxS: T frames of S×S px.
"""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

from published import bare_packages, filled, mmaction2_recognizer, write
from torch import Tensor

PYTORCHVIDEO_CASES = {  # case -> shape of its clip
    "8x256": (1, 3, 8, 256, 256),  # the published size
    "8x224": (1, 3, 8, 224, 224),
    "16x112": (2, 3, 16, 112, 112),
    "64x224": (1, 3, 64, 224, 224),
    "79x224": (1, 3, 79, 224, 224),
}
MMACTION2_CASES = {
    "32x224": (1, 3, 32, 224, 224),  # the published size
    "32x256": (1, 3, 32, 256, 256),
    "16x112": (2, 3, 16, 112, 112),
    "64x224": (1, 3, 64, 224, 224),
    "79x224": (1, 3, 79, 224, 224),
}
MMACTION2 = {  # golden -> what stands in its config's name
    "mmaction2_i3d_r50": "r50",
    "mmaction2_i3d_r50_nl_dot_product": "r50-nl-dot-product",
    "mmaction2_i3d_r50_nl_embedded_gaussian": "r50-nl-embedded-gaussian",
    "mmaction2_i3d_r50_nl_gaussian": "r50-nl-gaussian",
}
CONFIG = "i3d/i3d_imagenet-pretrained-{}_8xb8-32x2x1-100e_kinetics400-rgb.py"
PYTORCHVIDEO = "facebookresearch/pytorchvideo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder that holds pytorchvideo and mmaction2")
    parser.add_argument("--only", default="", help="goldens whose name contains this")
    args = parser.parse_args()
    makers = {"pytorchvideo_i3d_r50": pytorchvideo, "pytorchvideo_nonlocal": pytorchvideo_nonlocal}
    for name in (*makers, *MMACTION2):
        if args.only in name:
            makers.get(name, mmaction2)(name, args.peers)


def pytorchvideo(name: str, peers: Path) -> None:
    """The hub's i3d_r50. Its head pools windows of 4×7×7, which a map of 112 px does not fill; its builder takes
    smaller ones, and 112 px get 4×4×4."""
    checkout = peers / "pytorchvideo"
    bare_packages(checkout, "pytorchvideo.models", "pytorchvideo.models.hub")
    _no_torchvision()
    from pytorchvideo.models.hub.resnet import i3d_r50

    net, small = filled(i3d_r50()), filled(i3d_r50(head_pool_kernel_size=(4, 4, 4)))

    def run(case: str, clip: Tensor) -> dict[str, Tensor]:
        used, pooled = small if case == "16x112" else net, []
        hook = used.blocks[-1].proj.register_forward_pre_hook(lambda _, x: pooled.append(x[0].mean((1, 2, 3))))
        logits = used(clip)
        hook.remove()
        return {"avgpool": pooled[0], "logits": logits}

    write(name, peer=PYTORCHVIDEO, checkout=checkout, net=net, cases=PYTORCHVIDEO_CASES, run=run)


def pytorchvideo_nonlocal(name: str, peers: Path) -> None:
    """One block: softmax(θᵀφ/√d), with φ and g of the pooled map. A case is TxHxW of the map."""
    checkout = peers / "pytorchvideo"
    bare_packages(checkout, "pytorchvideo.models")
    from pytorchvideo.layers.nonlocal_net import create_nonlocal

    net = filled(create_nonlocal(dim_in=32, dim_inner=16, pool_size=(1, 2, 2), instantiation="softmax"))
    cases = {"3x7x10": (2, 32, 3, 7, 10), "4x8x8": (1, 32, 4, 8, 8)}
    write(name, peer=PYTORCHVIDEO, checkout=checkout, net=net, cases=cases, run=lambda _, x: {"out": net(x)})


def mmaction2(name: str, peers: Path) -> None:
    """The recognizer of a config, backbone and head."""
    checkout = peers / "mmaction2"
    net = mmaction2_recognizer(checkout, config=CONFIG.format(MMACTION2[name]), backbone="resnet3d")

    def run(case: str, clip: Tensor) -> dict[str, Tensor]:
        crops = clip[:, None]  # N×1×3×T×H×W
        blob, _ = net.extract_feat(crops, stage="neck")
        logits, _ = net.extract_feat(crops, stage="head")
        return {"avgpool": net.cls_head.avg_pool(blob).flatten(1), "logits": logits}

    write(name, peer="open-mmlab/mmaction2", checkout=checkout, net=net, cases=MMACTION2_CASES, run=run)


def _no_torchvision() -> None:
    """PyTorchVideo's head.py imports RoIAlign for its detection heads; no one calls it here."""
    ops = types.ModuleType("torchvision.ops")
    ops.RoIAlign = None
    sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))
    sys.modules.setdefault("torchvision.ops", ops)


if __name__ == "__main__":
    main()
