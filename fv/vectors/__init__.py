"""Function vectors: what they are made of, what they are called, their controls, their files."""

from fv.vectors.controls import Control, make_controls, random_head_sets
from fv.vectors.file import load_vector, read_vector
from fv.vectors.function_vector import function_vector, vector_by_layer
from fv.vectors.vector import Vector, norm_of, strength

__all__ = [
    "Control",
    "Vector",
    "function_vector",
    "load_vector",
    "make_controls",
    "norm_of",
    "random_head_sets",
    "read_vector",
    "strength",
    "vector_by_layer",
]
