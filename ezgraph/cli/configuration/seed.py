"""What a broker is started with: the configuration of a file, put before any client is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.cli.configuration.files import read_file
from ezgraph.cli.configuration.layout import place_text
from ezgraph.cli.configuration.plan import SEEDS, ImportPlan, transactions
from ezgraph.cli.paper import tell
from ezgraph.cli.words import count
from ezgraph.errors import ConfigError, RefusedError
from ezgraph.protocol.commands import ChangeConfig, SetConfigSchema
from ezgraph.protocol.config import ConfigPut
from ezgraph.protocol.fingerprints import fingerprint
from ezgraph.protocol.wiring import visible
from ezgraph.state.config_values import is_same_value

if TYPE_CHECKING:
    from ezgraph.broker.service import BrokerService
    from ezgraph.cli.configuration.layout import ConfigFile, Place
    from ezgraph.state.config import ConfigState

_TOLD = 3

@dataclass(frozen=True, slots=True)
class Seed:
    """What a broker does of itself when it is started with a file; once for each content.

    It puts what is not there, and never overwrites: what was changed since stays, also when the
    file has changed; what was deleted since comes back only if it has.
    """

    commands: list[ChangeConfig | SetConfigSchema]
    kept: list[Place]
    """What is there with another value than in the file, and stays."""


def plan_seed(file: ConfigFile, config: ConfigState, *, name: str) -> Seed | None:
    """Return what is to be done; None: it was done before. ``name`` says which file it is."""
    content = (sorted(file.values.items(), key=lambda each: each[0]), file.schemas)
    record = (fingerprint(SEEDS, content),)
    if config.get(SEEDS, record) is not None:
        return None
    reason = f"import of {name}"
    held = {place: found for place in file.values if (found := config.get(*place)) is not None}
    new = {place: value for place, value in file.values.items() if place not in held}
    kept = [place for place, found in held.items()
            if not is_same_value(found.value, file.values[place])]  # fmt: skip
    commands: list[ChangeConfig | SetConfigSchema] = [
        SetConfigSchema(kind, schema, reason)
        for kind, schema in sorted(file.schemas.items())
        if kind not in config.schemas
    ]
    said = {"file": name, "entries": len(new), "kept": len(kept)}
    done = ConfigPut(SEEDS, record, said)
    commands += transactions(ImportPlan(new=new), reason, last=[done])
    return Seed(commands, sorted(kept))


class Seeding:
    """A file that a broker is to be started with, read before there is a broker."""

    def __init__(self, file: str) -> None:
        """Read it.

        Raises:
            ConfigError: it cannot be read, or is of no layout or of both; says where.
        """
        self._file = file
        self._content = read_file(file)

    def __repr__(self) -> str:
        return f"<Seeding {self._file} entries={len(self._content.values)}>"

    def seed(self, service: BrokerService) -> None:
        """Put what is not there yet, unless this content was put before; say what stays instead.

        Raises:
            ConfigError: the rules of the configuration refuse it; nothing is stored.
        """
        seed = plan_seed(self._content, service.engine.state.config, name=self._file)
        if seed is None:
            return
        try:
            service.seed(seed.commands)
        except RefusedError as error:
            raise ConfigError(f"--import {self._file}: {error}") from error
        if seed.kept:
            shown = ", ".join(map(place_text, seed.kept[:_TOLD]))
            more = f" and {len(seed.kept) - _TOLD} more" if len(seed.kept) > _TOLD else ""
            tell(
                f"{count(len(seed.kept), 'entry')} of {self._file} had another value here already, "
                f"and kept it: {visible(shown)}{more}; `ezgraph config import` overwrites"
            )
