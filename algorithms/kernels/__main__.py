"""Compile every kernel beforehand: `python -m gossamer.algorithms.kernels`. A few seconds, once for each version."""

from __future__ import annotations

import importlib

MODULES = ("norms", "choose", "pack", "cosine", "ternary", "dynamic", "narrow")


def main() -> None:
    for name in MODULES:
        importlib.import_module(f"{__package__}.{name}")


if __name__ == "__main__":
    main()
