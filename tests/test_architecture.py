"""The directions of import, and which heavy or dangerous module may be used where.

Everything is read from the syntax trees: nothing is imported, so a cycle is found even where Python would tolerate it.
"""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("parser", "runtime", "builder")

BUILDER_ORDER = ("oci", "store", "transfer", "pipeline", "insight", "engine", "cli")
"""Inside builder/ each may import only what stands left of it; `builder.errors` stands left of all."""

ONLY_IN = {
    "lark": ("parser/", "builder/cli/gotemplate", "builder/engine/bake/hcl"),
    "hcl2": ("builder/engine/bake/hcl",),
    "yaml": ("builder/engine/bake/compose",),
    "ctypes": ("runtime/linux/",),
    "dataclasses": ("parser/", "runtime/values"),
    "click": ("builder/cli/",),
    "rich": ("builder/cli/",),
    "dockerfile_parse": ("builder/engine/pin",),
    "tarsafe": ("builder/transfer/",),
    "cryptography": ("builder/transfer/keys.py",),
    "nacl": ("builder/transfer/keys.py",),
    "s3fs": ("builder/transfer/caches/bucket",),
    "fsspec": ("builder/transfer/caches/bucket",),
    "botocore": ("builder/transfer/caches/bucket",),
    "subprocess": (
        "runtime/",
        "builder/pipeline/remote.py",
        "builder/pipeline/bulkcopy.py",
        "builder/cli/",
        "builder/transfer/",
    ),
}
"""Module → the only places that may import it (prefixes of paths)."""


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str, *, top_level: bool = False) -> Iterator[str]:
    """Full names of what module `name` imports; `from a import b` gives `a.b` where that is a module, else `a`."""
    path = MODULES[name]
    tree = ast.parse(path.read_text(), str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    skipped = set[ast.AST]()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(ast.walk(node))
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")
                up = up[: len(up) - node.level + 1]
                base = ".".join([*up, base] if base else up)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base


def ours(module: str) -> bool:
    return module.split(".")[0] in PACKAGES


def room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "builder" and len(parts) > 1 else parts[0]


def place(module: str) -> int:
    """How far right a module's room stands."""
    mine = room(module)
    if mine in ("parser", "runtime"):
        return -2
    return -1 if mine in ("builder", "builder.errors") else BUILDER_ORDER.index(mine.removeprefix("builder."))


def test_a_module_imports_only_what_stands_left_of_it() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name in MODULES
        for imported in filter(ours, imports(name))
        if room(imported) != room(name) and place(imported) >= place(name)
    ]
    assert not wrong


def test_no_cycle_at_import_time() -> None:
    graph = {
        name: {each for each in imports(name, top_level=True) if each in MODULES and each != name} for name in MODULES
    }
    # A package's __init__ may re-export its modules, and they may name the package only through those modules.
    list(graphlib.TopologicalSorter(graph).static_order())


def test_a_library_is_used_only_where_it_belongs() -> None:
    wrong = []
    for name, path in MODULES.items():
        for imported in imports(name):
            places = ONLY_IN.get(imported.split(".")[0])
            if places is not None and not path.relative_to(ROOT).as_posix().startswith(places):
                wrong.append(f"{name} imports {imported}: only {places} may")
    assert not wrong


def test_private_names_stay_at_home() -> None:
    wrong = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and ours(node.module):
                private = [each.name for each in node.names if each.name.startswith("_")]
                if private and room(node.module) != room(name):
                    wrong.append(f"{name} takes {private} from {node.module}")
    assert not wrong


def test_every_module_says_what_it_is() -> None:
    silent = [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent
