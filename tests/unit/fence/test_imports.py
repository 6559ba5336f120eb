"""The fence imports only the standard library and itself."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_only_the_standard_library_is_imported() -> None:
    """Whatever runs as root is small enough to be read; a dependency would run as root, too."""
    files = sorted((ROOT / "fence").glob("*.py"))
    assert len(files) > 8
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top = name.partition(".")[0]
                assert top == "fence" or top in sys.stdlib_module_names, (file.name, name)
