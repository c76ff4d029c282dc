"""The checks of robustvit: `nox` runs them all, `nox -s NAME` one, `nox -l` lists them. uv shares torch between the environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "layers", "tests", "board", "suites", "docs", "site", "browser"]

# Where Python is told to keep no bytecode, every process of the tests compiles torch and timm anew: nine seconds of each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

TEST = [
    "pytest>=8.0",
    "pytest-xdist>=3.6",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
    "imagecorruptions>=1.1.2",
    "opencv-python-headless>=4.9",
    "scikit-image>=0.22",
]
LIBRARIES = [
    "torchattacks>=3.5.1",
    "pyautoattack>=0.2.0",
    "foolbox>=3.3.4",
    "peft>=0.12",
    "duckdb>=1.0",
    "obstore>=0.8",
    "ray>=2.9",
    "moto[server]>=5.0",
    "captum>=0.7",
    "grad-cam>=1.5",
]
APART = "not architectures and not coverage and not processes and not frameworks and not notebooks and not long and not ray"
CHECKED_BOARDS = ["demo/*", "zoo/quick", "zoo/l?*", "zoo/certified-*", "zoo/transfer-zoo", "zoo/downstream-transfer", "zoo/blackbox"]
"""Boards that are made again each time; `nox -s reports` makes all, sixteen minutes of CPU time."""
BROWSER = ["selenium>=4.20", "pytest-rerunfailures>=14.0"]
SITE = [
    "mkdocs==1.6.1",
    "mkdocs-material==9.8.2",
    "mkdocstrings==1.0.8",
    "mkdocstrings-python==2.0.11",
    "pymdown-extensions==13.1.2",
    "ruff",
]


def installed(session: nox.Session, *extra: str) -> None:
    """Installs robustvit as from a wheel, and what the session needs besides."""
    session.install("-q", ".", *extra)


@nox.session
def lint(session: nox.Session) -> None:
    session.install("-q", "ruff")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    installed(session, "mypy", "types-PyYAML", "pandas-stubs")
    session.run("mypy")


@nox.session
def layers(session: nox.Session) -> None:
    """Who may import whom, the picture of it in docs/architecture.md, what start-up costs, the façade."""
    session.install("-q", "-e", ".", *TEST)
    session.run("pytest", "-q", *(f"tests/laws/test_{name}.py" for name in ("layers", "architecture_page", "facade")))


@nox.session
def tests(session: nox.Session) -> None:
    """Everything but docs and browser, a process for each core with one thread each."""
    installed(session, *TEST, *LIBRARIES)
    words = [
        "pytest",
        "-q",
        "-n",
        "auto",
        "-m",
        f"not browser and {APART}",
        "--ignore",
        "tests/docs",
        "--timeout",
        "900",
        *session.posargs,
    ]
    session.run(*words, env={"OMP_NUM_THREADS": "1"})


@nox.session
def minimums(session: nox.Session) -> None:
    """The oldest dependencies that pyproject.toml promises (uv only)."""
    session.install("-q", "--resolution", "lowest-direct", ".", *TEST)
    session.run(
        "pytest",
        "-q",
        "-m",
        f"not browser and not slow and {APART}",
        *session.posargs,
    )


PYTHONS = ("3.12", "3.13")


def interpreter(version: str) -> str | None:
    """A Python of that version which starts: `python3.12` on PATH, or one that pyenv keeps. A shim without a Python behind it is none."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    for path in (*([on_path] if on_path else []), *sorted(map(str, kept.glob(f"{version}.*/bin/python")), reverse=True)):
        told = subprocess.run(
            [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if told.returncode == 0 and told.stdout.strip() == version:
            return path
    return None


@nox.session(venv_backend="none")
@nox.parametrize("version", PYTHONS)
def pythons(session: nox.Session, version: str) -> None:
    """The tests that are not slow, on the other versions of Python that are on this machine."""
    found = interpreter(version)
    if found is None:
        session.skip(f"there is no Python {version}: neither python{version} on PATH nor one of pyenv's starts")
    if shutil.which("uv") is None:
        session.skip("this session makes its environments with uv: python3 -m pip install uv")
    python = Path(".nox", f"python{version}", "bin", "python").absolute()
    session.run("uv", "venv", "-q", "--allow-existing", "--python", found, str(python.parents[1]), external=True)
    session.run("uv", "pip", "install", "-q", "--python", str(python), ".", *TEST, external=True)
    fast = f"not browser and not slow and {APART}"
    words = ("-m", "pytest", "-q", "-n", "auto", "-m", fast, "--ignore", "tests/docs", "--timeout", "900")
    session.run(str(python), *words, *session.posargs, env={"OMP_NUM_THREADS": "1"}, external=True)


def shipped() -> set[str]:
    """The files of the checkout that an installation needs: the package, its data, the suites and the published numbers."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    places = ("robustvit/", "suites/", "reports/references/")
    return {name for name in tracked if name.startswith(places)} | {"pyproject.toml", "README.md", "LICENSE", "requirements/board.txt"}


@nox.session(reuse_venv=False)
def sdist(session: nox.Session) -> None:
    """The source distribution holds every file of the package, and what is installed from it runs the demo."""
    session.install("-q", "build")
    folder = Path(session.create_tmp()).absolute()
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    session.run("python", "-m", "build", "--sdist", "--outdir", str(folder), silent=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        lacking = shipped() - {name.partition("/")[2] for name in packed.getnames()}
    if lacking:
        session.error(f"{archive.name} lacks {len(lacking)} files: {', '.join(sorted(lacking)[:10])}")
    session.install("-q", str(archive))
    away = {"PYTHONPATH": ""}
    with session.chdir(folder):
        session.run("robustvit", "run", "--limit", "5", "--store", "store", "-q", env=away)
        session.run("robustvit", "leaderboard", "--store", "store", env=away)
        session.run("robustvit", "factors", "--published", "-f", "csv", "-o", "factors.csv", env=away)
        session.run("robustvit", "check", silent=True, env=away)
        for corruption in ("frost", "fog"):
            words = ("corrupt", "image.png", "corrupted", "-c", corruption, "--severity", "3", "--size", "64", "-q")
            session.run("python", "-c", "from PIL import Image; Image.new('RGB', (80, 80), 'gray').save('image.png')", env=away)
            session.run("robustvit", *words, env=away)


@nox.session
def suites(session: nox.Session) -> None:
    """Every suite that ships loads and binds without weights."""
    installed(session)
    session.run("robustvit", "check")


@nox.session(reuse_venv=False)
def board(session: nox.Session) -> None:
    """Tables without torch (requirements/board.txt): the committed ones, then all, to the byte as the whole environment makes them."""
    session.install("-q", "--no-deps", ".")
    session.install("-q", "-r", "requirements/board.txt")
    size = sum(path.lstat().st_size for path in Path(session.virtualenv.location).rglob("*") if path.is_file()) / 1e6
    session.log(f"the environment takes {size:.0f} MB")
    session.run("python", "reports/regenerate.py", "--check", "--only", *CHECKED_BOARDS)
    session.run("python", "reports/statements.py", "--check")
    folder = Path(session.create_tmp()).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    words = ("python", "tests/boards.py", "reports/records")
    models = ("demo", "demo")
    session.run(*words, str(folder / "lean"), *models, "--block", "torch", "timm", "torchvision", "transformers")
    session.run(*words, str(folder / "computing"), *models, "--computing")
    for path in sorted((folder / "computing").iterdir()):
        if "needs torch, which is not installed" not in path.read_text(encoding="utf-8"):
            session.error(f"{path.stem} does not say what it lacks: {path}")
    installed(session)
    session.run(*words, str(folder / "whole"), *models)
    made = {one: {path.name: path.read_bytes() for path in (folder / one).rglob("*") if path.is_file()} for one in ("lean", "whole")}
    other = sorted(name for name in made["lean"].keys() | made["whole"].keys() if made["lean"].get(name) != made["whole"].get(name))
    if other:
        session.error(f"not the same without torch: {', '.join(other)} in {folder}")
    session.log(f"{len(made['lean'])} files are the same to the byte")


@nox.session
def docs(session: nox.Session) -> None:
    """The commands and Python blocks of README.md and docs/ run, and every example."""
    installed(session, "pytest", "pytest-xdist>=3.6")
    session.run("pytest", "-q", "-n", "auto", "--dist", "worksteal", "tests/docs", env={"OMP_NUM_THREADS": "1"})


@nox.session
def site(session: nox.Session) -> None:
    """The pages as a site in site/, which opens without a network; links, anchors and navigation are checked."""
    session.install("-q", "--no-deps", ".")
    session.install("-q", *SITE, "pydantic>=2.7", "annotated-types>=0.6", "PyYAML>=6.0")  # what reading suites takes
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def browser(session: nox.Session) -> None:
    """The report in headless Chromium; skipped with a reason where there is none."""
    installed(session, *TEST, *BROWSER)
    again = ["--reruns", "1", "--only-rerun", "TimeoutException"]  # of the driver, when the renderer does not answer it
    session.run("pytest", "-q", "-rs", "-m", "browser", *again)


@nox.session
def architectures(session: nox.Session) -> None:
    """The smallest variant of many architectures, with random weights, through suite quick: minutes."""
    session.install("-q", ".[hf]", *TEST)
    session.run("pytest", "-q", "-rs", "-n", "auto", "-m", "architectures", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def processes(session: nox.Session) -> None:
    """Training and runs in several processes: the whole of them, and killed."""
    installed(session, *TEST)
    session.run("pytest", "-q", "-rs", "-m", "processes", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def ray(session: nox.Session) -> None:
    """Runs on a Ray cluster of several raylets, of which workers, machines and the driver are killed; and by array jobs."""
    installed(session, *TEST, "ray>=2.9", "submitit>=1.5")
    session.run("pytest", "-q", "-rs", "-m", "ray", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def long(session: nox.Session) -> None:
    """Benchmarks on few images, faults of disks and kills at every operation, and what scaffolds write."""
    installed(session, *TEST, *LIBRARIES)
    session.run("pytest", "-q", "-n", "auto", "-m", "long", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def notebooks(session: nox.Session) -> None:
    """The notebooks of examples/ in a Jupyter kernel."""
    session.install("-q", "-e", ".", *TEST, "nbclient", "ipykernel")
    session.run("pytest", "-q", "-rs", "-m", "notebooks", "tests/docs/test_notebooks.py")


@nox.session
def frameworks(session: nox.Session) -> None:
    """Defenses in the loops of PyTorch Lightning, Hugging Face's Trainer and timm, the examples that need these; MLflow and W&B offline."""
    session.install("-q", ".[lightning,hf,mlflow,wandb,datasets]", *TEST)
    chosen = ("-n", "auto", "-m", "frameworks", "tests/training/adapters", "tests/docs", "tests/evaluation/loggers")
    session.run("pytest", "-q", "-rs", *chosen, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def mutants(session: nox.Session) -> None:
    """Whether the tests would notice: every mutant of tests/mutants/*.yaml, one at a time, must fail the tests that it names."""
    installed(session, *TEST, *LIBRARIES)
    session.run("python", "tests/mutants/runner.py", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """How often each metric's interval holds the truth, in 2,000 samples of simulated populations: about half an hour of one core."""
    installed(session, *TEST)
    chosen = ("-n", "auto", "-m", "coverage", "tests/statistics/test_coverage.py")
    session.run("pytest", "-q", "-rP", *chosen, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def faults(session: nox.Session) -> None:
    """A thousand kills, signals, full disks, flipped bits and processes at once: `nox -s faults -- COUNT SEED` runs others.

    Then as many of a store in object storage whose service fails, and 200 of a Ray cluster whose workers and machines are killed.
    """
    installed(session, *TEST, "obstore>=0.8", "ray>=2.9")
    session.run("python", "tests/faults/trials.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})
    session.run("python", "tests/remote_trials.py", *session.posargs)
    session.run("python", "tests/ray_trials.py", env={"OMP_NUM_THREADS": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Speed, each against its peer in the same process: `nox -s bench -- --tiny` only sees that the scripts run."""
    installed(session, "imagecorruptions>=1.1.2", "scikit-image", "opencv-python-headless", *LIBRARIES)
    for script in sorted(Path("benchmarks").glob("[!_]*.py")):
        session.run("python", str(script), *session.posargs)


@nox.session
def records(session: nox.Session) -> None:
    """The Records of the committed boards: computes what reports/boards.yaml requests and the stores lack; resumable."""
    installed(session)
    session.run("python", "reports/records.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(reuse_venv=False)
def reports(session: nox.Session) -> None:
    """Regenerates the boards of reports/ from their Records, without torch, and the screenshot in the README."""
    session.install("-q", "--no-deps", ".")
    session.install("-q", "-r", "requirements/board.txt")
    session.run(
        "python", "reports/regenerate.py", *session.posargs, env={"CHROMIUM": os.environ.get("CHROMIUM", shutil.which("chromium") or "")}
    )
    session.run("python", "reports/statements.py")
