"""What becomes of a lease that its client comes back to: the token it shows, and the outcomes.

A client that comes back, after a cut, a restart of the broker, or as a new process with the token
of the one before, is in one of four situations:

* `Resumed`: the lease lives. What was missed is replayed to watchers, then they go on live.
* `ezgraph.client.watch.Compacted`: the lease lives, but of what was missed only what is from
  ``floor`` on is still history. Each watcher gets a snapshot, then events.
* `SessionExpired`: the lease has ended; ``lost`` says what it owned.
* `WrongCluster`: the broker keeps another history; nothing the client holds means anything there.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ezgraph.client.watch import Compacted
from ezgraph.errors import ConfigError

if TYPE_CHECKING:
    from ezgraph.protocol.replies import Lost

_PREFIX = "ezgraph-token-1."


@dataclass(frozen=True, slots=True)
class ResumeToken:
    """What a program shows to go on with its lease. Keep it as you would a password.

    ``str()`` gives a line of text to keep in a file, `parse` reads it again. ``repr`` shows no
    secret. ``seq`` is the last number the program had seen when it was made.
    """

    kind: str
    client: str
    token: bytes
    cluster_id: str
    epoch: int
    seq: int

    def __str__(self) -> str:
        fields = {**asdict(self), "token": self.token.hex()}
        packed = json.dumps(fields, separators=(",", ":")).encode()
        return _PREFIX + base64.urlsafe_b64encode(packed).decode()

    def __repr__(self) -> str:
        return f"<ResumeToken of {self.kind} {self.client} at seq {self.seq}>"

    @classmethod
    def parse(cls, text: str) -> ResumeToken:
        """Return the token that ``str()`` made a text of.

        Raises:
            ConfigError: it is no such text.
        """
        prefix, text = text.strip()[: len(_PREFIX)], text.strip()[len(_PREFIX) :]
        try:
            fields = json.loads(base64.urlsafe_b64decode(text if prefix == _PREFIX else "?"))
            return cls(**{**fields, "token": bytes.fromhex(fields["token"])})
        except (ValueError, TypeError, KeyError, binascii.Error) as error:
            raise ConfigError(
                f"this is no whole resume token ({error}); it is one line that begins with "
                f"{_PREFIX!r}, as str(ctx.resume_token) gives it"
            ) from None


@dataclass(frozen=True, slots=True)
class Resumed:
    """The lease lives on; events in (``after``, ``head``] were missed and are replayed."""

    client: str
    after: int
    head: int


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """The lease has ended; ``lost`` is what it owned, None where the journal no longer tells."""

    message: str
    lost: Lost | None = None


@dataclass(frozen=True, slots=True)
class WrongCluster:
    """The broker keeps the history ``message`` names, and not the one the token is of."""

    message: str


Resumption = Resumed | Compacted | SessionExpired | WrongCluster
