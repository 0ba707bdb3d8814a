"""``python -m ssn_feat.annotations validate FILE``: say what is wrong with annotations, and mend them."""

from ssn_feat.commands import check_annotations

if __name__ == "__main__":
    check_annotations()
