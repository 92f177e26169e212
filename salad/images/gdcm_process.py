"""Decode one compressed DICOM frame with GDCM, in a separate program because a damaged frame may abort it.

    python gdcm_process.py SYNTAX PHOTOMETRIC ROWS COLUMNS SAMPLES ALLOCATED STORED SIGNED <frame >pixels

The program is started by its path and imports nothing from this package, so that it starts fast.
"""

import contextlib
import resource
import sys

MAX_MEMORY_BYTES = 2**31


def main() -> None:
    """Decode standard input to standard output, as little-endian samples, pixel by pixel."""
    for limit, bound in ((resource.RLIMIT_AS, MAX_MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(OSError, ValueError):  # some systems lack a limit
            resource.setrlimit(limit, (bound, bound))
    syntax, photometric, *numbers = sys.argv[1:]
    rows, columns, samples, allocated, stored, signed = map(int, numbers)
    del sys.path[0]  # this folder: its modules must not hide top-level ones
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(sys.stdin.buffer.read())
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, stored, stored - 1, signed))
    # GetBuffer returns text, in which bytes that are not UTF-8 are surrogates
    sys.stdout.buffer.write(image.GetBuffer().encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    main()
