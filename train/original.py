"""Checkpoints of the original SSN code: python train/original.py import FILE ... | export RUN --out FILE."""

from ssn_feat.cli import Command, run_verb
from ssn_feat.training.original import ExportOptions, ImportOptions, export_checkpoint, import_checkpoint

if __name__ == "__main__":
    run_verb({"import": Command(import_checkpoint, ImportOptions), "export": Command(export_checkpoint, ExportOptions)})
