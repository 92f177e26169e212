"""From a sample to its pixels, the same way in training and in scoring."""

from dataclasses import dataclass

from salad.datasets.arrays import read_row
from salad.datasets.images import GreyImage, read_image
from salad.datasets.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """How images are read.

    Attributes:
        isize: S, in pixels.
        resize: ``squash``, ``pad`` or ``crop``.
        trim: whether uniform borders are cut off before that.
    """

    isize: int
    resize: str
    trim: bool = False

    def read(self, sample: Sample) -> GreyImage:
        """The pixels of a sample, (S, S).

        Raises:
            InputError: its file cannot be read.
        """
        if sample.row is not None:
            return read_row(sample, isize=self.isize, resize=self.resize, trim=self.trim)
        return read_image(sample.path, isize=self.isize, resize=self.resize, trim=self.trim)

    @property
    def key(self) -> str:
        """A name for pixels that are read this way."""
        return f"{self.isize}-{self.resize}" + ("-trim" if self.trim else "")
