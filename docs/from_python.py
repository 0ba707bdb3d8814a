"""From a store of features to detections and their mAP: python docs/from_python.py STORE ANNOTATIONS OUT."""

import sys
from pathlib import Path

import ssn_feat as sf

store, truth, out = sf.open_store(sys.argv[1]), sf.read_annotations(sys.argv[2]), Path(sys.argv[3])
print(store, truth, sep="\n")

actionness = sf.fit(store, truth, out / "actionness", head="actionness", preset="small")
proposals = sf.propose(store, out / "proposals.npz", actionness=actionness)
print(actionness, proposals, sep="\n")

ssn = sf.fit(store, truth, out / "ssn", proposals=proposals, preset="small")
detections = sf.detect(store, proposals, ssn, annotations=truth, subset="testing", out=out / "detections.json")
print(ssn, detections, sep="\n")

print(sf.evaluate(detections, truth, subset="testing"))
