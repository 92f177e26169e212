"""Messages: what is escaped and cut, and how a shortage of the machine is told from the fault of a file."""

import ast
import errno
import unicodedata

import pytest
import torch
from running import REPOSITORY

from salad.errors import (
    NO_HANDLES,
    NO_MEMORY,
    NO_THREADS,
    MachineError,
    cut,
    printable,
    printable_lines,
    refuse_shortage,
    shortage,
)

HARMFUL = (
    "\x00\x07\x08\n\r\t\x1b\x7f\x85\x9b\xad\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\ufeff\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2066\u2067\u2068\u2069\u3164\ud800\udcff\U000e0001\U000e0041\U000e007f"
)


@pytest.mark.parametrize("sign", HARMFUL)
def test_no_sign_that_acts_on_a_terminal_or_hides_is_printed(sign):
    escaped = printable(f"a{sign}b")
    assert escaped.isascii() and escaped[:2] == "a\\" and escaped[-1] == "b" and escaped.isprintable()
    assert printable(escaped) == escaped
    assert printable_lines(f"a\n{sign}") == ("a\n" + printable(sign) if sign != "\n" else "a\n\n")


@pytest.mark.parametrize("name", ["Größe 3 µm", "胸部　正常", "صدر", "грудь", "a\u00a0b", "e\u0301", "C:\\x", "🫁"])
def test_names_of_all_languages_stay(name):
    assert printable(name) == name


def test_all_control_characters_and_line_breaks_are_known():
    acting = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) in ("Cc", "Cs", "Zl", "Zp")]
    acting += [chr(i) for i in range(0x110000) if unicodedata.bidirectional(chr(i)) in
               ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI", "BN")
               and unicodedata.category(chr(i)) == "Cf"]  # fmt: skip
    assert not [hex(ord(sign)) for sign in acting if printable(sign) == sign]


def test_a_long_message_is_cut_in_its_middle():
    assert cut(f"--k is {'9' * 400}, but must be at most 5") == f"--k is {'9' * 20}...{'9' * 20}, but must be at most 5"
    path = "/" + "d/" * 1500
    assert cut(f"{path}: no such folder; give another") == f"{path[:150]}...{path[-149:]}: no such folder; give another"
    line = "word " * 1000 + "the way out"
    assert len(cut(line)) < 1500 and cut(line).endswith("the way out") and cut(line).startswith("word word")
    for short in ("1" * 59, "a" * 399, "a b " * 300):
        assert cut(short) == short


SHORTAGES = [
    (MemoryError(), NO_MEMORY),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), NO_MEMORY),
    (torch.OutOfMemoryError("CUDA out of memory"), NO_MEMORY),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), NO_MEMORY),
    (RuntimeError("unable to mmap 64 bytes from file <x>: Cannot allocate memory (12)"), NO_MEMORY),
    (ImportError("libtorch_cpu.so: failed to map segment from shared object"), NO_MEMORY),
    (RuntimeError("can't start new thread"), NO_THREADS),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), NO_THREADS),
    (OSError(errno.EMFILE, "Too many open files"), NO_HANDLES),
    (OSError(errno.ENFILE, "Too many open files in system"), NO_HANDLES),
    (OSError(errno.EIO, "Input/output error"), None),
    (OSError(errno.EACCES, "Permission denied"), None),
    (ValueError("a damaged file"), None),
]


@pytest.mark.parametrize(("error", "reason"), SHORTAGES)
def test_a_shortage_is_told_by_its_kind(error, reason):
    assert shortage(error) == reason
    try:
        try:
            raise error
        except Exception as caught:
            raise ValueError("behind it") from caught
    except ValueError as outer:
        assert shortage(outer) == reason
    if reason:
        with pytest.raises(MachineError, match="x.png: "):
            refuse_shortage(error, "x.png")
    refuse_shortage(ValueError("a damaged file"), "x.png")


# handlers of all exceptions that need not tell a shortage: what they guard is not read again as damaged or missing
TOLERANT = {
    "cli/program.py",  # the last handler, which tells it
    "images/headers.py",  # the scan of all images tells it
    "networks/compiled.py",  # the network runs uncompiled, with the reason in the log
    "runs/followers.py",  # the training goes on, with the reason in the log
    "datasets/author_archive.py",  # the message quotes the error
}


def test_every_handler_of_all_exceptions_tells_a_shortage():
    salad = REPOSITORY / "salad"
    for path in salad.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception":
                is_tolerant = str(path.relative_to(salad)) in TOLERANT
                assert is_tolerant or "shortage" in ast.unparse(node), f"{path}:{node.lineno}"
