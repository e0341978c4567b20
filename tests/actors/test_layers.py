"""The actor runtime is ground: it knows nothing of what is built on it."""

import ast
from pathlib import Path

import pytest

import tinker_rl.actors

FILES = sorted(Path(tinker_rl.actors.__file__).parent.glob("*.py"))
ALLOWED = {"anyio", "msgspec", "tinker_rl.actors", "tinker_rl.errors"}
STDLIB = {
    "abc",
    "collections",
    "contextlib",
    "contextvars",
    "enum",
    "inspect",
    "logging",
    "sys",
    "types",
    "typing",
    "__future__",
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_imports_only_the_ground(file):
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module]
        for name in names:
            is_ground = any(name == top or name.startswith(f"{top}.") for top in ALLOWED)
            assert is_ground or name.split(".")[0] in STDLIB, f"{file.name} imports {name}"
