"""The heads that read whole videos, by the name that a command line or a checkpoint gives."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection

from ssn_feat.errors import UserError
from ssn_feat.heads.one_stage import OneStageHead
from ssn_feat.heads.sequence_head import SequenceHead

_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_own(kind: str) -> bool:
    """Whether ``kind`` is ``package.module:Class``, a head that is not part of this package."""
    return isinstance(kind, str) and _OWN.fullmatch(kind) is not None


def sequence_head(kind: str) -> type[SequenceHead]:
    """The class of a head: ``one-stage``, or ``package.module:Class``, whose module is imported.

    Raises UserError if there is no such class, or it is not a :class:`SequenceHead`.
    """
    if kind == OneStageHead.kind:
        return OneStageHead
    if not is_own(kind):
        raise UserError(f"there is no head {kind!r}: use one-stage, or package.module:Class for your own head")
    module, _, name = kind.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(f"cannot import the head {kind}: {error}; add its folder to PYTHONPATH") from None
    except AttributeError:
        raise UserError(f"the module {module} has no class {name}") from None
    if not (isinstance(found, type) and issubclass(found, SequenceHead)):
        raise UserError(f"{kind} is not a subclass of ssn_feat.heads.sequence_head.SequenceHead")
    return found


def require_trusted_head(kind: str, trusted: Collection[str], where: str) -> None:
    """Raises UserError unless the file ``where`` names a head of this package or one of ``trusted``."""
    if is_own(kind) and kind not in trusted:
        raise UserError(
            f"{where} names {kind} as a head, whose code would be imported and run; if you trust it, "
            f"add --trust-modules {kind}"
        )


__all__ = ["is_own", "require_trusted_head", "sequence_head"]
