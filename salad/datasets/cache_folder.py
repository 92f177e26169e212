"""Where the cache of a data set lies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

FOLDER_NAME = ".salad_cache"


def choose_folder(cache: str | None, data_path: Path) -> Path | None:
    """Where to keep the cache of a data set.

    Args:
        cache: a folder, ``off``, or None for a hidden folder in `data_path` or, where that is read-only, the
            user's cache folder.
        data_path: the data set; where it is a file, the folder that holds it has the hidden one, for all
            such files.

    Returns:
        None for ``off``.
    """
    if cache == "off":
        return None
    home, inside = (data_path.parent, data_path.name) if data_path.is_file() else (data_path, "")
    if cache is None and os.access(home, os.W_OK):
        return home / FOLDER_NAME / inside
    place = data_path.resolve()
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "salad"
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    return (Path(cache) if cache else user) / f"{place.name}-{digest}"
