"""The base of the classes that describe a snapshot's file: unknown fields and other types are refused."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A part of a JSON file: frozen, without unknown fields, and with no type converted into another."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
