"""``python -m ssn_feat.annotations validate FILE``: say what is wrong with annotations, and mend them."""

import sys

from ssn_feat.annotations.validate import ValidateOptions, validate
from ssn_feat.cli import run

if __name__ == "__main__":
    if sys.argv[1:2] != ["validate"]:
        print("usage: python -m ssn_feat.annotations validate FILE [--fix OUT] [--all]", file=sys.stderr)
        sys.exit(0 if sys.argv[1:2] in (["-h"], ["--help"]) else 2)
    del sys.argv[1]
    run(validate, ValidateOptions)
