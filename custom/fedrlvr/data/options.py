"""Which option of a multiple-choice row is right: rows have its letter, or its number, from 0 or from 1."""

from collections.abc import Sequence

from fedrlvr.data.problems import visible
from fedrlvr.data.rows import RowError
from fedrlvr.data.table import SourceError, Table
from fedrlvr.tasks.choice import LETTERS


def first_number(
    records: Sequence[tuple[str, dict]], column: str, table: Table, given: int | None, notes: list[str]
) -> int:
    """0 or 1: the number of the first option in the records of this table.

    A 0 shows the one, the number of a question's last option the other. What is not 0 by its own showing is added to
    `notes`. Raises SourceError where the numbers show neither, or both, and `given` does not say it, and where they
    show something else than `given`.
    """
    from datasets import ClassLabel  # takes a second to import

    numbers = [(record["answer"], len(record["choices"])) for _, record in records if isinstance(record["answer"], int)]
    from_0, from_1 = any(number == 0 for number, _ in numbers), any(number == count for number, count in numbers)
    where = f"{table.name}, column {column}"
    if isinstance(table.columns[column], ClassLabel):  # its names are numbered from 0
        from_0, from_1 = True, False
    if from_0 != from_1:
        found = int(from_1)
        shows = (
            "the number of a last option and never 0" if from_1 else "0 or named labels, and no last option's number"
        )
        if given not in (None, found):
            raise SourceError(f"{where}: has {shows}, so it does not count from {given}; leave --first-option out")
        if from_1:
            notes.append(f"{where}: counts the options from 1, as it has {shows}")
        return found
    if given is None and any(0 < number < count for number, count in numbers):
        shows = "both 0 and the number of a last option" if from_0 else "neither 0 nor the number of a last option"
        raise SourceError(
            f"{where}: has {shows}, so whether it counts the options from 0 or from 1 is not known; look at a row "
            "whose answer you know, and say it with --first-option 0 or --first-option 1"
        )
    if given is not None and numbers:
        notes.append(f"{where}: counts the options from {given}, as --first-option says")
    return given or 0


def right_letter(answer: int | str, count: int, first: int, column: str) -> str:
    """The letter of the right one of `count` options. Raises RowError where it is none of them."""
    number = LETTERS.index(answer) if isinstance(answer, str) else answer - first
    if not 0 <= number < count:
        ends = (LETTERS[0], LETTERS[count - 1]) if isinstance(answer, str) else (first, first + count - 1)
        raise RowError(f"column {column}: out of range: expected {ends[0]} to {ends[1]}")
    return LETTERS[number]


def check_text(text: str, choices: Sequence[str], letter: str, column: str) -> None:
    """Raises RowError where a row also has the right answer as text, and it is not that of the option."""
    if visible(text).casefold() != visible(choices[LETTERS.index(letter)]).casefold():
        raise RowError(f"column answer: is not the text of the option that column {column} names")
