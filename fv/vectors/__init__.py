"""Function vectors: their heads, names, controls, refits and files."""

from fv.vectors.controls import isotropic_vectors, mean_vector, random_head_sets, vectors_of_random_outputs
from fv.vectors.file import load_vector, read_vector
from fv.vectors.function_vector import vector_by_layer
from fv.vectors.vector import Vector, norm_of, strength

__all__ = [
    "Vector",
    "isotropic_vectors",
    "load_vector",
    "mean_vector",
    "norm_of",
    "random_head_sets",
    "read_vector",
    "strength",
    "vector_by_layer",
    "vectors_of_random_outputs",
]
