"""SALAD: self-supervised anomaly detection on X-rays (Bozorgtabar et al., MICCAI 2020).

Importing this package is cheap: torch is loaded by the modules that need it, and by the first use of `Detector`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salad.detector import Detector

__all__ = ["Detector", "__version__"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Import `Detector` on first use."""
    if name == "Detector":
        from salad.detector import Detector

        return Detector
    raise AttributeError(f"module 'salad' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List the public names, with those that are imported on first use."""
    return sorted({*globals(), *__all__})
