"""Imports point down the picture of the design, and what runs in workers needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tinker_rl

ROOT = Path(tinker_rl.__file__).parent
GROUND = {"types", "errors", "words", "futures", "requests", "backend"}
GROUND |= {"losses", "actors", "openmp"}
MODELS = {"lineup", "hub", "tokenizers", "architectures", "hyperparam_utils"}
BELOW = {  # what each part may import, besides itself and the ground
    **{part: set() for part in GROUND},
    "hub": set(),
    "lineup": {"hub"},
    "tokenizers": {"lineup"},
    "architectures": {"lineup", "hub"},
    "hyperparam_utils": {"architectures", "lineup", "hub"},
    "data": set(),
    "engine": MODELS,
    "memory_plan": {"engine"} | MODELS,
    "wire": set(),
    "clients": MODELS,  # and the engine, in one file
    "server": {"wire"},
    "cluster": {"engine", "wire"} | MODELS,
    "renderers": MODELS,
    "completers": {"renderers", "clients"} | MODELS,
    "envs": {"completers", "renderers", "data"} | MODELS,
    "policies": {"completers", "clients", "renderers"} | MODELS,
}
BELOW["rl"] = {*BELOW, "server", "cluster"} - {"engine", "server", "cluster", "wire"}
for part in ("supervised", "preference", "evaluation"):
    BELOW[part] = BELOW["rl"] | {"rl"}
BELOW["viewer"] = BELOW["rl"] | {"rl"}
BELOW["testing"] = set(BELOW)
BELOW["recipes"] = set(BELOW)
BELOW["cli"] = set(BELOW)
BELOW["__main__"] = {"cli"}
BELOW["__init__"] = {"clients"}
EXCEPTIONS = {
    ("clients/factory.py", "engine"),  # the one place where they meet
    ("clients/service_client.py", "engine"),  # the type of an argument
}


def part_of(file):
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(file):
    """(module, whether for the type checker alone) of all imports, nested ones too."""
    tree = ast.parse(file.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names = [node.module]
            if node.module == "tinker_rl":
                names = [f"tinker_rl.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) in typing_only


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file):
    part, path = part_of(file), str(file.relative_to(ROOT))
    assert part in BELOW, f"{part} has no place in the picture: give it one"
    for name, _ in imports(file):
        top, _, rest = name.partition(".")
        if top != "tinker_rl":
            continue
        target = rest.split(".")[0]
        public = target not in BELOW  # `from tinker_rl import ServiceClient`: the front door
        if public:
            assert part in {"recipes", "cli", "testing"}, f"{path} imports {name}"
        elif target != part and (path, target) not in EXCEPTIONS:
            assert target in BELOW[part] | GROUND, f"{path} imports {name}"


def test_clients_meet_the_engine_in_one_place():
    meeting = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "clients").rglob("*.py")
        for name, typing_only in imports(file)
        if name.startswith("tinker_rl.engine") and not typing_only
    }
    assert meeting == {"clients/factory.py"}


def test_the_engine_is_imported_when_it_is_opened_and_not_before():
    """`import tinker_rl` and the parts that run in workers start fast: without torch."""
    parts = ["envs", "completers", "policies", "renderers", "rl", "clients", "data", "lineup"]
    parts += ["architectures", "hyperparam_utils", "memory_plan", "viewer"]
    heavy = ["torch", "transformers", "peft", "tinker_rl.engine"]
    script = (
        f"import sys\n"
        f"for part in {parts}: __import__('tinker_rl.' + part)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f.name == "__init__.py" and f.parent != ROOT],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_a_folder_only_gives_out_what_its_files_have(file):
    tree = ast.parse(file.read_text())
    docstring, *others = tree.body
    assert isinstance(docstring, ast.Expr)
    names = []
    exported = []
    for node in others:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        else:
            assert isinstance(node, ast.Assign), f"{ast.unparse(node)} is logic"
            exported = ast.literal_eval(node.value)
    assert sorted(names) == sorted(exported)
