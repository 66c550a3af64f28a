"""Laws of the schedule, whatever fails and in whatever order tasks end."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from hypothesis import assume, event, given
from hypothesis import strategies as st

from matrix.catalog.cells import Cell
from matrix.record.model import Platform
from matrix.run.job import Job, JobEstimate, WhyNot
from matrix.run.machine import Demand, Gpu, Lack, Machine, Resource
from matrix.run.task import Present, SchedulePolicy, TaskKind
from referee import Referee

_CELL = Cell("3.11", "2.10.0", "0.19.1")
_SECONDS = st.sampled_from([0.0, 35.0, 130.0, 300.0, 760.0])


@dataclass(frozen=True, kw_only=True)
class _World:
    jobs: tuple[Job, ...]
    machines: tuple[Machine, ...]
    present: Mapping[str, tuple[Present, ...]]
    policy: SchedulePolicy


@st.composite
def _jobs(draw: st.DrawFn) -> tuple[Job, ...]:
    found = []
    for number in range(draw(st.integers(1, 6))):
        for round_ in range(1, draw(st.integers(1, 3)) + 1):
            platform = draw(st.sampled_from([Platform.CPU, Platform.CPU, Platform.CUDA]))
            on_gpu = platform is Platform.CUDA
            found.append(
                Job(
                    cell=_CELL,
                    environment=f"py311-torch2{number}",
                    platform=platform,
                    round=round_,
                    estimate=JobEstimate(build_seconds=draw(_SECONDS), run_seconds=draw(_SECONDS)),
                    demand=Demand(
                        cores=draw(st.integers(0, 5)),
                        memory_mib=draw(st.integers(0, 5)),
                        disk_mib=draw(st.integers(0, 5)),
                        gpu_mib=draw(st.integers(1, 5)) if on_gpu else 0,
                        gpus=draw(st.sampled_from([1, 1, 2])),
                        whole_gpus=draw(st.booleans()),
                    ),
                    build=Demand(cores=draw(st.integers(0, 2)), memory_mib=draw(st.integers(0, 3))),
                )
            )
    return tuple(found)


@st.composite
def _machine(draw: st.DrawFn, name: str) -> Machine:
    gpus = [
        Gpu(device=str(number), name="H", total_mib=9, free_mib=draw(st.integers(0, 9)))
        for number in range(draw(st.sampled_from([0, 1, 2])))
    ]
    return Machine(
        name=name,
        cores=draw(st.sampled_from([8, 5, 4, 1, 0])),
        memory_mib=draw(st.sampled_from([9, 6, 5, 0])),
        disk_mib=draw(st.sampled_from([9, 12, 5, 4])),
        gpus=tuple(gpus),
    )


@st.composite
def _worlds(draw: st.DrawFn, *, most_machines: int = 3) -> _World:
    jobs = draw(_jobs())
    machines = [
        draw(_machine(f"m{number}")) for number in range(draw(st.integers(1, most_machines)))
    ]
    names = [*sorted({job.environment for job in jobs}), "old", "older"]
    present = {}
    for machine in machines:
        there = draw(st.sets(st.sampled_from(names), max_size=3))
        present[machine.name] = tuple(
            Present(environment=name, disk_mib=draw(st.integers(0, 6)), usable=draw(st.booleans()))
            for name in sorted(there)
        )
    policy = SchedulePolicy(
        runs_at_once=draw(st.sampled_from([1, 1, 2])),
        builds_at_once=draw(st.sampled_from([None, 1])),
        tries=draw(st.integers(1, 3)),
        losses=draw(st.integers(1, 3)),
        overtakes=draw(st.integers(0, 3)),
    )
    return _World(jobs=jobs, machines=tuple(machines), present=present, policy=policy)


def _refereed(world: _World) -> Referee:
    return Referee(world.jobs, world.machines, world.present, world.policy)


def _go_on(referee: Referee, choices: list[int]) -> None:
    """Let happen what the choices say; when they are used up every task works, oldest first."""
    joined = 0
    referee.start()
    most = 40 * (len(referee.jobs) + 1) * (len(choices) + 4)
    while not referee.is_over:
        assert len(referee.begun) < most, "it goes on for ever"
        choice = choices.pop(0) if choices else 0
        what, which = choice % 10, choice // 10
        assert referee.going, "jobs are left, and nothing goes on"
        task = referee.going[which % len(referee.going)]
        if what == 9 and referee.machines:
            names = sorted(referee.machines)
            referee.lose(names[which % len(names)])
        elif what == 8:
            joined += 1
            referee.join(Machine(name=f"j{joined}", cores=which % 9, memory_mib=8, disk_mib=12))
        elif what == 7 and which % 8 == 0:
            referee.stop()
        else:
            works, record = what not in (4, 5, 6), what not in (3, 6)
            referee.end(task, works=works, record=record, machine_fault=what == 2)


@given(_worlds(), st.lists(st.integers(0, 199), min_size=8, max_size=40))
def test_every_job_ends_once_and_nothing_is_exceeded_whatever_fails(
    world: _World, choices: list[int]
) -> None:
    referee = _refereed(world)
    _go_on(referee, choices)
    assert set(referee.ends) == {job.key for job in world.jobs}
    for end in referee.ends.values():
        event(f"{end.how} {end.why}")
    removed = sum(task.kind == TaskKind.REMOVE for task in referee.begun)
    event(f"removals: {min(removed, 3)}")


@given(_worlds(), st.randoms(use_true_random=False), st.lists(st.integers(0, 199), max_size=20))
def test_the_order_of_jobs_machines_and_environments_changes_nothing(
    world: _World, random: Random, choices: list[int]
) -> None:
    jobs, machines = list(world.jobs), list(world.machines)
    random.shuffle(jobs)
    random.shuffle(machines)
    present = {}
    for name in random.sample(sorted(world.present), len(world.present)):
        there = world.present[name]
        present[name] = tuple(random.sample(there, len(there)))
    one, other = _refereed(world), Referee(jobs, machines, present, world.policy)
    _go_on(one, list(choices))
    _go_on(other, list(choices))
    assert one.begun == other.begun
    assert one.ends == other.ends


@given(_worlds(), st.lists(st.integers(0, 199), max_size=20))
def test_a_job_that_fits_nowhere_is_named_and_changes_nothing_for_the_others(
    world: _World, choices: list[int]
) -> None:
    wide = Job(
        cell=_CELL,
        environment="py311-torch299",
        platform=Platform.CPU,
        estimate=JobEstimate(build_seconds=9e9, run_seconds=9e9),
        demand=Demand(cores=99),
    )
    with_it = Referee((wide, *world.jobs), world.machines, world.present, world.policy)
    first = with_it.start()
    most = max(machine.cores for machine in world.machines)
    (end,) = [end for end in first.ends if end.job == wide.key]
    assert end.why is WhyNot.FITS_NOWHERE
    assert Lack(resource=Resource.CORES, needs=99, has=most) in end.lacks
    without = _refereed(world)
    assert without.start().tasks == first.tasks
    for choice in choices:
        if without.is_over:
            break
        place = choice % len(without.going)
        steps = [
            referee.end(referee.going[place], works=choice % 3 > 0, record=choice % 4 > 0)
            for referee in (without, with_it)
        ]
        assert steps[0] == steps[1]


@st.composite
def _one_machine(draw: st.DrawFn, *, built: bool) -> _World:
    """Jobs that all fit one machine, the first one the longest, each with its environment."""
    machine = Machine(name="m", cores=4, memory_mib=4, disk_mib=4)
    jobs = [
        Job(
            cell=_CELL,
            environment=f"e{number:02}",
            platform=Platform.CPU,
            estimate=JobEstimate(build_seconds=0, run_seconds=1000 - number),
            demand=Demand(
                cores=draw(st.integers(1, 4)),
                memory_mib=draw(st.integers(0, 4)),
                disk_mib=0 if built else draw(st.integers(0, 4)),
            ),
            build=Demand(cores=draw(st.integers(0, 4)), memory_mib=draw(st.integers(0, 4))),
        )
        for number in range(draw(st.integers(2, 25)))
    ]
    present = [Present(environment=job.environment, disk_mib=0) for job in jobs]
    return _World(
        jobs=tuple(jobs),
        machines=(machine,),
        present={"m": tuple(present) if built else ()},
        policy=SchedulePolicy(overtakes=draw(st.integers(0, 2))),
    )


def _overtaken(order: list[str], jobs: tuple[Job, ...], overtakes: int) -> None:
    """No job sees more others begin before it than it and those before it may."""
    places = {job.environment: place for place, job in enumerate(jobs)}
    for at, name in enumerate(order):
        later = sum(places[other] > places[name] for other in order[:at])
        assert later <= overtakes * (places[name] + 1)
        event(f"overtaken: {min(later, 5)}")


@given(_one_machine(built=True), st.lists(st.integers(0, 9), max_size=40))
def test_no_job_that_is_ready_starves(world: _World, choices: list[int]) -> None:
    referee = _refereed(world)
    _go_on(referee, [10 * choice for choice in choices])
    order = [task.environment for task in referee.begun if task.kind == TaskKind.RUN]
    assert len(order) == len(world.jobs)
    _overtaken(order, world.jobs, world.policy.overtakes)


@given(_one_machine(built=False), st.lists(st.integers(0, 9), max_size=40))
def test_no_environment_that_is_to_be_built_starves(world: _World, choices: list[int]) -> None:
    referee = _refereed(world)
    _go_on(referee, [10 * choice for choice in choices])
    order = [task.environment for task in referee.begun if task.kind == TaskKind.BUILD]
    # One that was removed for another and built again has been first once already.
    assume(len(order) == len(world.jobs))
    _overtaken(order, world.jobs, world.policy.overtakes)
