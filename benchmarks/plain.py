"""Plain baseline: both networks and a training step, written from the paper with standard torch modules.

As in the released program, images are in NCHW layout, all numbers are fp32, Adam loops over the parameters, and the 1x1
convolution follows the upsampling. State-dict names are the published ones, so that weights can be copied.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

UNET_WIDTHS = (16, 32, 64, 128, 256, 512, 1024)
DECODER_WIDTHS = (512, 512, 512, 256, 256, 128, 128, 64, 64)


def double_conv(num_in: int, num_out: int) -> nn.Module:
    """Make two layers of 3x3 convolution, batch norm and LeakyReLU 0.1."""
    layers = []
    for width in (num_in, num_out):
        layers += [nn.Conv2d(width, num_out, 3, padding=1, bias=False), nn.BatchNorm2d(num_out), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


def doubled() -> nn.Module:
    """Make bilinear upsampling x2 with aligned corners."""
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


class PlainDoubleConv(nn.Module):
    """Double convolution, as a module of its own for the published names."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv = double_conv(num_in, num_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, num_in, H, W) -> (B, num_out, H, W)."""
        return self.conv(maps)  # type: ignore[no-any-return]


class PlainDown(nn.Module):
    """Downsampling: 2x2 max pool, double convolution."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.conv = PlainDoubleConv(num_in, num_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, num_in, H, W) -> (B, num_out, H/2, W/2)."""
        return self.conv(self.pool(maps))  # type: ignore[no-any-return]


class PlainUp(nn.Module):
    """Upsampling: bilinear x2, 1x1 convolution, batch norm, double convolution."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.up = nn.Sequential(doubled(), nn.Conv2d(num_in, num_out, 1, bias=False), nn.BatchNorm2d(num_out))
        self.conv = PlainDoubleConv(num_out, num_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, num_in, H, W) -> (B, num_out, 2H, 2W)."""
        return self.conv(self.up(maps))  # type: ignore[no-any-return]


class PlainUNet(nn.Module):
    """Network `unet`; isize is a multiple of 64."""

    def __init__(self, *, rep_dim: int, isize: int) -> None:
        super().__init__()
        widths, grid = UNET_WIDTHS, isize // 64
        self.input = PlainDoubleConv(3, widths[0])
        for i in range(6):
            self.add_module(f"e{i + 1}", PlainDown(widths[i], widths[i + 1]))
            self.add_module(f"d{i + 1}", PlainUp(widths[6 - i], widths[5 - i]))
        self.feat = nn.Conv2d(widths[-1], rep_dim, grid, bias=False)
        self.defeat = nn.ConvTranspose2d(rep_dim, widths[-1], grid, bias=False)
        self.final = nn.Conv2d(widths[0], 3, 1, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, 3, S, S) to embeddings (B, D) and reconstructions (B, 3, S, S)."""
        maps = self.input(images)
        for i in range(1, 7):
            maps = getattr(self, f"e{i}")(maps)
        z = F.normalize(self.feat(maps).flatten(1), dim=1)
        maps = self.defeat(z[:, :, None, None])
        for i in range(1, 7):
            maps = getattr(self, f"d{i}")(maps)
        return z, torch.tanh(self.final(maps))


class PlainResidual(nn.Module):
    """Residual block: conv3x3 + BN, ReLU, conv3x3 + BN, add the input, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bnrm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, width, H, W) -> (B, width, H, W)."""
        return torch.relu(self.bnrm(self.conv2(torch.relu(self.conv1(maps)))) + maps)


class PlainUpsampling(nn.Module):
    """Upsampling residual block: u = ReLU(BN(1x1 conv(bilinear x2))); conv3x3 + BN of u, add u, ReLU."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.upsampleLayer = nn.Sequential(
            doubled(), nn.Conv2d(num_in, num_out, 1, bias=False), nn.BatchNorm2d(num_out), nn.ReLU()
        )
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.bnrm = nn.BatchNorm2d(num_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, num_in, H, W) -> (B, num_out, 2H, 2W)."""
        maps = self.upsampleLayer(maps)
        return torch.relu(self.bnrm(self.conv2(maps)) + maps)


class PlainDecoder(nn.Module):
    """Decoder: eight residual blocks, three of them upsampling, then the output layer."""

    def __init__(self) -> None:
        super().__init__()
        pairs = zip(DECODER_WIDTHS[:-1], DECODER_WIDTHS[1:], strict=True)
        self.decoder = nn.Sequential(*(PlainResidual(a) if a == b else PlainUpsampling(a, b) for a, b in pairs))
        self.output = nn.Sequential(doubled(), nn.Conv2d(DECODER_WIDTHS[-1], 3, 1, bias=False), nn.Tanh())

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, 512, S/16, S/16) to reconstructions (B, 3, S, S)."""
        return self.output(self.decoder(features))  # type: ignore[no-any-return]


class PlainResNet18(nn.Module):
    """Network `CXR_resnet18`; isize is a multiple of 16."""

    def __init__(self, *, rep_dim: int, isize: int) -> None:
        super().__init__()
        self.encoder = resnet18(num_classes=rep_dim)
        self.encoder.maxpool = nn.Identity()
        self.decoder = PlainDecoder()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, 3, S, S) to embeddings (B, D) and reconstructions (B, 3, S, S)."""
        trunk = self.encoder
        maps = trunk.relu(trunk.bn1(trunk.conv1(images)))
        maps = trunk.layer4(trunk.layer3(trunk.layer2(trunk.layer1(maps))))
        z = F.normalize(trunk.fc(trunk.avgpool(maps).flatten(1)), dim=1)
        return z, self.decoder(maps)


PLAIN_NETWORKS = {"unet": PlainUNet, "CXR_resnet18": PlainResNet18}


def plain_loss(
    z: Tensor,
    recon: Tensor,
    targets: Tensor,
    *,
    index: Tensor,
    rows: Tensor,
    neighbours: dict[int, list[int]],
    centre: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the losses: reconstruction, aggregation (image by image) and one-class Deep SVDD.

    Args:
        z: unit embeddings, (B, D).
        recon: reconstructions, (B, 3, S, S).
        targets: clean views, (B, 3, S, S).
        index: memory row of each embedding, (B,).
        rows: rows of the memory bank, (N, D).
        neighbours: neighbours of each anchor, by row of the anchor.
        centre: centre of Deep SVDD, (D,).
        temperature: temperature of the softmax.
    """
    probabilities = torch.softmax(z @ rows.T / temperature, dim=1)
    logs = []
    for sample, row in enumerate(index.tolist()):
        probability = probabilities[sample, row]
        if row in neighbours:
            probability = probability + probabilities[sample, neighbours[row]].sum()
        logs.append(probability.log())
    return (recon - targets).abs().mean(), -torch.stack(logs).mean(), ((z - centre) ** 2).sum(dim=1).mean()


@torch.no_grad()
def plain_update(rows: Tensor, index: Tensor, z: Tensor, *, momentum: float) -> None:
    """Move the memory rows of a batch towards its embeddings, in place."""
    moved = momentum * rows[index] + (1 - momentum) * z
    rows[index] = moved / moved.norm(dim=1, keepdim=True)
