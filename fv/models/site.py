"""The site: a place in a model's pass over a prompt, at which states are read."""

from dataclasses import dataclass
from enum import StrEnum

from fv.config.checks import check_index


class TokenClass(StrEnum):
    """Classes of a prompt's tokens; every token is of exactly one class."""

    special = "special"
    """Tokens that the tokenizer adds around a text, such as BOS."""
    demo_input = "demo_input"
    """Inputs of demonstrations."""
    demo_output = "demo_output"
    """Outputs of demonstrations."""
    delimiter = "delimiter"
    """Text of the template after the last pair text of a demonstration, up to the next demonstration or the query."""
    query = "query"
    """The query's input."""
    template = "template"
    """All other text of the template, such as `Q:`."""
    last = "last"
    """The prompt's last token, whatever text it holds: the token after which the answer follows."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place in a model's pass over a prompt: the residual stream after a block, or the output of one of its heads.

    Attributes:
        token_class: the tokens.
        layer: the block, from 0.
        head: the head in the block, from 0; None for the residual stream after the block.

    Raises:
        ConfigError: the layer or the head is not a whole number of 0 or more.

    Example:
        >>> Site(layer=14, head=1).token_class
        <TokenClass.last: 'last'>
    """

    token_class: TokenClass = TokenClass.last
    layer: int
    head: int | None = None

    def __post_init__(self) -> None:
        check_index("Site.layer", self.layer)
        if self.head is not None:
            check_index("Site.head", self.head)
