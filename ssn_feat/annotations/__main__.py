"""``python -m ssn_feat.annotations validate FILE``: list what is wrong with annotations, and mend them."""

from ssn_feat.annotations.validate import ValidateOptions, validate
from ssn_feat.cli import Command, Group, run

if __name__ == "__main__":
    commands = Group("Check files of annotations.", {"validate": Command(validate, ValidateOptions)})
    run(commands, "python -m ssn_feat.annotations")
