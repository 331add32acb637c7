"""A Ray task for every entry of a manifest: python with_ray.py MANIFEST OUT RECIPE LINES"""

import os, subprocess, sys

# With a worker that dies ends what it has started. Where a cluster runs already, it is to be started with this.
os.environ.setdefault("RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper", "true")
import ray


@ray.remote(num_cpus=1, max_retries=3, retry_exceptions=True)
def press(index, manifest, out, recipe):
    command = ["statepress", "batch", manifest, "-o", out, "--recipe", recipe, "--skip-existing", "--shard-env", "INDEX"]
    done = subprocess.run(command, env={**os.environ, "INDEX": str(index)}, stdout=subprocess.PIPE, text=True)
    # What will always fail has said so in its line; anything else is an error, and Ray tries again.
    if done.returncode not in (0, 42):
        raise RuntimeError(f"entry {index} ended with exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    manifest, out, recipe, lines = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), *sys.argv[3:]
    entries = sum(1 for line in open(manifest) if line.strip())
    with open(lines, "w") as file:
        file.writelines(ray.get([press.remote(index, manifest, out, recipe) for index in range(entries)]))
