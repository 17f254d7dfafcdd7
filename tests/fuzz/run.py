"""Fuzz the decoders and books of one venue, or of all, guided by the coverage of their files.

    python tests/fuzz/run.py --venue kraken --minutes 5

libFuzzer (through atheris) keeps an input where it reaches new branches of the decoders; `inputs` mutates
them, `oracle` judges them. What breaks a law is written to the scratch folder, once a law, and the rest
goes on; the exit status then is 1. At the end the smallest inputs that reach every arc that was reached
are kept in `tests/fuzz/corpus/<venue>`, which the property tests replay.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

CORPUS = HERE / "corpus"
MAX_SIZE = 6_000
"""Bytes of one input."""
KEPT_SIZE = 16_000
"""Bytes kept for one venue."""
N_SEEDS = 24
FOUND = "found-*.txt"
"""Inputs that once broke a law, kept by hand."""


def main() -> int:
    """Fuzz what the command line names; return 1 if a law was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venue", default="all", help="a venue's name, or all")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each venue")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "finllm-fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _fuzz(options.venue, options.minutes, options.scratch, options.seed)
        return 0
    from fuzz.oracle import NAMES

    if options.venue not in {*NAMES, "all"}:
        parser.error(f"no venue is called {options.venue!r}; known: all, {', '.join(NAMES)}")
    chosen = NAMES if options.venue == "all" else (options.venue,)
    n_findings = sum(_campaign(venue, options) for venue in chosen)
    return 1 if n_findings else 0


def _campaign(venue: str, options: argparse.Namespace) -> int:
    """Fuzz one venue in a process of its own, keep its corpus and print what came of it."""
    folder = options.scratch / venue
    for name in ("corpus", "findings"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, str(HERE / "run.py"), "--child", "--venue", venue, "--scratch", str(folder),
        "--minutes", str(options.minutes), "--seed", str(options.seed),
    ]  # fmt: skip
    with (folder / "log.txt").open("wb") as log:
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    said = (folder / "log.txt").read_text(errors="replace")
    reached = re.findall(r"cov: (\d+) ft: (\d+)", said)
    n_kept, size, lines = keep(venue, folder / "corpus")
    findings = sorted(path.name for path in (folder / "findings").iterdir())
    stats: dict[str, Any] = json.loads((folder / "stats.json").read_text())
    stats |= {"edges": int(reached[-1][0]) if reached else 0, "kept": n_kept, "kept_bytes": size}
    stats |= {"lines": lines, "findings": findings, "exit": status}
    sys.stdout.write(json.dumps({"venue": venue} | stats) + "\n")
    sys.stdout.flush()
    return len(findings) + (status != 0)


# -- in the process that fuzzes --------------------------------------------------------------------


def _fuzz(venue: str, minutes: float, folder: Path, seed: int) -> None:
    import atheris

    # What is imported before is not instrumented: numba could not read a kernel's changed bytecode.
    for name in ("book", "capture", "levels"):
        import_module(f"finllm.market.{name}")
    with atheris.instrument_imports(include=["finllm"]):
        from fuzz import oracle
    from fuzz import seeds
    from fuzz.inputs import Mutator, read, written

    seeds.warm()
    honest = list(seeds.sessions(venue, N_SEEDS, seed))
    for frames in honest:
        _save(folder / "corpus", written(frames))

    def mangle(payload: bytes, size: int) -> bytes:
        return atheris.Mutate(payload, size)  # looked up late: Setup puts libFuzzer's in its place

    mutator = Mutator(
        [frame for frames in honest for frame in frames],
        lambda messages: seeds.mend(venue, messages),
        mangle,
    )
    judge = _Judge(lambda text: oracle.run(venue, read(text)), folder)
    flags = [
        f"-max_total_time={max(1, round(minutes * 60))}", f"-max_len={MAX_SIZE}", f"-seed={seed}",
        "-timeout=20", "-rss_limit_mb=4096", "-len_control=0", f"-artifact_prefix={folder}/",
        str(folder / "corpus"),
    ]  # fmt: skip
    if (CORPUS / venue).is_dir():
        flags.append(str(CORPUS / venue))
    atheris.Setup(
        [sys.argv[0], *flags], judge, custom_mutator=mutator.mutate, custom_crossover=mutator.cross
    )
    atheris.Fuzz()


class _Judge:
    """Tries each input, counts, and writes down the first that breaks a law in one way."""

    def __init__(self, attempt: Callable[[bytes], Any], folder: Path) -> None:
        self._attempt = attempt
        self._folder = folder
        self._seen: set[str] = set()
        self._stats = dict.fromkeys(("runs", "frames", "used", "rows", "valid", "slowest_us"), 0)
        self._write()

    def __call__(self, text: bytes) -> None:
        """Try one input."""
        stats = self._stats
        stats["runs"] += 1
        try:
            outcome = self._attempt(text)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            _report(error, text, self._folder / "findings", self._seen)
        else:
            for name, n in zip(("frames", "used", "rows", "valid"), outcome, strict=False):
                stats[name] += n
            stats["slowest_us"] = max(stats["slowest_us"], outcome.slowest_ns // 1_000)
        if stats["runs"] % 100 == 0:
            self._write()

    def _write(self) -> None:
        (self._folder / "stats.json").write_text(json.dumps(self._stats))


def _report(error: Exception, text: bytes, folder: Path, seen: set[str]) -> None:
    """Write the first input that breaks a law in one way; the shortest would be nicer, the first is sure."""
    law = getattr(error, "law", "")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).stem}-{trace.tb_lineno}" if trace else ""
    name = re.sub(r"[^a-z0-9]+", "-", (law or f"{type(error).__name__} {place}").lower())
    if law == "what is taken in can be read":
        name += "-" + re.sub(r"[^a-z]+", "-", str(error.__cause__).lower())[:40]
    if name in seen:
        return
    seen.add(name)
    (folder / f"{name}.txt").write_bytes(text)
    (folder / f"{name}.why").write_text(f"{type(error).__name__}: {error}\n")


def _save(folder: Path, text: bytes) -> Path:
    path = folder / f"{blake2b(text, digest_size=6).hexdigest()}.txt"
    path.write_bytes(text)
    return path


# -- what is kept ----------------------------------------------------------------------------------


def keep(venue: str, folder: Path) -> tuple[int, int, dict[str, str]]:
    """Keep the smallest inputs that reach every arc of the decoders' files, within `KEPT_SIZE`.

    Returns:
        How many, their bytes, and the lines reached of each file.
    """
    from fuzz import oracle, seeds
    from fuzz.inputs import read

    seeds.warm()
    own = CORPUS / venue
    own.mkdir(parents=True, exist_ok=True)
    texts = {path.read_bytes() for path in (*folder.iterdir(), *own.iterdir())}
    arcs_of: dict[bytes, set[Any]] = {}
    for text in texts:
        try:
            with Arcs() as arcs:
                oracle.run(venue, read(text), float("inf"))
        except Exception:  # noqa: BLE001, S112 - reported when it was found
            continue
        arcs_of[text] = arcs.seen
    found = {path.read_bytes() for path in own.glob(FOUND)}
    for path in set(own.iterdir()) - set(own.glob(FOUND)):
        path.unlink()
    seen: set[Any] = set().union(*(arcs_of.pop(text, ()) for text in found))
    n, size = len(found), sum(map(len, found))
    for text in sorted(arcs_of, key=lambda text: (len(text), text)):
        if arcs_of[text] <= seen or size + len(text) > KEPT_SIZE:
            continue
        seen |= arcs_of[text]
        _save(own, text)
        n, size = n + 1, size + len(text)
    return n, size, _lines(seen.union(*arcs_of.values()))


class Arcs:
    """Traces which line follows which within the files of the market room."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()

    def __enter__(self) -> Self:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: Any, _event: str, _arg: Any) -> Any:
        name = frame.f_code.co_filename
        if "/finllm/market/" not in name:
            return None
        last = -frame.f_code.co_firstlineno

        def line(frame: Any, event: str, _arg: Any) -> Any:
            nonlocal last
            if event == "line":
                self.seen.add((name, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line


def _lines(arcs: Iterable[tuple[str, int, int]]) -> dict[str, str]:
    """Return `reached/all` lines within functions for each file."""
    reached: dict[str, set[int]] = {}
    for name, _, line in arcs:
        reached.setdefault(name, set()).add(line)
    return {
        Path(name).stem: f"{len(lines)}/{len(lines | _executable(name))}"
        for name, lines in sorted(reached.items())
    }


def _executable(name: str) -> set[int]:
    """Return the lines of a file that are within functions."""
    left = [compile(Path(name).read_text(), name, "exec")]
    found: set[int] = set()
    while left:
        code = left.pop()
        inner = [const for const in code.co_consts if hasattr(const, "co_lines")]
        left += inner
        if code.co_flags & 2:  # CO_NEWLOCALS and CO_OPTIMIZED: a function, no module or class body
            found |= {
                line for _, _, line in code.co_lines() if line and line != code.co_firstlineno
            }
    return found


if __name__ == "__main__":
    sys.exit(main())
