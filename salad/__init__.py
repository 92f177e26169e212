"""SALAD: self-supervised anomaly detection on X-rays (Bozorgtabar et al., MICCAI 2020).

Importing this package costs nothing: torch is loaded by the modules that need it.
"""

__version__ = "0.1.0"
