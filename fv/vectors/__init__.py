"""Function vectors: what they are made of, what they are called, their controls, their files."""

from fv.vectors.controls import mean_vector, random_head_sets, random_vectors
from fv.vectors.file import load_vector, read_vector
from fv.vectors.function_vector import vector_by_layer
from fv.vectors.vector import Vector, norm_of, strength

__all__ = [
    "Vector",
    "load_vector",
    "mean_vector",
    "norm_of",
    "random_head_sets",
    "random_vectors",
    "read_vector",
    "strength",
    "vector_by_layer",
]
