"""Rules of the repository that no single module's test would notice being broken."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import mindspore_osum

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mindspore_osum", "ckpt_convert")
PRODUCT = (*PACKAGES, "scripts", "examples")
TEXT = {".py", ".sh", ".md", ".yaml", ".yml", ".toml", ".cfg", ".in", ".txt", ".html", ".js", ".css", ""}
MAX_LINES = 600
ASSETS_MAX_BYTES = 20 * 2**20
OTHER_FILE_MAX_BYTES = 2**20

# a machine's own folders at the start of a path; "~/work/x", "a/tmp/b" and "https://host/opt" are none
MACHINE_PATH = re.compile(r"(?<![\w./~:$}])/(?:work|tmp|root|home|Users|opt|mnt|farm)/\w")

FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "torch.load",
    "marshal.load",
    "marshal.loads",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "dill.load",
    "dill.loads",
    "cloudpickle.load",
    "cloudpickle.loads",
    "joblib.load",
    "shelve.open",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
}
FORBIDDEN_METHODS = {"extractall"}
FORBIDDEN_TRUE_KEYWORDS = {"shell", "allow_pickle"}

# who may import whom, function-level imports included: a room is a folder or a module of mindspore_osum, or
# ckpt_convert. Read it from top to bottom: nothing imports from a row below its own.
ROOMS = {
    "errors": "",
    "quiet": "",
    "interrupts": "",
    "allocator": "",
    "files": "errors interrupts",
    "config": "errors files",
    "device": "errors allocator config",
    "figures": "errors files",
    "weights_io": "errors interrupts files",
    "parameters": "errors weights_io",
    "stores": "errors",
    "speech": "errors interrupts stores",
    "text": "errors files config",
    "notebook": "",
    "results": "errors notebook",
    "tasks": "errors text results",
    "cues": "errors results",
    "subtitles": "errors config results cues",
    "models": "errors config",
    "data": "errors interrupts stores files config figures speech text tasks",
    "cluster": "errors files quiet data",
    "systems": "errors interrupts files config results models data speech text tasks",
    "folder": "errors files config weights_io parameters text systems",
    "ckpt_convert": "errors interrupts files config weights_io parameters text models systems folder",
    "hub": "errors files systems folder ckpt_convert",
    "inference": "errors interrupts allocator device config speech text tasks results models data systems "
    "folder hub",
    "training": "errors files allocator config figures weights_io parameters text tasks models data systems "
    "folder",
    "evaluation": "errors files config figures text tasks results data inference",
    "streaming": "errors speech results inference",
    "serving": "errors config speech text tasks results subtitles data inference cluster",
    "demo": "errors speech tasks results folder inference",
    "export": "errors interrupts device files config weights_io speech text tasks results models systems "
    "folder hub inference",
    "planning": "errors models data systems training",
    "ascend": "errors config models data systems text inference training",
    "bench": "errors files allocator figures weights_io speech text tasks models data systems folder "
    "inference training ckpt_convert",
    "settings": "errors config",
    "api": "errors interrupts quiet config settings speech tasks results inference streaming",
    "__init__": "quiet api",
    "commands": "errors interrupts stores device files quiet config figures weights_io speech text tasks "
    "results subtitles models data systems folder hub inference training evaluation streaming serving demo "
    "export ckpt_convert planning ascend bench cluster api",
    "cli": "__init__ errors interrupts files config commands",
    "__main__": "cli",
}
# one system's own modules, which everything outside its folder reaches through systems.registry
SYSTEM = re.compile(r"mindspore_osum\.systems\.(\w+)\.")
INTERFACES = {path.stem for path in (ROOT / "mindspore_osum/systems").glob("*.py")}  # of every system
FOREIGN = {"mindformers", "mindnlp", "torch"}
# where each foreign framework may be imported; everything else is without them
FOREIGN_ALLOWED = {
    "mindspore_osum/training": {"mindformers"},
    "mindspore_osum/bench/torch_side": {"torch"},  # what is compared with, a process of its own
    "mindspore_osum/bench/whisper_side.py": {"torch"},  # the same
    "mindspore_osum/speech/silero.py": {"torch"},  # an option, whose package brings it
    "ckpt_convert/reference.py": {"torch", "mindnlp"},  # the oracle of a verification, a process of its own
}
REFERENCE = "reference"  # module of a family or a system: the network in PyTorch, apart from all of ours


def tracked_files() -> list[Path]:
    """Files of the repository: committed, or new and not ignored."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs a git checkout: {done.stderr.strip()}")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def text_files() -> list[Path]:
    return [path for path in tracked_files() if path.suffix in TEXT and path.name != "LICENSE"]


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything a module imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def forbidden_uses(source: str) -> list[str]:
    """'line: what' for each unsafe call in Python source, seen through import aliases."""
    tree = ast.parse(source)
    meaning = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            meaning |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            meaning |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def dotted(node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{dotted(node.value)}.{node.attr}"
        return meaning.get(node.id, node.id) if isinstance(node, ast.Name) else "?"

    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func).removeprefix("builtins.")
        if name in FORBIDDEN_CALLS or name.rpartition(".")[2] in FORBIDDEN_METHODS:
            found.append(f"{node.lineno}: {name}()")
        for keyword in node.keywords:
            is_off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
            if keyword.arg in FORBIDDEN_TRUE_KEYWORDS and not is_off:
                found.append(f"{node.lineno}: {keyword.arg}=")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(b)",
        "from pickle import Unpickler as U\nU(f)",
        "def f():\n    import torch\n    return torch.load(p)",
        "eval('1')",
        "import builtins\nbuiltins.exec('1')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import numpy as np\nnp.load(p, allow_pickle=flag)",
        "tar.extractall(path)",
        "import yaml\nyaml.load(f, Loader=yaml.Loader)",
    ],
)
def test_the_scan_sees_unsafe_calls(source):
    assert forbidden_uses(source)


@pytest.mark.parametrize(
    "source",
    ["model.eval()", "import yaml\nyaml.safe_load(f)", "import numpy as np\nnp.load(p, allow_pickle=False)"],
)
def test_the_scan_lets_safe_calls_pass(source):
    assert not forbidden_uses(source)


def test_no_unsafe_calls_in_the_product():
    files = python_files(*PRODUCT)
    assert files
    found = {str(path.relative_to(ROOT)): forbidden_uses(path.read_text(encoding="utf-8")) for path in files}
    assert not {path: uses for path, uses in found.items() if uses}


def test_files_stay_small():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in text_files()}
    assert not {str(path.relative_to(ROOT)): n for path, n in lines.items() if n >= MAX_LINES}


def test_no_paths_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found


def test_machine_paths_are_recognised():
    assert MACHINE_PATH.search("data: " + "/home" + "/someone/x")
    assert not MACHINE_PATH.search("see https://host/opt/x, ~/work/x and out/tmp/x")


def test_sizes():
    assets = ROOT / "mindspore_osum" / "assets"
    files = tracked_files()
    assert sum(path.stat().st_size for path in files if assets in path.parents) < ASSETS_MAX_BYTES
    others = [path for path in files if assets not in path.parents]
    assert not [path for path in others if path.stat().st_size > OTHER_FILE_MAX_BYTES]


def test_configs_are_yaml_mappings():
    configs = sorted((ROOT / "configs").rglob("*.yaml"))
    assert configs
    for path in configs:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path


def test_readme_is_short():
    assert 0 < len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_changelog_has_this_version():
    assert f"## {mindspore_osum.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_shell_scripts_are_strict_and_executable():
    scripts = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("#!/usr/bin/env bash\n") and "\nset -euo pipefail\n" in text, path
        assert path.stat().st_mode & 0o111, f"{path} is not executable"
        assert not re.search(r"(^|[;&|]\s*)eval\s", text, re.MULTILINE), path
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_every_file_of_the_packages_ships():
    """Code needs __init__.py for find_packages; data needs a line of setup.py's package_data."""
    shipped = {"mindspore_osum": ("**/*.yaml", "assets/**/*"), "ckpt_convert": ()}
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert all(f'"{pattern}"' in text for patterns in shipped.values() for pattern in patterns)
    for package, patterns in shipped.items():
        known = {path for pattern in patterns for path in (ROOT / package).glob(pattern)}
        for path in tracked_files():
            if ROOT / package in path.parents:
                ships = (path.parent / "__init__.py").is_file() if path.suffix == ".py" else path in known
                assert ships, f"{path} is left out of the distribution"


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, mindspore_osum, mindspore_osum.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & (FOREIGN | {"mindspore", "transformers", "librosa"})


def test_core_imports_no_foreign_framework():
    for path in python_files(*PACKAGES):
        allowed = set().union(*(v for k, v in FOREIGN_ALLOWED.items() if path.is_relative_to(ROOT / k)))
        allowed |= {"torch"} if path.stem == REFERENCE else set()
        assert not roots(imported_modules(path)) & (FOREIGN - allowed), path


def test_references_share_nothing_with_what_they_are_compared_with():
    """Of the package they know configurations and each other; nobody imports them but by their system."""
    found = [path for path in python_files("mindspore_osum") if path.stem == REFERENCE]
    assert found
    for path in found:
        names = {name for name in imported_modules(path) if name.startswith(("mindspore", "ckpt_convert"))}
        known = {"config", "kinds", REFERENCE}
        assert all(known & set(name.split(".")) for name in names), f"{path}: {sorted(names)}"


@pytest.fixture(scope="module")
def modules() -> dict[str, Path]:
    """Name -> file of every module of the packages."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in python_files(*PACKAGES)}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


@pytest.fixture(scope="module")
def imports(modules) -> dict[str, set[str]]:
    """Module -> modules of the packages that it imports, or names in a text to import them later."""
    found, later = {}, modules.keys() - set(PACKAGES)
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} & later
        found[name] = {_module_of(used, modules) for used in imported_modules(path) | texts} - {name, ""}
    return found


def _module_of(name: str, modules) -> str:
    """The module that an imported name is, or is in; "" for other packages' names."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def room_of(module: str) -> str:
    package, _, rest = module.partition(".")
    return package if package == "ckpt_convert" else rest.partition(".")[0] or "__init__"


def test_every_room_has_a_row(modules):
    rooms = {room_of(name) for name in modules}
    assert rooms == ROOMS.keys()


def test_the_table_of_imports_goes_one_way():
    order = list(ROOMS)
    for row, (room, used) in enumerate(ROOMS.items()):
        assert set(used.split()) <= set(order[:row]), room


def test_imports_are_those_of_the_table(imports):
    found = set()
    for module, used in imports.items():
        room = room_of(module)
        wrong = {room_of(name) for name in used} - {room, *ROOMS[room].split()}
        found |= {f"{room} -> {other}" for other in wrong}
    assert not found


def test_systems_are_reached_through_the_registry(imports):
    found = set()
    for module, used in imports.items():
        own = SYSTEM.match(module + ".")
        systems = {match[1] for name in used if (match := SYSTEM.match(name + "."))} - INTERFACES
        found |= {f"{room_of(module)} -> systems.{name}" for name in systems - ({own[1]} if own else set())}
    assert not found


def test_no_modules_import_each_other_in_a_circle(imports):
    assert not circles(imports)


def circles(imports: dict[str, set[str]]) -> list[str]:
    """The modules on a circle, or between two of them."""
    left = dict(imports)
    while left:
        used = set().union(*left.values())  # by any of them
        on = {name: own for name, own in left.items() if name in used and own & left.keys()}
        if len(on) == len(left):
            break
        left = on
    return sorted(left)


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}) == ["a", "b", "c"]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_models_know_nothing_of_files():
    for path in python_files("mindspore_osum/models"):
        assert not roots(imported_modules(path)) & {"yaml", "json", "pathlib"}, path


@pytest.mark.parametrize("what", [("check", "--output-format", "concise"), ("format", "--check")])
def test_lint_and_format(what):
    pytest.importorskip("ruff", reason="needs ruff (extra dev)")
    done = subprocess.run([sys.executable, "-m", "ruff", *what, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_bandit_finds_nothing():
    """Beside what pyproject.toml leaves out, with the reason."""
    pytest.importorskip("bandit", reason="needs bandit (extra dev)")
    command = [sys.executable, "-m", "bandit", "-q", "-r", *PRODUCT, "-c", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_line_is_left_out_of_the_format():
    mark = "# fmt" + ":"
    found = [str(path) for path in python_files(*PRODUCT, "tests") if mark in path.read_text("utf-8")]
    assert not found
