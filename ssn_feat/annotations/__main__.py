"""``python -m ssn_feat.annotations validate FILE``: say what is wrong with annotations, and mend them."""

import sys

from ssn_feat.commands import check_annotations

if __name__ == "__main__":
    sys.argv[0] = "python -m ssn_feat.annotations"  # for help, instead of this file's path
    check_annotations()
