"""API pages: of every room, the names that its face exports."""

import ast
import re
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = "veriserum_hf"
_WITHOUT_PAGE = ("cli",)  # its face is the command line


def on_config(config: MkDocsConfig) -> None:
    """Enter the pages in the navigation."""
    root = Path(config.config_file_path).parent
    entry = next(item for item in config.nav or [] if isinstance(item, dict) and "API" in item)
    entry["API"] = ["api/index.md", *({room: f"api/{room}.md"} for room in rooms(root))]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write the pages."""
    root = Path(config.config_file_path).parent
    pages = {room: room_page(root, room) for room in rooms(root)} | {"index": index_page(root)}
    for name, content in pages.items():
        files.append(File.generated(config, f"api/{name}.md", content=content))
    return files


def rooms(root: Path) -> list[str]:
    """Rooms that users import from, those that import none of the others first."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    named = [room.strip() for layer in reversed(layers) for room in layer.split("|")]
    return [room for room in named if room not in _WITHOUT_PAGE and (root / PACKAGE / room).exists()] + (
        ["errors"] if "errors" in named else []
    )


def exported(face: Path) -> dict[str, str]:
    """Names that a face imports from its own modules, and where each is defined, below the room."""
    found: dict[str, str] = {}
    for statement in ast.parse(face.read_text()).body:
        if not isinstance(statement, ast.ImportFrom):
            continue
        module = (statement.module or "").removeprefix(f"{PACKAGE}.{face.parent.name}.")
        if statement.level == 1 or module != statement.module:
            found |= {alias.name: f"{module}.{alias.name}".lstrip(".") for alias in statement.names}
    return found


def face_of(root: Path, room: str) -> Path:
    """The stub of a room, or where it has none the room's own code."""
    stub = root / PACKAGE / room / "__init__.pyi"
    return stub if stub.exists() else stub.with_suffix(".py")


def room_page(root: Path, room: str) -> str:
    """Page of a room: what it is for, and each of its names."""
    if room == "errors":
        entries = (
            f"::: {PACKAGE}.errors\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"
        )
        return f"# {PACKAGE}.errors\n\n{entries}"
    folder = root / PACKAGE / room
    names = sorted(exported(face_of(root, room)).items(), key=lambda item: item[0].lower())
    page = f"# {PACKAGE}.{room}\n\n{_introduction(folder / '__init__.py')}\n"
    documented = [where for _, where in names if _is_documented(folder, where)]
    if constants := [f"`{name}`" for name, where in names if where not in documented]:
        page += f"\nConstants and types: {', '.join(constants)}.\n"
    return page + "".join(f"\n::: {PACKAGE}.{room}.{where}\n" for where in documented)


def index_page(root: Path) -> str:
    """Page of the package: the names that `import veriserum_hf` gives, and the rooms."""
    page = "# API\n\n`import veriserum_hf as vs` gives these names, each imported when it is first used:\n\n"
    for name, where in sorted(exported(root / PACKAGE / "__init__.pyi").items(), key=lambda item: item[0].lower()):
        room = where.partition(".")[0]
        defined = where if room == "errors" else f"{room}.{exported(face_of(root, room))[name]}"
        page += f"- [`vs.{name}`][{PACKAGE}.{defined}]\n" if name != "__version__" else f"- `vs.{name}`\n"
    page += "\nOther names are imported from the room that exports them, such as "
    page += (
        f"`from {PACKAGE}.calibration import fit_bead_grid`. A room imports only from rooms above it in this list:\n"
    )
    for room in rooms(root):
        face = root / PACKAGE / room / "__init__.py"
        text = _introduction(face) if face.exists() else "What a user can correct, each with a message that says how."
        page += f"\n- [`{room}`]({room}.md): {text.splitlines()[0]}"
    return page + "\n"


def _is_documented(folder: Path, where: str) -> bool:
    """Whether a name is a module, class or function, and no constant or alias."""
    path = folder.joinpath(*where.split("."))
    if path.with_suffix(".py").exists():
        return True
    name = path.name
    statements = ast.parse(path.parent.with_suffix(".py").read_text()).body
    return any(isinstance(s, ast.ClassDef | ast.FunctionDef) and s.name == name for s in statements)


def _introduction(module: Path) -> str:
    """A module's docstring, its code in Markdown's marks."""
    return re.sub(r"``(.*?)``", r"`\1`", ast.get_docstring(ast.parse(module.read_text())) or "")
