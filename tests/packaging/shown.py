"""The command lines that pages show."""

from __future__ import annotations

import itertools
import re
import shlex

# Scripts whose command has another name.
COMMAND_OF = {
    "run": "extract",
    "import_features": "import",
    "export_features": "export",
    "operating_point": "operating-point",
}


def code_of(text: str) -> tuple[list[str], list[str]]:
    """What a reader would type: the lines of code blocks, continued ones joined; and the code inside sentences."""
    block: list[str] = []
    prose: list[str] = []
    fence = None
    for line in text.splitlines():
        if line.startswith("```"):
            fence = line[3:].strip() if fence is None else None
        elif fence is None and not line.startswith("    "):
            prose.append(line)
        elif fence in (None, "", "bash", "console"):
            block.append(line.strip().removeprefix("$ "))
    lines = "\n".join(block).replace("\\\n", " ").splitlines()
    return lines, [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", "\n".join(prose))]


def commands_of(text: str) -> list[list[str]]:
    """Words of each of the project's commands on a page: its name as of ``ssn-feat``, then its arguments.

    Values of variables, also those of loops, are taken from the lines above.
    """
    variables: dict[str, str] = {}
    found = []
    for line in itertools.chain(*code_of(text)):
        for part in re.split(r"\s*;\s*(?:do\s+)?", line):
            if assigned := re.fullmatch(r'(\w+)=(?:"(.*)"|(\S+))', part):
                variables[assigned[1]] = assigned[2] or assigned[3]
            elif loop := re.match(r"for (\w+) in (\S+)", part):
                variables[loop[1]] = loop[2]
            else:
                found.append(command_of(re.sub(r"\$(\w+)", lambda name: variables.get(name[1], name[0]), part)))
    return [words for words in found if words]


def command_of(line: str) -> list[str]:
    """The words of ``python train/fit.py …``, ``ssn-feat fit …``, ``torchrun …`` or ``sbatch …`` from ``fit`` on."""
    starts = (
        r"(?:python|torchrun(?: \S+)*?) (?:bench|extract|train)/(\w+)\.py",
        r"(?:python|torchrun(?: \S+)*?) -m ssn_feat (\w+)",
        r"python -m ssn_feat\.(annotations)",
        r"python -m bench\.(speed)",
        r"ssn-feat (\w+)",
        r"sbatch(?: \S+)* docs/slurm/(\w+)\.sh",
    )
    for start in starts:
        if match := re.match(rf"{start}(?=\s|$)", line):
            words = shlex.split(line[match.end() :], comments=True)
            verb = ["end-to-end"] if line.startswith("sbatch") and match[1] == "fit" else []
            return [COMMAND_OF.get(match[1], match[1]), *verb, *words]
    return []
