"""Sentences: what a caption says, and which of the words for it are used."""

from dataclasses import dataclass, field
from functools import cached_property

from dualenc.scenes.forms import ABSENT, RELATION, Row


@dataclass(frozen=True)
class Sentence:
    """A caption before it is text; `Grammar.text` says it.

    rows: the form without padding, in order of mention; what is absent stands last.
    template: an index into TEMPLATES.
    synonyms: (value or relation, the other word for it) where not the value's own name is said.
    connective: what leads to the absent objects, "but" or "and".
    witnesses: where the sentence was drawn from a scene, the slot of the object that each row speaks of, -1 for none;
        no part of the meaning.
    """

    rows: tuple[Row, ...]
    template: int = 0
    synonyms: tuple[tuple[str, str], ...] = ()
    connective: str = "but"
    witnesses: tuple[int, ...] = field(default=(), compare=False)

    @property
    def form(self) -> list[list[int]]:
        """The rows as lists, for JSON."""
        return [list(row) for row in self.rows]

    @cached_property
    def groups(self) -> list[list[int]]:
        """The numbers of the rows that belong together: a row and the relations that follow from it."""
        found: list[list[int]] = []
        for number, (kind, *_) in enumerate(self.rows):
            if kind >= RELATION and found:
                found[-1].append(number)
            else:
                found.append([number])
        return found

    @property
    def num_present(self) -> int:
        """The number of rows before the absent objects."""
        return sum(kind != ABSENT for kind, *_ in self.rows)
