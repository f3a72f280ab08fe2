//! Access decisions side by side: ours, `cedar-policy`, `casbin` and `regorus`, on the same worlds and the same requests, with what the machine takes at the
//! very least. `make bench-access`; see `bench/README.md`.

mod measure;
mod ours;
mod table;
mod with_casbin;
mod with_cedar;
mod with_rego;
mod world;

use std::hint::black_box;

use bailiwick_access::{self as access, Assignment, Holder, Scope};
use bailiwick_api::{AssignmentId, Permission, PrincipalId, WorkspaceId};
use clap::Parser;

use crate::measure::{Clock, Counting, Loads, Times, build, in_a_loop, median, no_op, ticks};
use crate::ours::Ours;
use crate::table::{Decisions, InForce, Target, Verdicts};
use crate::with_casbin::Casbin;
use crate::with_cedar::Cedar;
use crate::with_rego::Rego;
use crate::world::{Dice, Packed, Request, Size, World, role_id};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Parser)]
#[command(about = "Access decisions side by side with other engines and with the machine's own limits")]
struct Cli {
    /// Only this size
    #[arg(long)]
    only: Option<Size>,
    /// Only our engine and the floors: seconds instead of minutes
    #[arg(long)]
    alone: bool,
}

/// Requests on which all engines must give one answer before any time is taken.
const COMPARED: usize = 2_000;
/// Requests on which a peer is measured; what takes microseconds needs no more.
const SAMPLE: usize = 5_000;
/// Loops, of which the median counts.
const LOOPS: usize = 5;
/// Fresh engines on which the same changes are made.
const ROUNDS: usize = 5;

fn main() {
    let cli = Cli::parse();
    let clock = Clock::new();
    let mut verdicts = Verdicts::default();
    for size in Size::ALL {
        if cli.only.is_none_or(|only| only == size) {
            measure(&World::new(size), &clock, cli.alone, &mut verdicts);
        }
    }
    verdicts.print();
}

/// The machine's own load over the last minute: what is measured on a busy machine says so.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

fn measure(world: &World, clock: &Clock, alone: bool, verdicts: &mut Verdicts) {
    println!("\n{}: {}", world.size.name(), world.describe());
    println!("load of the machine at the start: {}", load());
    let mut decisions = Decisions::default();
    let mut in_force = InForce::default();

    let built = Ours::build(world);
    let (ours, heap) = (built.it, built.bytes);
    let answers: Vec<bool> = (0..COMPARED).map(|at| ours.decide(&world.requests[at])).collect();
    let allowed = world.requests.iter().filter(|request| ours.decide(request)).count();
    println!(
        "{} requests, {:.0} % of them allowed",
        world.requests.len(),
        allowed as f64 * 100.0 / world.requests.len() as f64
    );
    if !alone {
        agree_with_cedar(world, &answers);
    }

    // In turns, so that whatever else the machine does falls on all of them.
    let mut loads = Loads::new(world.floor_bytes);
    let mut own_loads = Loads::new(heap);
    let count = world.requests.len();
    let packed: Vec<Packed> = world.requests.iter().map(Packed::of).collect();
    let mut loops: [Vec<f64>; 5] = Default::default();
    for _ in 0..LOOPS {
        loops[0].push(in_a_loop(count, 0.3, |at| {
            black_box(no_op(at));
        }));
        loops[1].push(in_a_loop(count, 1.0, |_| loads.next()));
        loops[2].push(in_a_loop(count, 1.0, |_| own_loads.next()));
        loops[3].push(in_a_loop(count, 0.3, |_| ours.only_lock()));
        loops[4].push(in_a_loop(count, 1.5, |at| {
            black_box(ours.decide(&packed[at].request()));
        }));
    }
    let [empty_ns, load_ns, own_load_ns, lock_ns, ours_ns] = loops.map(|mut times| median(&mut times));
    let singly = 200_000;
    let empty = clock.alone(singly, itself, |at| {
        black_box(no_op(at));
    });
    decisions.floor("no-op call", empty_ns, &empty);
    let floor = best(|| clock.alone(singly, itself, |_| loads.next()));
    decisions.floor(
        &format!("dependent load, {}", table::bytes(loads.bytes())),
        load_ns,
        &floor,
    );
    let own_floor = best(|| clock.alone(singly, itself, |_| own_loads.next()));
    decisions.floor(
        &format!("dependent load, {} (our heap)", table::bytes(own_loads.bytes())),
        own_load_ns,
        &own_floor,
    );
    let only_lock = clock.alone(singly, itself, |_| ours.only_lock());
    decisions.floor("our lock taken and given back", lock_ns, &only_lock);
    let mut from = 0;
    let times = best(|| {
        from += singly;
        clock.alone(
            singly,
            |at| packed[(from + at) % count].request(),
            |request| {
                black_box(ours.decide(&request));
            },
        )
    });
    decisions.engine("ours, behind its lock", ours_ns, &times, heap, built.seconds);
    drop((ours, loads, own_loads));

    let changes = ours::changes(world, clock, ROUNDS);
    in_force.ours(&changes);
    let target = Target {
        size: world.size,
        load_ns,
        load_alone: floor,
        ours_ns,
        alone: times,
        heap,
    };
    verdicts.note(&target, &changes);

    if !alone {
        rego(world, clock, &answers, &mut decisions, &mut in_force);
        casbin(world, clock, &answers, &mut decisions, &mut in_force);
        cedar(world, clock, &mut decisions, &mut in_force);
    }
    decisions.print(world.size);
    in_force.print(world.size);
    println!("load of the machine at the end: {}", load());
}

/// A question that is its own number.
fn itself(at: usize) -> usize {
    at
}

/// Of 15 measurements the one with the least p99: a neighbour's noise is in the others.
fn best(mut measure: impl FnMut() -> Times) -> Times {
    let mut all: [Times; 15] = std::array::from_fn(|_| measure());
    all.sort_by(|one, other| one.percentile(99).total_cmp(&other.percentile(99)));
    let [first, ..] = all;
    first
}

/// The arbiter: ours must agree with Cedar given its slices, and Cedar's slices with Cedar given every policy there is.
fn agree_with_cedar(world: &World, answers: &[bool]) {
    let cedar = Cedar::new(world);
    for (at, answer) in answers.iter().enumerate() {
        let request = &world.requests[at];
        let other = cedar.allows(&cedar.request(request), &cedar.slice(request));
        assert_eq!(*answer, other, "ours and cedar's answer to {request:?}");
    }
    let everything = cedar.all_links();
    // A hundred milliseconds each among the large world's policies.
    let few = if world.size == Size::Large { 50 } else { 1_000 };
    for (at, answer) in answers.iter().enumerate().take(few) {
        let request = &world.requests[at];
        let other = cedar.allows(&cedar.request(request), &everything);
        assert_eq!(*answer, other, "ours and the whole of cedar's answer to {request:?}");
    }
    println!(
        "cedar agrees on {} requests, and on {few} of them with all its policies at once",
        answers.len()
    );
}

/// Changes for the peers, each with a question whose answer shows it: a role that is otherwise given for single experiments alone, at a whole workspace.
fn changes(world: &World, holder: Option<Holder>, count: usize) -> Vec<(Assignment, Request)> {
    let dice = &mut Dice(77);
    let first = world.assignments.len() as i64 + 1;
    let make = |at| {
        let holder =
            holder.unwrap_or_else(|| Holder::Principal(PrincipalId(dice.below(world.principals.len()) as i64 + 1)));
        let workspace = WorkspaceId(dice.below(world.workspaces as usize) as i64 + 1);
        let assignment = Assignment {
            id: AssignmentId(first + at as i64),
            holder,
            role: role_id("Reader"),
            scope: Scope::Workspace(workspace),
            expires: None,
        };
        let who = match holder {
            Holder::Principal(who) => who,
            Holder::Group(group) => dice.of(&world.members[group.0 as usize - 1]),
        };
        let request = Request {
            who,
            permission: Permission::ExperimentsRead,
            target: access::Target::workspace(workspace),
        };
        (assignment, request)
    };
    (0..count).map(make).collect()
}

/// The time of each change, there and back, with the decision after it.
fn timed<E, P>(
    clock: &Clock,
    engine: &mut E,
    list: &[(Assignment, P)],
    change: impl Fn(&mut E, &Assignment, bool),
    decide: impl Fn(&mut E, &P) -> bool,
) -> Times {
    let mut times = Vec::new();
    for (assignment, question) in list {
        for there in [true, false] {
            let from = ticks();
            change(engine, assignment, there);
            let answer = decide(engine, question);
            times.push(clock.ns(from, ticks()));
            assert!(answer || !there, "the change is in force at once: {assignment:?}");
        }
    }
    Times::new(times)
}

fn rego(world: &World, clock: &Clock, answers: &[bool], decisions: &mut Decisions, in_force: &mut InForce) {
    let built = build(|| Rego::new(world));
    let mut rego = built.it;
    let inputs: Vec<_> = world.requests.iter().take(SAMPLE).map(with_rego::input).collect();
    for (at, answer) in answers.iter().enumerate().take(inputs.len()) {
        assert_eq!(
            *answer,
            rego.allows(&inputs[at]),
            "ours and rego's answer to {:?}",
            world.requests[at]
        );
    }
    let mut loops = [0.0; 3].map(|_| {
        in_a_loop(inputs.len(), 1.0, |at| {
            rego.allows(&inputs[at]);
        })
    });
    let alone = clock.alone(inputs.len(), itself, |at| {
        rego.allows(&inputs[at]);
    });
    decisions.engine("regorus", median(&mut loops), &alone, built.bytes, built.seconds);
    let mut changed = |list: Vec<(Assignment, Request)>| {
        let list: Vec<_> = list
            .into_iter()
            .map(|(one, asked)| (one, with_rego::input(&asked)))
            .collect();
        let change = |rego: &mut Rego, assignment: &Assignment, there| rego.change(world, assignment, there);
        timed(clock, &mut rego, &list, change, Rego::allows)
    };
    let one = changed(changes(world, None, 500));
    let group = changed(changes(world, Some(Holder::Group(world.biggest_group)), 50));
    in_force.peer("regorus", &one, &group);
}

fn casbin(world: &World, clock: &Clock, answers: &[bool], decisions: &mut Decisions, in_force: &mut InForce) {
    let built = build(|| Casbin::new(world));
    let mut casbin = built.it;
    let requests: Vec<_> = world.requests.iter().take(SAMPLE).map(with_casbin::words).collect();
    for (at, answer) in answers.iter().enumerate().take(requests.len()) {
        assert_eq!(
            *answer,
            casbin.allows(&requests[at]),
            "ours and casbin's answer to {:?}",
            world.requests[at]
        );
    }
    let mut loops = [0.0; 3].map(|_| {
        in_a_loop(requests.len(), 1.0, |at| {
            casbin.allows(&requests[at]);
        })
    });
    let alone = clock.alone(requests.len(), itself, |at| {
        casbin.allows(&requests[at]);
    });
    let name = format!("casbin, {} rows", casbin.rows);
    decisions.engine(&name, median(&mut loops), &alone, built.bytes, built.seconds);
    let mut changed = |list: Vec<(Assignment, Request)>| {
        let list: Vec<_> = list
            .into_iter()
            .map(|(one, asked)| (one, with_casbin::words(&asked)))
            .collect();
        let change = |casbin: &mut Casbin, assignment: &Assignment, there| match there {
            true => casbin.assign(world, assignment),
            false => casbin.take_away(world, assignment),
        };
        timed(clock, &mut casbin, &list, change, |casbin, words| casbin.allows(words))
    };
    let one = changed(changes(world, None, 500));
    let group = changed(changes(world, Some(Holder::Group(world.biggest_group)), 5));
    in_force.peer("casbin", &one, &group);
}

fn cedar(world: &World, clock: &Clock, decisions: &mut Decisions, in_force: &mut InForce) {
    let built = build(|| Cedar::new(world));
    let mut cedar = built.it;
    let requests = &world.requests[..SAMPLE.min(world.requests.len())];
    let prepared: Vec<_> = requests.iter().map(|request| cedar.request(request)).collect();
    let slices = build(|| requests.iter().map(|request| cedar.slice(request)).collect::<Vec<_>>());
    let mut loops = [0.0; 3].map(|_| {
        in_a_loop(requests.len(), 1.0, |at| {
            cedar.allows(&prepared[at], &slices.it[at]);
        })
    });
    let alone = clock.alone(requests.len(), itself, |at| {
        cedar.allows(&prepared[at], &slices.it[at]);
    });
    let bytes = built.bytes + slices.bytes;
    let name = format!("cedar, {} slices ready", requests.len());
    decisions.engine(&name, median(&mut loops), &alone, bytes, built.seconds + slices.seconds);
    let mut loops = [0.0; 3].map(|_| {
        in_a_loop(requests.len(), 1.0, |at| {
            cedar.allows(&prepared[at], &cedar.slice(&requests[at]));
        })
    });
    let alone = clock.alone(requests.len(), itself, |at| {
        cedar.allows(&prepared[at], &cedar.slice(&requests[at]));
    });
    decisions.engine(
        "cedar, sliced per request",
        median(&mut loops),
        &alone,
        built.bytes,
        built.seconds,
    );
    let mut changed = |list: Vec<(Assignment, Request)>| {
        let list = list
            .into_iter()
            .map(|(one, asked)| (one, (cedar.request(&asked), asked)));
        let list: Vec<_> = list.collect();
        let change = |cedar: &mut Cedar, assignment: &Assignment, there| match there {
            true => cedar.assign(*assignment),
            false => cedar.take_away(assignment),
        };
        timed(clock, &mut cedar, &list, change, |cedar, (prepared, asked)| {
            cedar.allows(prepared, &cedar.slice(asked))
        })
    };
    let one = changed(changes(world, None, 500));
    let group = changed(changes(world, Some(Holder::Group(world.biggest_group)), 50));
    in_force.peer("cedar, sliced per request", &one, &group);
    // Seconds each in the large world.
    let mut times = Vec::new();
    for there in [true, false] {
        let from = ticks();
        cedar.change_member(PrincipalId(world.principals.len() as i64), world.biggest_group, there);
        times.push(clock.ns(from, ticks()));
    }
    in_force.membership("cedar, one member of a group", &Times::new(times));
}
