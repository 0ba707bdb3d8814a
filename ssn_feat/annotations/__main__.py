"""``python -m ssn_feat.annotations validate FILE``: say what is wrong with annotations, and mend them."""

import sys

from ssn_feat.annotations.validate import ValidateOptions, validate
from ssn_feat.cli import Command, run_verb

if __name__ == "__main__":
    sys.argv[0] = "python -m ssn_feat.annotations"  # for help, instead of this file's path
    run_verb({"validate": Command(validate, ValidateOptions)})
