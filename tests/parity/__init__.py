"""Number-by-number comparison with the published implementations: `python -m tests.parity DIR`.

Each module of this package that defines `cases(folder)` is a family. It finds its files in the
folder, rebuilds the case from what the file says of itself (seed, sizes, keys of the weights) and
yields one `Case` per array compared.
"""
