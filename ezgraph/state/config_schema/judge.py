"""What is wrong with a value, by one schema."""

from __future__ import annotations

from typing import NamedTuple

from jsonschema.exceptions import best_match
from referencing import Registry

from ezgraph.state.config_schema.document import read_schema, step
from ezgraph.state.config_schema.forms import judged
from ezgraph.state.config_schema.steps import MAX_STEPS, Steps, TooMuchError, current
from ezgraph.state.config_schema.words import Validator

_LONGEST_MESSAGE = 300


class Finding(NamedTuple):
    """What is wrong with a value and where (a JSON pointer), if anything; and what it cost."""

    path: str
    message: str | None
    steps: int


class Judge:
    """Judges values by one schema; the same value gets the same answer on any host."""

    def __init__(self, given: object) -> None:
        """Read a schema.

        Raises:
            InvalidSchemaError: it cannot be used; says why and where.
        """
        self._schema = read_schema(given)

    def finding(self, value: object, most: int = MAX_STEPS) -> Finding:
        """Return the first thing wrong with a value; what takes more than ``most`` steps is wrong.

        So is what has words nested too deep.
        """
        steps = Steps(most)
        before = current.set(steps)
        try:
            path, message = self._first_error(value, steps)
        except (TooMuchError, RecursionError):
            path = ""
            message = (
                f"there is too much to judge: more than {most:,} steps, or words nested too "
                f"deep; make the value smaller or the schema simpler"
            )
        finally:
            current.reset(before)
        return Finding(path, message, most - max(steps.left, 0))

    def _first_error(self, value: object, steps: Steps) -> tuple[str, str | None]:
        validator = Validator(self._schema, registry=Registry())
        error = next(validator.iter_errors(judged(value, steps)), None)
        if error is None:
            return "", None
        best = best_match([error]) or error
        path = "".join(f"/{step(each)}" for each in best.absolute_path)
        return path, _on_one_line(best.message)

    def __repr__(self) -> str:
        return f"<Judge {self._schema!r}>"


def _on_one_line(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[: _LONGEST_MESSAGE - 3]}..."
