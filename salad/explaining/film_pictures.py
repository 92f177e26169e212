"""Draw the pictures of `predict --heatmaps DIR`."""

from __future__ import annotations

from pathlib import Path

import torch

from salad.errors import printable, say
from salad.explaining.explain import Explainer
from salad.explaining.overlays import draw, make_folder, make_picture_name, save
from salad.scoring.row import Row
from salad.scoring.stream import Scored


class FilmPictures:
    """Pictures of new films, each drawn as soon as its film is scored.

    Args:
        explainer: of the model that scores the films.
        folder: folder for the pictures, which is made; a picture of the same path is replaced.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, explainer: Explainer, folder: Path) -> None:
        make_folder(folder)
        self.explainer, self.folder, self.num_pictures = explainer, folder, 0

    def take(self, scored: Scored, _: Row) -> None:
        """Draw a film; nothing for one that cannot be read.

        Raises:
            InputError: a training image can no longer be read.
            StorageError: the picture cannot be written.
        """
        if scored.pixels is None:
            return
        assert isinstance(scored.source, Path), "predict scores files"
        (explanation,) = self.explainer.explain(torch.tensor(scored.pixels)[None, None])
        save(draw(explanation), self.folder / make_picture_name(scored.source))
        self.num_pictures += 1

    def close(self) -> None:
        """Say the number of the pictures."""
        say(f"heatmaps: {self.num_pictures:,} pictures in {printable(self.folder)}")
