"""Eigensolvers of L_sym = I - D^-1/2 W D^-1/2, each a module with one function of the same name.

`solver(problem, k, *, tolerance, seed, start=None) -> (eigenvalues, u)`: the k smallest eigenvalues
(k,) float64 ascending and orthonormal vectors (n, k), float32 or float64. `tolerance` bounds the
2-norm of each residual, `seed` decides every random draw, and `start` is an (n, m) guess that a
solver may use. A solver returns its best pairs; `eigen.solvers.solve` recomputes the residuals and
accepts or rejects them. `eigen.solvers.registry` lists the solvers.
"""
