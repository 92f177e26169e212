"""Network `unet`: encoder-decoder without skip connections, for any image size that is a multiple of 64."""

import torch.nn.functional as F
from torch import Tensor, nn

from salad.networks.layers import BatchNorm2d, at_least_float32, join_stages, upsample

WIDTHS = (16, 32, 64, 128, 256, 512, 1024)
SIZE_MULTIPLE = 64  # six poolings
PATCH_STEP = 3  # number of poolings before the coarser of the two maps of the patch features


class DoubleConv(nn.Module):
    """Double convolution: 3x3 convolution, batch norm and LeakyReLU 0.1, twice."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(num_in, num_out, 3, padding=1, bias=False),
            BatchNorm2d(num_out),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(num_out, num_out, 3, padding=1, bias=False),
            BatchNorm2d(num_out),
            nn.LeakyReLU(0.1, inplace=True),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, num_in, H, W) to (B, num_out, H, W)."""
        return self.conv(maps)  # type: ignore[no-any-return]


class Down(nn.Module):
    """Encoder stage: 2x2 max pool, then a double convolution."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv = DoubleConv(num_in, num_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, num_in, H, W) to (B, num_out, H/2, W/2)."""
        return self.conv(F.max_pool2d(maps, 2))  # type: ignore[no-any-return]


class Up(nn.Module):
    """Decoder stage: bilinear x2, 1x1 convolution, batch norm, then a double convolution."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        # Numbered 1 and 2 as in the published files. The convolution runs before the upsampling, on four times
        # fewer pixels; the result is the same because both are linear and commute.
        self.up = nn.ModuleDict({"1": nn.Conv2d(num_in, num_out, 1, bias=False), "2": BatchNorm2d(num_out)})
        self.conv = DoubleConv(num_out, num_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, num_in, H, W) to (B, num_out, 2H, 2W)."""
        return self.conv(self.up["2"](upsample(self.up["1"](maps))))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """U-Net without skip connections: encoder, unit embedding, decoder (32.4 M parameters at 256 pixels).

    Attribute names are those of the published files.

    Args:
        rep_dim: D, length of the embedding.
        isize: S, height and width of the images in pixels, a multiple of 64.
    """

    weights_loaded = "none"

    def __init__(self, *, rep_dim: int, isize: int) -> None:
        super().__init__()
        grid = isize // SIZE_MULTIPLE
        self.num_patch_channels = WIDTHS[PATCH_STEP - 1] + WIDTHS[PATCH_STEP]
        self.input = DoubleConv(3, WIDTHS[0])
        for step, (narrow, wide) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], strict=True), start=1):
            self.add_module(f"e{step}", Down(narrow, wide))
        self.feat = nn.Conv2d(WIDTHS[-1], rep_dim, grid, bias=False)
        self.defeat = nn.ConvTranspose2d(rep_dim, WIDTHS[-1], grid, bias=False)
        for step, (wide, narrow) in enumerate(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True), start=1):
            self.add_module(f"d{step}", Up(wide, narrow))
        self.final = nn.Conv2d(WIDTHS[0], 3, 1, bias=False)

    def encode(self, images: Tensor) -> Tensor:
        """Compute unit embeddings (B, D) of images (B, 3, S, S) in [-1, 1]."""
        maps = self._down(images, len(WIDTHS) - 1)
        return F.normalize(at_least_float32(self.feat(maps)).flatten(1), dim=1)

    def patch_features(self, images: Tensor) -> Tensor:
        """Compute patch features (B, 192, S/8, S/8) of images (B, 3, S, S) in [-1, 1], from two middle stages."""
        fine = self._down(images, PATCH_STEP - 1)
        return join_stages(fine, self.get_submodule(f"e{PATCH_STEP}")(fine))

    def _down(self, images: Tensor, num_steps: int) -> Tensor:
        maps: Tensor = self.input(images)
        for step in range(1, num_steps + 1):
            maps = self.get_submodule(f"e{step}")(maps)
        return maps

    def decode(self, z: Tensor) -> Tensor:
        """Reconstruct images (B, 3, S, S) in [-1, 1] from embeddings (B, D)."""
        maps = self.defeat(z[:, :, None, None])
        for step in range(1, len(WIDTHS)):
            maps = self.get_submodule(f"d{step}")(maps)
        return at_least_float32(self.final(maps)).tanh()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute unit embeddings (B, D) and reconstructions (B, 3, S, S) of images (B, 3, S, S) in [-1, 1]."""
        z = self.encode(images)
        return z, self.decode(z)
