"""The examples of examples/batch in the engines that they are for, with a worker killed in the middle."""

import json, os, pathlib, shutil, signal, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples/batch"
FILES = 5


def check(engine, statepress, work):
    """Nothing is lost, and nothing is done twice."""
    environment = prepare(statepress, work)
    if engine == "snakemake":
        shutil.copy(EXAMPLES / "Snakefile", work)
        command = ["-m", "snakemake", "--cores", "2", "--retries", "3", "--quiet"]
    else:
        command = [EXAMPLES / "with_ray.py", "manifest.txt", "pressed", "int8", "lines/all.jsonl"]
    with open(work / "log", "w") as log:
        running = subprocess.Popen([sys.executable, *command], cwd=work, env=environment, stdout=log, stderr=log)
    killed = kill_in_the_middle(work, whole_worker=engine == "ray", running=running)
    before = results(work)
    assert running.wait(300) == 0, (work / "log").read_text()[-3000:]
    after = results(work)
    assert len(after) == FILES and before.items() <= after.items(), "what was done before is as it was"
    assert killed not in before and killed in after, killed
    lines = [json.loads(line) for path in sorted((work / "lines").iterdir()) for line in path.read_text().splitlines()]
    told = sorted((pathlib.Path(line["input"]).name, line["status"]) for line in lines)
    expected = [("bad.safetensors", "failed"), *((f"{name}.safetensors", "done") for name in sorted(names()))]
    assert told == sorted(expected), told
    assert not [path for path in (work / "pressed").iterdir() if path.name.startswith(".")]
    again = subprocess.run(
        ["statepress", "batch", "manifest.txt", "-o", "pressed", "--recipe", "int8", "--skip-existing", "--quiet"],
        cwd=work, env=environment, capture_output=True, text=True,
    )
    assert again.returncode == 42, again.stderr
    assert sorted(json.loads(line)["status"] for line in again.stdout.splitlines()) == ["failed"] + ["skipped"] * FILES
    assert results(work) == after
    return f"{FILES} files, killed while {killed} was made"


def names():
    return [f"model{at}" for at in range(FILES)]


def prepare(statepress, work):
    """Checkpoints that differ in a byte, one that is none, their manifest, and the command on the path."""
    for name in ("bin", "checkpoints", "lines"):
        (work / name).mkdir(parents=True)
    shim = work / "bin/statepress"
    shim.write_text(f'#!/bin/sh\nexec node "{os.path.abspath(statepress)}" "$@"\n')
    shim.chmod(0o755)
    weights = bytearray((ROOT / "examples/demo/itera-tiny/model.safetensors").read_bytes())
    for at, name in enumerate(names()):
        weights[-1] = 0x3C + at
        (work / f"checkpoints/{name}.safetensors").write_bytes(weights)
    (work / "checkpoints/bad.safetensors").write_text("no checkpoint")
    paths = sorted(path.relative_to(work) for path in (work / "checkpoints").iterdir())
    (work / "manifest.txt").write_text("".join(f"{path}\n" for path in paths))
    path = f"{work}/bin:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


def results(work):
    """When each result was written, by the name of what it was made of."""
    folder = work / "pressed"
    found = folder.glob("*.safetensors") if folder.exists() else []
    whole = [path for path in found if path.with_name(f"{path.name}.batch.json").exists()]
    return {path.name.split(".")[0]: path.stat().st_mtime_ns for path in whole}


def kill_in_the_middle(work, whole_worker, running):
    """Kills whoever has just begun a result, once there is another; answers of what."""
    seen = set()
    while running.poll() is None:
        begun = {path.name for path in (work / "pressed").glob(".*.partial-*")} if (work / "pressed").exists() else set()
        for name in begun - seen if results(work) else ():
            # .NAME.KEY.safetensors.partial-HOST-PID-...
            pid = int(name.split(".partial-")[1].split("-")[1])
            # What an engine's worker has started goes with it, as where a machine is lost.
            parent = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
            for it in [parent, pid] if whole_worker else [pid]:
                os.kill(it, signal.SIGKILL)
            return name.split(".")[1]
        seen |= begun
        time.sleep(0.02)
    raise AssertionError(f"it ended before anything was killed: {(work / 'log').read_text()[-3000:]}")
