"""Inner loops, compiled by numba.

Only modules that compute import what is in here, and only when they first do: who merely reads never loads numba. A
module's kernels are compiled when it is imported, each for one signature, and kept on disk (see `compiled`).
`python -m gossamer.algorithms.kernels` compiles all of them beforehand.

The arithmetic is never reordered or fused, so a kernel returns the same bits on every machine.
"""
