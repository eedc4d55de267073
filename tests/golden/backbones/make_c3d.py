"""Golden numbers of C3D from the code of DavideA/c3d-pytorch and of mmaction2.

    git clone https://github.com/DavideA/c3d-pytorch DIR/c3d-pytorch     # 1111ccf0de77
    git clone https://github.com/open-mmlab/mmaction2 DIR/mmaction2      # 4d6c93474730
    pip install mmengine==0.10.7 mmcv-lite==2.1.0 scipy
    python make_c3d.py --peers DIR

Both pad pool5 on both sides, where the released Caffe net pools in ceil mode. `symmetric` is their code as it is;
`ceil` is their code with that one module changed. fc6 takes one size: 16 frames of 112×112 px.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from published import filled, mmaction2_recognizer, write
from torch import Tensor, nn

SHAPE = (2, 3, 16, 112, 112)
CASES = {"symmetric": SHAPE, "ceil": SHAPE}
CONFIG = "c3d/c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder that holds c3d-pytorch and mmaction2")
    peers = parser.parse_args().peers
    davidea(peers / "c3d-pytorch")
    mmaction2(peers / "mmaction2")


def davidea(checkout: Path) -> None:
    sys.path.insert(0, str(checkout))
    from C3D_model import C3D

    net = filled(C3D())
    # its forward ends in a softmax; what comes into each layer is the layer before
    inputs = Inputs(pool5=net.fc6, fc6=net.fc7, fc7=net.fc8, fc8=net.softmax)
    symmetric = net.pool5

    def run(case: str, clip: Tensor) -> dict[str, Tensor]:
        net.pool5 = symmetric if case == "symmetric" else nn.MaxPool3d(2, 2, ceil_mode=True)
        net(clip)
        return inputs.seen

    write("davidea_c3d", peer="DavideA/c3d-pytorch", checkout=checkout, net=net, cases=CASES, run=run)


def mmaction2(checkout: Path) -> None:
    net = mmaction2_recognizer(checkout, config=CONFIG, backbone="c3d")
    inputs = Inputs(pool5=net.backbone.fc6, fc6=net.backbone.fc7, fc7=net.cls_head.fc_cls)
    symmetric = net.backbone.pool5

    def run(case: str, clip: Tensor) -> dict[str, Tensor]:
        net.backbone.pool5 = symmetric if case == "symmetric" else nn.MaxPool3d(2, 2, ceil_mode=True)
        logits, _ = net.extract_feat(clip[:, None], stage="head")
        return {**inputs.seen, "fc8": logits}

    write("mmaction2_c3d", peer="open-mmlab/mmaction2", checkout=checkout, net=net, cases=CASES, run=run)


class Inputs:
    """What came into some modules at the last forward, by name."""

    def __init__(self, **modules: nn.Module) -> None:
        self.seen: dict[str, Tensor] = {}
        for name, module in modules.items():
            module.register_forward_pre_hook(lambda _, x, name=name: self.seen.__setitem__(name, x[0].clone()))


if __name__ == "__main__":
    main()
