"""Comparisons as data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deltarl.comparison import load_comparison
from deltarl.comparison.load import read_comparison
from deltarl.errors import ConfigError
from deltarl.library import find, names

ROOT = Path(__file__).resolve().parents[2]
# Arms of shipped comparisons: an MLP of Stable-Baselines3, and encoders of which nothing can be scaled.
WITHOUT_INNER_WIDTH = ("mlp", "last", "flat")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", names("configs/compare"))
def test_shipped_comparisons_are_valid(name: str) -> None:
    """Every arm with an inner width is matched; arms of a task differ only in networks, implementation or rate."""
    comparison = load_comparison(name)
    assert all(note.startswith(WITHOUT_INNER_WIDTH) and " keeps its own size" in note for note in comparison.notes)
    for arms in comparison.sizes.values():
        for arm, size in arms.items():
            own_size = arm.partition("+")[0] in WITHOUT_INNER_WIDTH
            assert own_size or size.mismatch is None or abs(size.mismatch) <= 0.02
    first = comparison.cells[0]
    networks = dict.fromkeys(("actor_torso", "critic_torso", "encoder"), True)
    own: Any = {"name": True, **networks, "agent": {"implementation", "learning_rate"}}
    for cell in comparison.cells:
        if (cell.task, cell.seed) == (first.task, first.seed):
            assert cell.spec.model_dump(exclude=own) == first.spec.model_dump(exclude=own)


def test_seeds_of_the_study_are_used_once() -> None:
    """Seeds used for tuning are not used for confirmation; those of `memory` are of the same kind."""
    used: dict[int, str] = {}
    for name in names("configs/compare"):
        for seed in read_comparison(find("configs/compare", name, "test"))[0].seeds:
            if name.startswith("study") or seed in range(7_000, 9_000):
                assert used.setdefault(seed, name) == name
    assert len(used) == 2 + 12 + 10 + 8 + 3


def test_arms_with_other_critics_have_one_actor() -> None:
    others = [
        f"tasks.{task}=null"
        for task in read_comparison(find("configs/compare", "study_critics", "test"))[0].tasks
        if task != "hopper"
    ]
    cells = load_comparison("study_critics", *others, "seeds=[1]").cells
    assert len({cell.spec.actor_torso for cell in cells}) == 1
    assert len({cell.spec.critic_torso for cell in cells}) == 5


def test_files_that_a_comparison_names_are_looked_for_beside_it_wherever_its_description_goes() -> None:
    folder = Path("mine")
    folder.mkdir()
    (folder / "env.yaml").write_text("id: Reacher-v5\nkind: manipulation\nkwargs: {reward_dist_weight: 2.0}\n")
    (folder / "run.yaml").write_text("agent: ppo\nenv: env.yaml\ntotal_timesteps: 100\n")
    text = (
        "arms: {delta: delta, residual: residual}\nreference: delta\nmatch: width\n"
        "tasks: {a: run.yaml, b: {config: run.yaml}, c: {agent: ppo, env: env.yaml, total_timesteps: 100}}\n"
    )
    (folder / "two.yaml").write_text(text)
    comparison = load_comparison("mine/two.yaml")
    assert {cell.spec.env.kwargs["reward_dist_weight"] for cell in comparison.cells} == {2.0}
    Path("comparison.yaml").write_text(comparison.text)
    assert load_comparison("comparison.yaml").cells == comparison.cells


def test_the_variants_are_all_there() -> None:
    arms = load_comparison("ppo_variants").spec.arms
    assert arms.keys() >= {"mlp", "plain", "residual", "delta", "write_only", "additive", "lerp", "fixed_gate"}
    assert {"delta_one_head", "delta_4_channels", "no_reflection"} <= arms.keys()


def test_cells_are_tasks_by_arms_by_seeds_with_a_seed_whole_before_the_next() -> None:
    cells = load_comparison("quick", "tasks.pusher.env=pusher", "seeds=[3,5]", "out=here", "name=x").cells
    assert [cell.label for cell in cells] == [
        f"{task}/{arm}/seed-{seed}"
        for seed in (3, 5)
        for task in ("reacher", "pusher")
        for arm in ("residual", "delta")
    ]
    assert cells[3].folder == Path("here/x/pusher/delta/seed-3")
    assert cells[3].spec.seeds == (3,)
    assert (cells[3].spec.env.id, cells[3].spec.agent.algorithm) == ("Pusher-v5", "ppo")


def test_a_task_can_start_from_a_config() -> None:
    Path("mine.yaml").write_text(
        "arms: {residual: residual, delta: delta}\nreference: delta\ntasks: {hopper: quickstart}\ntotal_timesteps: 9\n"
    )
    comparison = load_comparison("mine.yaml", "tasks.hopper.agent.gamma=0.98")
    run = comparison.cells[0].spec
    assert (run.env.id, run.total_timesteps) == ("Hopper-v5", 9)
    assert (run.agent.gamma, run.agent.target_kl) == (0.98, 0.02)  # type: ignore[union-attr]


def test_an_override_below_a_bare_word_keeps_the_word() -> None:
    flat = ("arms.flat=plain", "arms.flat.torso.depth=1")
    cells = load_comparison("quick", "arms.residual.torso.depth=3", "tasks.reacher.env.n_envs=2", *flat).cells
    torsos = {cell.arm: cell.spec.actor_torso for cell in cells}
    assert (torsos["residual"].kind, torsos["residual"].depth) == ("residual", 3)  # type: ignore[union-attr]
    assert (torsos["flat"].kind, torsos["flat"].depth) == ("plain", 1)  # type: ignore[union-attr]
    assert (cells[0].spec.env.id, cells[0].spec.env.n_envs) == ("Reacher-v5", 2)


def test_what_was_resolved_gives_the_same_comparison() -> None:
    first = load_comparison("ppo_variants", "arms.lerp=null", "seeds=[0]", "torso.width=32", "arms.more=plain")
    Path("comparison.yaml").write_text(first.text)
    second = load_comparison("comparison.yaml")
    assert (second.cells, second.folder, second.text) == (first.cells, first.folder, first.text)
    assert "lerp" not in yaml.safe_load(first.text)["arms"]


def test_overrides_name_the_folder_but_for_seeds_and_places() -> None:
    assert load_comparison("quick", "seeds=[9]", "out=there", "device=cpu").folder == Path("there/quick")
    named = load_comparison("quick", "total_timesteps=100").folder.name
    assert named.startswith("quick+total_timesteps=100-")
    assert load_comparison("quick", "total_timesteps=100", "name=mine").folder.name == "mine"
    for more in ("seeds=[0,1,2,3,4]", "device=cpu", "out=there"):
        assert load_comparison("quick", "total_timesteps=100", more).folder.name == named


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("agent={n_epochs: 2, gamma: 0.5}", lambda run: (run.agent.n_epochs, run.agent.gamma, run.agent.batch_size)),
        ("eval={every: 256, episodes: 2}", lambda run: (run.eval.every, run.eval.episodes)),
        ("env.normalize={observations: false, rewards: false}", lambda run: run.env.normalize.model_dump()),
        ("arms.delta={agent: {gamma: 0.5}}", lambda run: run.agent.gamma),
        ("agent.learning_rate={schedule: linear, start: 0.1}", lambda run: run.agent.learning_rate.model_dump()),
    ],
)
def test_a_mapping_as_an_override_adds_to_what_stands_there(override: str, read: Callable[[Any], object]) -> None:
    expected = {
        "agent=": (2, 0.5, 64),
        "eval=": (256, 2),
        "env.n": {"observations": False, "rewards": False, "clip": 10.0, "keys": None},
        "arms.": 0.5,
        "agent": {"schedule": "linear", "start": 0.1, "end": 0.0, "fraction": 1.0},
    }
    found = read(load_comparison("quick", override).cells[1].spec)
    assert found == next(value for start, value in expected.items() if override.startswith(start))


def test_one_seed_is_a_list_of_one() -> None:
    assert load_comparison("quick", "seeds=3").spec.seeds == (3,)


def test_an_arm_that_keeps_its_own_size_is_noted() -> None:
    assert load_comparison("quick", "arms.mlp=mlp").notes == ("mlp keeps its own size: on reacher -86% parameters",)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_share_out_all_cells_with_the_arms_of_a_task_and_seed_together(count: int) -> None:
    comparison = load_comparison("ppo_small")
    shards = [comparison.shard(index, count) for index in range(1, count + 1)]
    assert sorted(cell.label for shard in shards for cell in shard) == sorted(cell.label for cell in comparison.cells)
    for shard in shards:
        pairs = [(cell.task, cell.seed) for cell in shard]
        assert all(pairs.count(pair) == len(comparison.spec.arms) for pair in pairs)


def test_there_is_no_shard_beyond_the_last() -> None:
    with pytest.raises(ConfigError, match="shard: 3/2 is not among 1/2 to 2/2"):
        load_comparison("quick").shard(3, 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reference=delt"], "reference: no arm 'delt'; did you mean 'delta'"),
        (["match=widht"], "match: 'widht' is not one of width, parameters, flops"),
        (["arms.residual=null"], "arms: expected at least two arms, got delta"),
        (["tasks.reacher=null"], "tasks: expected at least one task, got none"),
        (
            ["arms.delta.env=hopper"],
            r"arms\.delta\.env: an arm may change only torso, actor_torso, critic_torso, encoder, agent;",
        ),
        (["arms.delta.torso.hidden=9"], r"arms\.delta\.torso\.hidden: match: parameters chooses this value"),
        (
            ["arms.delta.agent={torso: {hidden: 9}}"],
            r"arms\.delta\.agent\.torso\.hidden: match: parameters chooses this value",
        ),
        (["arms.delta.agent=sac"], r"arms\.delta\.agent: an arm may change hyperparameters, but not the agent"),
        (["arms.delta.agent.base=ppo"], r"arms\.delta\.agent: an arm may change hyperparameters, but not the agent"),
        (["arms.delta.critic_torso=mlp"], r"arm delta: one torso is an mlp without a given size"),
        (["tasks.reacher.seeds=3"], r"tasks\.reacher\.seeds: seeds applies to all tasks"),
        (["tasks.reacher.out=x"], r"tasks\.reacher\.out: out applies to all tasks"),
        (["tasks.report.env=hopper"], r"tasks\.report: reserved name"),
        (["tasks.reacher.env=hoper"], r"tasks\.reacher\.env: no env 'hoper'; did you mean 'hopper'"),
        (["arms.delta.torso=null"], r"arms\.delta\.torso: expected a torso's kind or a mapping"),
        (["arms.delta.torso.heads=5"], r"arms\.delta\.torso\.heads: 5 heads do not divide width 64"),
        (["arms.delta=[1]"], r"arms\.delta: expected a mapping"),
        (["arms.a/b=delta"], "arms.a/b: string should match pattern"),
        (["seeds=[1,1]"], "seeds: duplicate seed"),
        (["agnt=ppo"], "agnt: unknown key; did you mean 'agent'"),
        (["tasks.x.config=quikstart"], "config: no config 'quikstart'; did you mean 'quickstart'"),
    ],
)
def test_wrong_input_names_the_key_and_what_would_be_right(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_comparison("quick", *overrides)


def test_an_error_in_a_file_names_its_line() -> None:
    text = (ROOT / "configs" / "compare" / "quick.yaml").read_text()
    Path("mine.yaml").write_text(
        text.replace("residual: {torso: residual}", "residual: {torso: {kind: residual, widht: 3}}")
    )
    with pytest.raises(
        ConfigError, match=r"mine\.yaml:3: arms\.residual\.torso\.widht: unknown key; did you mean 'width'"
    ):
        load_comparison("mine.yaml")
    with pytest.raises(ConfigError, match="no comparison 'quik'; did you mean 'quick'"):
        load_comparison("quik")
