"""Models by name: downloaded from a hub into its cache, and converted once if they are PyTorch checkpoints.

    model_folder("tiny")                        # the bundled model
    model_folder("output/model")                # a folder
    model_folder("whisper-base")                # a folder of Hugging Face that is a whole model: converted
    model_folder("owner/name@v1.0")             # huggingface.co, a revision of it
    model_folder("modelscope:owner/name")       # modelscope.cn
    model_folder("owner/name/step_1.pt")        # one file of a repository with several checkpoints

Notable choices
- The hubs' own libraries download: their caches, tokens, mirrors and resuming are what people know. The
  environment variables are theirs: HF_ENDPOINT, HF_HUB_CACHE, HF_TOKEN, HF_HUB_OFFLINE; MODELSCOPE_ENDPOINT,
  MODELSCOPE_CACHE, MODELSCOPE_API_TOKEN. OSUM_HUB=modelscope makes that hub the default.
- Nothing of a repository is executed, and of its files only weights, descriptions and tokenizers are fetched.
- What exists on this machine is never looked for elsewhere: a path of an existing folder is no hub name.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json
from mindspore_osum.folder import BUNDLED, CONFIG, is_own_config
from mindspore_osum.systems.registry import all_systems

HUGGINGFACE, MODELSCOPE = "huggingface", "modelscope"
CACHE = "OSUM_CACHE"  # environment variable: folder of converted models
HUB = "OSUM_HUB"  # environment variable: the hub of names without one
SITES = {HUGGINGFACE: "huggingface.co", MODELSCOPE: "modelscope.cn"}

_NAME = re.compile(
    r"(?:(?P<hub>huggingface|modelscope):)?(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:/(?P<file>[\w.+-]+(?:/[\w.+-]+)*))?(?:@(?P<revision>[\w.+/-]+))?"
)
_DESCRIPTIONS = (".json", ".model", ".txt", ".yaml", ".jinja")
_CHECKPOINTS = (".pt", ".bin", ".pth")  # read without unpickling, by ckpt_convert
_MARGIN = 1 << 28  # bytes of a disk that stay free


@dataclass(frozen=True)
class Repo:
    """A model repository of a hub, or one checkpoint file in it."""

    hub: str
    name: str  # owner/name
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        file, revision = f"/{self.file}" if self.file else "", f"@{self.revision}" if self.revision else ""
        return f"{self.name}{file}{revision} on {SITES[self.hub]}"


def parse(name: str | os.PathLike) -> Repo | None:
    """The repository a name stands for; None for the bundled model, and for paths.

    A name whose first part is a folder here is a path.

    Raises
    ------
    UserError : OSUM_HUB names no hub.
    """
    text = os.fspath(name)
    match = _NAME.fullmatch(text)
    if not match or not match["hub"] and Path(text.partition("/")[0]).exists():
        return None
    hub = match["hub"] or os.environ.get(HUB) or HUGGINGFACE
    if hub not in SITES:
        raise UserError(f"{HUB}={hub}: choose one of {', '.join(SITES)}")
    return Repo(hub, match["repo"], match["file"], match["revision"])


def local(name: str | os.PathLike) -> Path:
    """The path itself, or a downloaded repository's folder or file; see `download`."""
    repo = parse(name)
    return Path(name) if repo is None else download(repo)


def model_folder(name: str | os.PathLike) -> Path:
    """The model folder of a name; a published checkpoint is converted once, into a cache.

    Parameters
    ----------
    name : a folder, "tiny" for the bundled model, or the name of a hub's repository.

    Raises
    ------
    UserError : as `download` and `osum convert`. Whether a path is a model folder is not checked here.
    """
    repo = parse(name)
    if repo is None:
        tiny = os.fspath(name) == BUNDLED.name and not Path(name).is_dir()
        return BUNDLED if tiny else _own_or_converted(Path(name))
    source = download(repo)
    if source.is_file():
        return _converted(repo, source, None)
    config, checkpoints = source / CONFIG, [p for p in source.iterdir() if p.suffix in _CHECKPOINTS]
    if not config.is_file():
        return _converted(repo, _only_checkpoint(repo, checkpoints), None)
    if not is_own_config(read_json(config, "a model description")):
        return _converted(repo, source, None)
    return _converted(repo, checkpoints[0], config) if len(checkpoints) == 1 else source


def _own_or_converted(folder: Path) -> Path:
    """A folder here; one of another program that is a whole model is converted once for each state of it."""
    about = folder / CONFIG
    values = read_json(about, "a model description") if about.is_file() else {}
    forms = [form for system in all_systems().values() for form in system.forms().values()]
    whole = {name for f in forms if f.folder and f.holds == "model" for name in f.folder.model_types}
    if not values or is_own_config(values) or str(values.get("model_type")) not in whole:
        return folder
    facts = [str(folder.resolve())]
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        about = path.stat()
        facts.append(f"{path.name} {about.st_size} {about.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return _made(f"{folder.resolve().name}@{digest}", folder, None)


def title(name: str | os.PathLike) -> str:
    """The name by which people know a model: that of its repository, or of its folder."""
    repo = parse(name)
    return repo.name if repo else model_folder(name).resolve().name


def download(repo: Repo, output: str | os.PathLike | None = None) -> Path:
    """Bring a repository, or its one file, to this machine; what is there already is not fetched again.

    Parameters
    ----------
    output : a folder for it, instead of the hub library's cache.

    Returns
    -------
    Path of the folder, or of `repo.file`.

    Raises
    ------
    UserError : no such repository, revision or file; no access; no network and not in the cache; no space.
    """
    fetch = _from_modelscope if repo.hub == MODELSCOPE else _from_huggingface
    try:
        folder = fetch(repo, output)
    except OSError as error:  # of the disk: the network's have been dealt with
        raise UserError(
            f"{repo}: {error.filename or 'cannot be stored'}: {error.strerror or error}"
        ) from None
    found = folder / repo.file if repo.file else folder
    if not found.exists():
        raise UserError(f"{repo}: not in the cache; fetch it while there is a network: osum download")
    return found


def _from_huggingface(repo: Repo, output) -> Path:
    from huggingface_hub import HfApi, errors, snapshot_download, try_to_load_from_cache
    from huggingface_hub.utils import disable_progress_bars
    from requests import RequestException

    if not os.isatty(2):
        disable_progress_bars()
    endpoint = os.environ.get("HF_ENDPOINT") or None
    cache = os.environ.get("HF_HUB_CACHE") or None
    how = {"revision": repo.revision, "endpoint": endpoint, "cache_dir": cache, "local_dir": output}
    cached, files = "", None
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        cached = "HF_HUB_OFFLINE is set"
    try:
        if not cached:
            try:
                files = HfApi(endpoint).model_info(repo.name, revision=repo.revision, files_metadata=True)
            except (RequestException, errors.OfflineModeIsEnabled) as error:
                if getattr(error, "response", None) is not None:
                    raise
                cached = f"the hub cannot be reached ({_reason(error)})"
        if cached:
            return Path(snapshot_download(repo.name, local_files_only=True, **how))
        chosen = choose(repo, {file.rfilename: file.size or 0 for file in files.siblings})
        there = [try_to_load_from_cache(repo.name, name, cache, files.sha) for name in chosen]
        missing = [n for n, path in zip(chosen.values(), there) if output or not isinstance(path, str)]
        _check_space(repo, missing, output or cache)
        return Path(snapshot_download(repo.name, allow_patterns=[*chosen], **how))
    except errors.GatedRepoError:
        raise UserError(
            f"{repo}: its owner asks for a registration; accept the conditions there and set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{repo}: no such model there, and no such folder here (a private one needs HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{repo}: no such revision there") from None
    except errors.LocalEntryNotFoundError:
        raise UserError(f"{repo}: no such folder here, not in the cache, and {cached}") from None
    except (RequestException, errors.HFValidationError) as error:
        raise UserError(
            f"{repo}: cannot be fetched ({_first_line(error)}); run it again to continue"
        ) from None


def _from_modelscope(repo: Repo, output) -> Path:
    try:
        from modelscope_hub import HubApi, NetworkError, NotExistError
        from modelscope_hub.errors import HubError
    except ImportError:
        raise UserError(
            f'{repo}: needs a package of that hub: pip install "mindspore_osum[modelscope]"'
        ) from None
    api = HubApi(endpoint=os.environ.get("MODELSCOPE_ENDPOINT") or None)
    how = {"revision": repo.revision, "local_dir": output, "cache_dir": os.environ.get("MODELSCOPE_CACHE")}
    try:
        files = api.list_repo_files(repo.name, "model", revision=repo.revision)
        chosen = choose(repo, {file.path: file.size or 0 for file in files if file.type != "tree"})
        _check_space(repo, chosen.values(), output or how["cache_dir"])
        return Path(api.download_repo(repo.name, "model", allow_patterns=[*chosen], **how))
    except NotExistError:
        raise UserError(f"{repo}: no such model or revision there, and no such folder here") from None
    except NetworkError as error:
        try:
            return Path(api.download_repo(repo.name, "model", local_files_only=True, **how))
        except (HubError, OSError):
            raise UserError(
                f"{repo}: not in the cache, and the hub cannot be reached ({_first_line(error)})"
            ) from None
    except HubError as error:
        raise UserError(
            f"{repo}: cannot be fetched ({_first_line(error)}); run it again to continue"
        ) from None


def choose(repo: Repo, sizes: Mapping[str, int]) -> dict[str, int]:
    """The files of a repository that are needed: descriptions, tokenizers, and one form of weights.

    Parameters
    ----------
    sizes : path in the repository -> bytes.

    Raises
    ------
    UserError : no weights, several checkpoints of which none is named, or no such file.
    """
    top = [name for name in sizes if "/" not in name]
    small = [name for name in top if name.endswith(_DESCRIPTIONS)]
    if repo.file:
        if repo.file not in sizes:
            raise UserError(f"{repo}: no such file; it has {_some(sizes)}")
        weights = [repo.file]
    else:
        weights = [name for name in top if name.endswith(".safetensors")]
    if not weights:
        weights = [name for name in top if name.endswith(_CHECKPOINTS)]
        if not any(name.endswith(".bin.index.json") for name in small):
            _only_checkpoint(repo, weights)
    return {name: sizes[name] for name in [*small, *weights]}


def _only_checkpoint(repo: Repo, found: list):
    if not found:
        raise UserError(
            f"{repo}: holds no weights that can be read ({', '.join(('.safetensors', *_CHECKPOINTS))})"
        )
    if len(found) > 1:
        first = Path(found[0]).name
        raise UserError(f"{repo}: holds several checkpoints ({_some(found)}); name one: {repo.name}/{first}")
    return found[0]


def _check_space(repo: Repo, sizes: Iterable[int], folder) -> None:
    """UserError if files of these sizes do not fit on the disk."""
    place = Path(folder or Path.home()).absolute()
    while not place.exists():
        place = place.parent
    if not (needed := sum(sizes)):
        return
    needed, free = needed + _MARGIN, shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{repo}: needs {needed / 1e9:.1f} GB, {place} has {free / 1e9:.1f} GB free; make space there"
        )


def _converted(repo: Repo, source: Path, config: Path | None) -> Path:
    """The model folder made of a published checkpoint; the snapshot's folder name is its commit.

    Parameters
    ----------
    config : a config.json of ours that describes it, instead of a preset.
    """
    folder = source if source.is_dir() else source.parent
    file = "" if source.is_dir() else f"--{source.stem}"
    commit = f"{repo.revision or ''}-{folder.name}-{int(source.stat().st_mtime)}"
    return _made(f"{repo.hub}--{repo.name}{file}@{commit}", source, config)


def _made(name: str, source: Path, config: Path | None) -> Path:
    """The converted model of this name in the cache, made if it is not there."""
    from ckpt_convert.convert import convert
    from ckpt_convert.settle import Settings

    home = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "mindspore_osum") / "models"
    target = home / re.sub(r"[^\w.-]", "-", name)
    if not (target / CONFIG).is_file():
        home.mkdir(parents=True, exist_ok=True)
        try:
            pieces = source if source.is_dir() else None  # without a tokenizer a model could not be used
            convert(source, target, tokenizer=pieces, settings=Settings(config=config and str(config)))
        except UserError:
            if not (target / CONFIG).is_file():  # unless another process has just made it
                raise
    return target


def _some(names: Iterable, n: int = 5) -> str:
    names = sorted(Path(name).name for name in names)
    return ", ".join(names[:n]) + (", ..." if len(names) > n else "")


def _reason(error: Exception) -> str:
    """What the network said, without the layers of the libraries around it."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return _first_line(error) if cause is None else str(cause).rpartition("): ")[2] or _first_line(error)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
