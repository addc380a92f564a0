"""README and docs: every code block runs, every table matches the committed files, every link resolves."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import ModuleType

import forked
import pytest

from deltarl import rendering

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent
SMALL = [
    "agent.n_steps=64",
    "eval.episodes=2",
    "eval.every=null",
    "eval.max_episode_steps=100",
]  # for trainings with PPO
SHORT_STEPS = 1100  # a little more than the random steps that the examples start with
TABLED = [
    "README.md",
    "docs/torsos.md",
    "docs/clusters.md",
    "docs/encoders.md",
    "docs/mechanism.md",
    "docs/policies.md",
    "docs/learning.md",
    "docs/deploy.md",
    "docs/guide.md",
    "docs/integrations.md",
    "docs/long-runs.md",
    "docs/gates.md",
    "docs/environments.md",
    "docs/configs.md",
    "docs/compare.md",
    "docs/fast.md",
    "benchmarks/README.md",
]
# Lines that only look at a run; on other pages they are skipped if README has the same line.
LOOKING = {"evaluate", "play", "list", "tensorboard"}
# Run in full by tests/comparison/test_compare.py, tests/search/test_tune.py, tests/bench/test_bench.py and
# tests/export/test_hub.py; here only their arguments are checked.
UNDERSTOOD = {"compare": "--dry-run", "tune": "--dry-run", "bench": "--help", "push": "--help", "pull": "--help"}
# The expected output of each verb.
PRINTED = {
    "train": r"tensorboard --logdir",
    "resume": r"resumed  \d times?, exactly",
    "tune": r"^each trial: \d+ runs? of [\d,]+ steps",
    "compare": r"^\d+ runs of [\d,]+ steps: \S+$",
    "report": r"report.html$",
    "gates": r"^network +block +first +beta|gates_episode.svg$|^difference +return ",
    "evaluate": r"return \S+ \+- \S+ over \d+ episodes",
    "export": r"^\S+: [\d,]+ KiB, differs from the policy by at most",
    "pack": r"^\S+\.zip: [\d,]+ KiB$",
    "play": r"\d s\n(cut off after \d+ steps: )?return \S+ \+- \S+ over \d+ episode",
    "list": r"^(quickstart|quick|half_cheetah(_ppo_delta)?|ppo) .*|^[\d.,]+ \+- .* runs/quickstart/seed-0$",
    "plot": r"^curves.png: ",
    "show": r"^total_timesteps: \d+$",
    "copy": r", a copy of .*\.yaml$",
    "validate": r"^\d+ files? (is|are) valid$",
    "schema": r'^  "\$schema"',
    "doctor": r"^frame with \w+ ",
    "bench": r"Example: deltarl bench",
    "push": r"Example: deltarl push",
    "pull": r"Example: deltarl pull",
}


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / page).read_text())


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module here.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh folder with the files of a clone, and the virtual environment of the tests."""
    for name in run(["git", "ls-files", "-co", "--exclude-standard"], ROOT).splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(BIN.parent)
    return tmp_path


def run(command: list[str], cwd: Path) -> str:
    outcome = attempt(command, cwd)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def attempt(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=400)


def looks_again(line: str) -> bool:
    """Whether a line only looks at a run, and README has the same line."""
    program, verb, *_ = [*shlex.split(line), ""]
    readme = [shown for language, code in blocks("README.md") if language == "bash" for shown in code.splitlines()]
    return line in readme and (verb in LOOKING or Path(program).name in LOOKING)


def run_line(line: str, cwd: Path) -> None:
    """Run one command of a shell block: shorten training, query servers once, skip setup and studies."""
    program, *arguments = shlex.split(line)
    if program == "make":
        # The virtual environment exists already; continuous integration shows that make can set it up.
        dry = [] if arguments == ["train"] else ["--dry-run"]
        short = " ".join(
            [f"total_timesteps={SHORT_STEPS}", *SMALL, "eval.max_episode_steps=30"]
        )  # because it is filmed later
        assert run(["make", *dry, "-o", ".venv/installed", *arguments, f"ARGS={short}"], cwd)
    elif program == "pip":
        # Use installed packages only, and change nothing.
        offline = ["--dry-run", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
        said = run([str(BIN / "python"), "-m", "pip", *arguments, *offline], cwd)
        assert "already satisfied" in said or "Would install deltarl" in said
    elif program.endswith("/deltarl"):
        run_verb(arguments, cwd)
    elif arguments[:2] == ["-m", "rl_zoo3.train"]:
        ended = forked.module(arguments[1], [*arguments[2:], "-n", "20", "--device", "cpu"], cwd)
        assert "Saving to" in ended.stdout, ended.stderr
    elif program.endswith("/tensorboard"):
        serve(line.split(), cwd)
    else:
        assert program.endswith("/python"), f"no way to test: {line}"
        script, *options = arguments
        assert "usage" in run_script(cwd / script, [*options, "--help"], cwd)


def run_script(path: Path, arguments: list[str], cwd: Path) -> str:
    ended = forked.script(path, arguments, cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def run_verb(arguments: list[str], cwd: Path) -> None:
    """Run a verb of `deltarl`; trainings are shortened and, unless they have a name, named after their config."""
    verb, subject = arguments[0], arguments[1] if len(arguments) > 1 else ""
    command, target = arguments, None
    if ">" in arguments:
        *command, _, target = arguments
    if verb == "train":
        own_name = any(argument.startswith("name=") for argument in arguments)
        short = [f"total_timesteps={SHORT_STEPS}", *SMALL]
        command = [*command, *short, *([] if own_name else [f"name={Path(subject).stem}"])]
        # A new Python for each seed takes seconds to start; tests/launch and tests/training/test_signals.py have those.
        command = [*command, "--jobs", "1"]
    if verb in UNDERSTOOD and UNDERSTOOD[verb] not in command:
        command = [*command, UNDERSTOOD[verb]]
    if verb == "resume":
        command = [re.sub(r"total_timesteps=\d+", f"total_timesteps={2 * SHORT_STEPS}", each) for each in command]
        (cwd / subject / "result.json").unlink(missing_ok=True)  # as if it had been interrupted
    outcome = forked.deltarl(command, cwd)
    if verb == "play" and outcome.returncode != 0:
        assert rendering.working_backend() is None, outcome.stderr
        assert outcome.returncode == 2
        assert rendering.PACKAGES in outcome.stderr
        return
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert re.search(PRINTED[verb], outcome.stdout, re.MULTILINE), outcome.stdout
    if "--video" in arguments:
        assert (cwd / arguments[arguments.index("--video") + 1]).stat().st_size > 0
    if target is not None:
        (cwd / target).write_text(outcome.stdout)


def run_job(script: str, cwd: Path) -> None:
    """Run a Slurm script, signal it as Slurm does, and run it again once it has been requeued."""
    settings = ["learning_starts=50000", "buffer_size=9000"]  # it only collects
    evaluation = ["every=null", "episodes=2", "max_episode_steps=100"]
    brief = " ".join(
        ["total_timesteps=6000", *(f"agent.{each}" for each in settings), *(f"eval.{each}" for each in evaluation)]
    )
    short = re.sub(r"total_timesteps=\d+", brief, script)
    env = with_slurm(cwd, srun='exec "$@"')
    (cwd / "job").write_text(short.replace("seeds=[0,1,2]", "seeds=0"))
    job = subprocess.Popen(["bash", "job"], cwd=cwd, env=env, stderr=subprocess.PIPE, text=True)
    metrics = cwd / "runs" / "cheetah" / "seed-0" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        assert job.poll() is None
        time.sleep(0.1)
    [step] = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(step), signal.SIGUSR1)
    said = job.communicate(timeout=120)[1]
    assert job.returncode == 75, said
    assert (cwd / "requeued").read_text() == "requeue 7\n"
    again = subprocess.run(["bash", "job"], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "resumed  1 time, exactly" in again.stdout


def run_job_of_an_array(script: str, cwd: Path) -> None:
    """Run a script whose training is stopped, so that it is requeued; then run that training, shortened."""
    (cwd / "job").write_text(script)
    env = {**with_slurm(cwd, srun=f'printf "%s\\n" "$@" > "{cwd}/step"; exit 75'), "SLURM_ARRAY_TASK_ID": "3"}
    assert subprocess.run(["bash", "job"], cwd=cwd, env=env, check=False, timeout=60).returncode == 75
    assert (cwd / "requeued").read_text() == "requeue 7\n"
    program, *arguments = (cwd / "step").read_text().splitlines()
    assert program == ".venv/bin/deltarl"
    short = [f"total_timesteps={SHORT_STEPS}", "agent.buffer_size=9000", "eval.episodes=1", "eval.max_episode_steps=30"]
    outcome = forked.deltarl([*arguments, *short], cwd)
    assert outcome.returncode == 0, outcome.stderr
    assert (cwd / "runs" / "cheetah" / "seed-3" / "result.json").exists()


def run_job_on_ray(script: str, cwd: Path) -> None:
    """Run a script with a real cluster of three nodes on this machine, signal it, and run it again once requeued."""
    small = ["agent={n_steps: 64, batch_size: 32, n_epochs: 1}", "env.n_envs=2", "seeds=[0]", "torso.width=16"]
    evaluation = ["eval={every: null, episodes: 1}", "gates.every=null", "device=cpu", "name=study"]
    command = ["compare", "quick", "total_timesteps=20000", *small, *evaluation, "--launcher", "ray"]
    short = script.replace("compare study --launcher ray", shlex.join(command))
    assert short != script
    (cwd / "job").write_text(short)
    srun = f'while [[ $1 == --* ]]; do shift; done; echo $$ >> "{cwd}/steps"; exec "$@"'
    scontrol = f'if [ "$1" = show ]; then printf "one\\ntwo\\nthree\\n"; else echo "$@" >> "{cwd}/requeued"; fi'
    job_id = str(os.getpid())  # of which the port is made
    env = with_slurm(cwd, srun, scontrol)
    env |= {"SLURM_JOB_ID": job_id, "SLURM_JOB_NODELIST": "nodes", "SLURM_CPUS_PER_TASK": "1"}
    env["RAY_worker_niceness"] = "0"
    log = cwd / "said"
    for status in (75, 0):
        (cwd / "steps").unlink(missing_ok=True)
        with (
            log.open("w") as said,
            subprocess.Popen(["bash", "job"], cwd=cwd, env=env, stdout=said, stderr=said) as job,
        ):
            try:
                checkpoints = cwd / "runs" / "study" / "reacher"
                while status == 75 and not list(checkpoints.glob("*/seed-0/metrics.jsonl")):
                    assert job.poll() is None, log.read_text()
                    time.sleep(0.2)
                if status == 75:
                    job.send_signal(signal.SIGUSR1)
                assert job.wait(timeout=240) == status, log.read_text()
            finally:
                job.kill()
                for step in map(int, (cwd / "steps").read_text().split()):  # as Slurm does when a job ends
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(step, signal.SIGTERM)
    assert (cwd / "requeued").read_text() == f"requeue {job_id}\n"
    assert len((cwd / "steps").read_text().split()) == 4  # one asks for the address
    assert (cwd / "runs" / "study" / "report" / "report.html").exists()


def with_slurm(cwd: Path, srun: str, scontrol: str | None = None) -> dict[str, str]:
    """The environment of a job, with the two Slurm commands that it calls."""
    scontrol = f'echo "$@" >> "{cwd}/requeued"' if scontrol is None else scontrol
    for name, does in {"srun": srun, "scontrol": scontrol}.items():
        (cwd / name).write_text(f"#!/bin/bash\n{does}\n")
        (cwd / name).chmod(0o755)
    return {**os.environ, "PATH": f"{cwd}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "OMP_NUM_THREADS": "1"}


def serve(command: list[str], cwd: Path) -> None:
    with subprocess.Popen(
        [*command, "--port", "0", "--load_fast=false"], cwd=cwd, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            address = next(found[0] for text in server.stderr if (found := re.search(r"http://\S+", text)))
            for _ in range(60):
                runs = urllib.request.urlopen(f"{address}data/runs", timeout=60).read().decode()
                if "quickstart" in runs:
                    break
                time.sleep(0.5)
            assert "quickstart/seed-0" in runs
        finally:
            server.kill()  # nothing of it is needed any more


# One starts a cluster; of the others, examples and exports have tests of their own.
SLOW_PAGES = {
    f"docs/{name}.md"
    for name in ("clusters", "deploy", "encoders", "environments", "gates", "integrations", "long-runs", "your-robot")
}


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW_PAGES else []) for page in PAGES if blocks(page)],
)
def test_every_code_block_runs_in_the_order_of_the_page(page: str, checkout: Path) -> None:
    for language, code in blocks(page):
        if language == "bash":
            for line in code.strip().splitlines():
                if page == "README.md" or not looks_again(line):
                    run_line(line, checkout)
        elif language == "sh":
            kinds = {"--array": run_job_of_an_array, "ray start": run_job_on_ray}
            next((each for text, each in kinds.items() if text in code), run_job)(code, checkout)
        elif language in ("yaml", "xml"):
            # The text before it names the file.
            before = (ROOT / page).read_text().split(code)[0]
            (checkout / re.findall(r"`([\w.]+\.(?:ya?ml|xml))`", before)[-1]).write_text(code)
        else:
            assert language == "python", f"no way to test a block of {language}"
            shortened = re.sub(r"total_timesteps=[\d_]+", f"total_timesteps={SHORT_STEPS}", code)
            brief = ", ".join(f'"{each}"' for each in (f"total_timesteps={SHORT_STEPS}", *SMALL[1:]))
            shortened = re.sub(r'"total_timesteps=\d+"', brief, shortened)  # an override, to which others are added
            shortened = shortened.replace("seeds=[0,1]", "seeds=[0]")  # a line of docs/guide.md trains two side by side
            shortened = shortened.replace("seeds=[900,901]", "seeds=[900]").replace("n_trials=20", "n_trials=1")
            # From a file, so that its processes can import it; the line before it may name the file.
            before = (ROOT / page).read_text().split(code)[0]
            named = re.search(r"`(\w+\.py)`:\n\n```python\n$", before)
            script = named[1] if named else "block.py"
            (checkout / script).write_text(shortened)
            run_script(checkout / script, [], checkout)


@pytest.mark.slow
def test_what_the_examples_import_warns_of_nothing(tmp_path: Path) -> None:
    """A new Python imports it, because the processes that run the blocks have already imported most of it."""
    own = "actor|arm|points|envpool"
    code = "\n".join(code for page in PAGES for language, code in blocks(page) if language == "python")
    lines = set(re.findall(rf"^(?:import|from) (?!{own})\w.*$", code, re.MULTILINE))
    assert "import deltarl" in lines
    assert len(lines) > 20
    assert not run([sys.executable, "-W", "error", "-c", "\n".join(sorted(lines))], tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_into_the_repository_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


FOLDERS = "deltarl|agents|envs|configs|docs|tests|benchmarks|results"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_path_in_backticks_exists(page: str) -> None:
    # Placeholders as in `envs/<name>.yaml` are not paths.
    for path in re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", (ROOT / page).read_text()):
        assert (ROOT / path).exists(), f"{page}: {path}"


@pytest.mark.parametrize("page", TABLED)
def test_tables_are_what_the_committed_results_and_specs_say(page: str) -> None:
    tables = load(ROOT / "docs" / "tables.py")
    assert set(tables.TABLES) == set(TABLED)
    assert (ROOT / page).read_text() == tables.filled(page), "make docs"


def test_the_table_of_costs_is_of_the_committed_measurement_and_its_bounds_hold() -> None:
    script = load(ROOT / "benchmarks" / "block_cost.py")
    page = (ROOT / "benchmarks" / "README.md").read_text()
    report = json.loads((ROOT / "benchmarks" / "block_cost.json").read_text())
    assert page == script.with_tables(page, report)
    bounds = [line for line in script.bounds_table(report["rows"]).splitlines() if "delta" not in line]
    assert len(bounds) == 1 + 1 + 4
    assert all(line.endswith("| yes |") for line in bounds[1:])


def test_the_figure_is_what_its_script_draws() -> None:
    script = load(ROOT / "docs" / "figures" / "delta_block.py")
    assert (ROOT / "docs" / "figures" / "delta_block.svg").read_text() == script.draw()


def test_measuring_the_gates_costs_no_more_than_documented() -> None:
    cases = json.loads((ROOT / "results" / "gate_cost.json").read_text())["cases"].values()
    assert len(cases) == 2
    assert max(case["share"] for case in cases) <= 0.02


def test_loggers_cost_no_more_than_documented() -> None:
    cases = json.loads((ROOT / "results" / "sink_cost.json").read_text())["cases"].values()
    assert len(cases) == 2
    assert max(sink["share"] for case in cases for sink in case["sinks"].values()) <= 0.02


def test_a_later_checkpoint_costs_no_more_than_documented() -> None:
    found = json.loads((ROOT / "results" / "checkpoint_cost.json").read_text())
    assert min(found["later_times_cheaper_than_sb3"]["seconds"]["each"]) >= 10
    assert max(row["memory_mib"] for row in found["rows"]) <= 200


def test_the_quickstart_is_shown_to_reach_what_is_promised_for_each_of_three_seeds() -> None:
    trained = load(ROOT / "docs" / "trained.py")
    returns = [result["final_return_mean"] for result in trained.results_of("quickstart", "delta")]
    assert len(returns) == 3
    assert min(returns) >= 600
