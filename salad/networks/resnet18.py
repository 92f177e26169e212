"""Network `CXR_resnet18`: ResNet-18 encoder and residual decoder, for any image size that is a multiple of 16."""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from salad.networks.layers import BatchNorm2d, at_least_float32, join_stages, upsample

DECODER_WIDTHS = (512, 512, 512, 256, 256, 128, 128, 64, 64)  # input of the first block, then output of each block


class ResidualBlock(nn.Module):
    """Residual block: conv3x3 + BN, ReLU, conv3x3 + BN, add the input, ReLU; the shape does not change."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), BatchNorm2d(width))
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bnrm = BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return F.relu(self.bnrm(self.conv2(F.relu(self.conv1(maps)))) + maps)


class UpsamplingBlock(nn.Module):
    """Residual block that doubles the size: u = ReLU(BN(1x1 conv(bilinear x2))), then ReLU(BN(conv3x3(u)) + u).

    Published files contain another 3x3 convolution for this block. It is never used and left out here.
    """

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        # Numbered 1 and 2 as in the published files. The convolution runs before the upsampling, on four times
        # fewer pixels; the result is the same because both are linear and commute.
        self.upsampleLayer = nn.ModuleDict({"1": nn.Conv2d(num_in, num_out, 1, bias=False), "2": BatchNorm2d(num_out)})
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.bnrm = BatchNorm2d(num_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, num_in, H, W) to (B, num_out, 2H, 2W)."""
        maps = F.relu(self.upsampleLayer["2"](upsample(self.upsampleLayer["1"](maps))))
        return F.relu(self.bnrm(self.conv2(maps)) + maps)


class Decoder(nn.Module):
    """Decoder of eight residual blocks, three of them upsampling, and an output layer that upsamples, too."""

    def __init__(self) -> None:
        super().__init__()
        pairs = zip(DECODER_WIDTHS[:-1], DECODER_WIDTHS[1:], strict=True)
        self.decoder = nn.Sequential(
            *(ResidualBlock(wide) if wide == narrow else UpsamplingBlock(wide, narrow) for wide, narrow in pairs)
        )
        self.output = nn.ModuleDict({"1": nn.Conv2d(DECODER_WIDTHS[-1], 3, 1, bias=False)})

    def forward(self, features: Tensor) -> Tensor:
        """Reconstruct images (B, 3, S, S) in [-1, 1] from features (B, 512, S/16, S/16)."""
        return upsample(at_least_float32(self.output["1"](self.decoder(features)))).tanh()


class CXRResNet18(nn.Module):
    """ResNet-18 trunk without its first max pool, unit embedding, residual decoder (23.2 M parameters).

    Attribute names are those of the published files. No weight depends on the image size.

    Args:
        rep_dim: D, length of the embedding.
        isize: S, height and width of the images in pixels, a multiple of 16.
    """

    weights_loaded = "none"
    num_patch_channels = 128 + 256

    def __init__(self, *, rep_dim: int, isize: int) -> None:
        super().__init__()
        self.encoder = resnet18(num_classes=rep_dim, norm_layer=BatchNorm2d)
        self.decoder = Decoder()

    def features(self, images: Tensor) -> Tensor:
        """Compute the last feature map (B, 512, S/16, S/16) of images (B, 3, S, S) in [-1, 1]."""
        return self.encoder.layer4(self.encoder.layer3(self._to_layer2(images)))  # type: ignore[no-any-return]

    def patch_features(self, images: Tensor) -> Tensor:
        """Compute patch features (B, 384, S/8, S/8) of images (B, 3, S, S) in [-1, 1], from two middle stages."""
        fine = self._to_layer2(images)
        return join_stages(fine, self.encoder.layer3(fine))

    def _to_layer2(self, images: Tensor) -> Tensor:
        trunk = self.encoder
        maps = trunk.relu(trunk.bn1(trunk.conv1(images)))
        return trunk.layer2(trunk.layer1(maps))  # type: ignore[no-any-return]

    def embed(self, features: Tensor) -> Tensor:
        """Compute unit embeddings (B, D) from the last feature map (B, 512, H, W)."""
        return F.normalize(at_least_float32(self.encoder.fc(features.mean(dim=(2, 3)))), dim=1)

    def encode(self, images: Tensor) -> Tensor:
        """Compute unit embeddings (B, D) of images (B, 3, S, S) in [-1, 1]."""
        return self.embed(self.features(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute unit embeddings (B, D) and reconstructions (B, 3, S, S) of images (B, 3, S, S) in [-1, 1]."""
        features = self.features(images)
        return self.embed(features), self.decoder(features)
