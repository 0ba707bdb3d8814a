"""The scripts of docs/slurm, with stand-ins for what only a cluster has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "tests" / "extraction"))

from small import videos

from ssn_feat.cli import choose, parse
from ssn_feat.commands import COMMANDS
from ssn_feat.store import open_store

SLURM = ROOT / "docs" / "slurm"
SCRIPTS = sorted(SLURM.glob("*.sh"))

# Like srun, this starts the command in the environment of the job; SRUN_LOG gets a line for each start.
SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$SRUN_LOG"
exec "$@"
"""
SSN_FEAT = f"""#!/usr/bin/env bash
exec {sys.executable} -m ssn_feat "$@"
"""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of a job, with a srun and the program on its path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("ssn-feat", SSN_FEAT)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'extraction'}",
        "SRUN_LOG": str(tmp_path / "srun.log"),
    }


def array(script: Path, numbers: range, arguments: list[str], environment: dict[str, str]) -> list[str]:
    """Submit an array: like sbatch, one copy of the script for each number, side by side. What each printed."""
    job = {
        "SLURM_ARRAY_TASK_MIN": str(numbers[0]),
        "SLURM_ARRAY_TASK_MAX": str(numbers[-1]),
        "SLURM_ARRAY_TASK_STEP": str(numbers.step),
    }
    tasks = [
        subprocess.Popen(
            ["bash", script, *arguments],
            env=environment | job | {"SLURM_ARRAY_TASK_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in numbers
    ]
    printed = [task.communicate(timeout=300) for task in tasks]
    assert [task.returncode for task in tasks] == [0] * len(tasks), printed
    return [out for out, _ in printed]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_syntax(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)
    lines = script.read_text().splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    # sbatch reads its options only above the first command.
    assert all(line.startswith("#") for line in lines[: heads[-1]])
    assert f"docs/slurm/{script.name}" in script.read_text()
    assert f"(slurm/{script.name})" in (ROOT / "docs" / "run-on-a-cluster.md").read_text()


def test_an_array_extracts_every_video_once(tmp_path: Path, cluster: dict[str, str]) -> None:
    folder, store = videos(tmp_path / "videos", count=4, frames=12), tmp_path / "s.zarr"
    options = ["--backbone", "tiny:net", "--streams", "rgb", "--stride", "4", "--device", "cpu", "--jobs", "1"]
    array(SLURM / "extract.sh", range(10, 31, 20), [str(folder), str(store), *options], cluster)
    assert open_store(store).ids == ("v0", "v1", "v2", "v3")
    started = Path(cluster["SRUN_LOG"]).read_text().splitlines()
    shards = sorted(re.findall(r"--shard (\S+)$", line)[0] for line in started)
    assert shards == ["1/2", "2/2"]
    assert all(line.startswith(f"ssn-feat extract {folder} {store} --backbone tiny:net") for line in started)


def test_an_array_without_arguments_or_outside_slurm_says_so(cluster: dict[str, str]) -> None:
    usage = subprocess.run(
        ["bash", SLURM / "extract.sh", "videos"], env=cluster, capture_output=True, text=True, check=False
    )
    assert (usage.returncode, usage.stderr.count("\n")) == (2, 1)
    outside = subprocess.run(
        ["bash", SLURM / "extract.sh", "videos", "s.zarr"], env=cluster, capture_output=True, text=True, check=False
    )
    assert outside.returncode != 0
    assert "is set by sbatch --array" in outside.stderr


def test_machines_meet_at_the_first_and_learn_end_to_end(tmp_path: Path, cluster: dict[str, str]) -> None:
    from torch.distributed.run import parse_args

    from ssn_feat.finetuning.end_to_end import EndToEndOptions

    programs = tmp_path / "bin"
    (programs / "scontrol").write_text("#!/usr/bin/env bash\necho node3\necho node4\n")
    (programs / "torchrun").write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@"\n')
    for name in ("scontrol", "torchrun"):
        (programs / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "node[3-4]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "12345", "SLURM_GPUS_ON_NODE": "4"}
    mine = ["thumos14", "--videos", "my videos", "--store", "s.zarr", "--annotations", "t.json", "--streams", "rgb"]
    mine += ["--proposals", "tag.npz", "--out", "run"]
    done = subprocess.run(
        ["bash", SLURM / "fit.sh", *mine], env=cluster | job, capture_output=True, text=True, check=True
    )
    launched = parse_args(done.stdout.split("\0")[:-1])
    assert (launched.nnodes, launched.nproc_per_node, launched.rdzv_backend) == ("2", "4", "c10d")
    assert (launched.rdzv_endpoint, launched.rdzv_id) == ("node3:22345", "12345")
    assert (launched.module, launched.training_script) == (True, "ssn_feat")
    command, arguments, _ = choose(COMMANDS, launched.training_script_args, "ssn-feat")
    options = parse(command, arguments)
    assert isinstance(options, EndToEndOptions)
    assert options.resume
    assert options.videos == Path("my videos")
