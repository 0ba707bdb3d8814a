"""How every command reads its options: a frozen dataclass, from the command line, from YAML, or from both.

The first argument of a command may be the name of a preset or a YAML file that a run saved; flags after it override
single values. ``--help`` shows the options that most people set, ``--help-all`` every option, and
``--save-config FILE`` writes the resulting options as YAML and stops.
"""

from ssn_feat.cli.dispatch import Group, choose, run
from ssn_feat.cli.options import Command, parse
from ssn_feat.cli.records import as_yaml, from_dict, from_record, load_yaml, read_yaml, save_yaml, to_dict

__all__ = [
    "Command",
    "Group",
    "as_yaml",
    "choose",
    "from_dict",
    "from_record",
    "load_yaml",
    "parse",
    "read_yaml",
    "run",
    "save_yaml",
    "to_dict",
]
