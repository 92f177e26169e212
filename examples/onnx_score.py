"""Score films with an exported model, without this program: python onnx_score.py model.onnx film.png film.jpeg ..."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
side, shrink_to, threshold = (json.loads(facts[name]) for name in ("decoded_size", "shrink_jpeg_to", "threshold"))
to_square = {"squash": Image.Image.resize, "pad": ImageOps.pad, "crop": ImageOps.fit}[facts["resize"]]
for path in sys.argv[2:]:
    with Image.open(path) as film:
        if film.mode not in ("L", "RGB") or facts["trim"] == "true":
            sys.exit(f"{path}: mode {film.mode}, trim {facts['trim']}: this takes 8-bit films of models without trim")
        film.draft("L", (shrink_to, shrink_to))  # a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size
        grey = ImageOps.exif_transpose(film).convert("L")
    square = np.asarray(to_square(grey, (side, side), Image.Resampling.BILINEAR))
    (score,) = session.run(["score"], {"grey": square[None, None]})[0].tolist()
    print(json.dumps({"path": path, "score": score, "abnormal": None if threshold is None else score > threshold}))
