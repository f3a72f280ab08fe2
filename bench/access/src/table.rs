//! What was measured, in plain tables.

use crate::measure::Times;
use crate::ours::{self, Changes, Summary};
use crate::world::Size;

pub fn time(ns: f64) -> String {
    match ns {
        _ if ns < 10.0 => format!("{ns:.1} ns"),
        _ if ns < 1_000.0 => format!("{ns:.0} ns"),
        _ if ns < 10_000.0 => format!("{:.2} µs", ns / 1e3),
        _ if ns < 1_000_000.0 => format!("{:.0} µs", ns / 1e3),
        _ if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.1} s", ns / 1e9),
    }
}

pub fn bytes(bytes: usize) -> String {
    match bytes as f64 {
        few if few < 1e6 => format!("{:.0} KiB", few / 1024.0),
        some if some < 1e9 => format!("{:.0} MiB", some / 1024.0 / 1024.0),
        many => format!("{:.1} GiB", many / 1024.0 / 1024.0 / 1024.0),
    }
}

/// The first column to the left, the others to the right.
fn print(title: &str, lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    println!("\n{title}");
    for line in lines {
        let cells = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn line(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

#[derive(Default)]
pub struct Decisions(Vec<Vec<String>>);

impl Decisions {
    pub fn floor(&mut self, what: &str, in_a_loop_ns: f64, alone: &Times) {
        let times = [in_a_loop_ns, alone.median(), alone.percentile(99)];
        self.0
            .push([what.to_owned()].into_iter().chain(times.map(time)).collect());
    }

    pub fn engine(&mut self, what: &str, in_a_loop_ns: f64, alone: &Times, heap: usize, build_s: f64) {
        self.floor(what, in_a_loop_ns, alone);
        let last = self.0.last_mut().expect("it was just put there");
        last.extend([bytes(heap), time(build_s * 1e9)]);
    }

    pub fn print(mut self, size: Size) {
        self.0
            .insert(0, line(&["", "in a loop", "alone p50", "p99", "heap", "build"]));
        print(&format!("One decision, {}", size.name()), &self.0);
    }
}

#[derive(Default)]
pub struct InForce(Vec<Vec<String>>);

impl InForce {
    pub fn ours(&mut self, changes: &Changes) {
        for kind in &changes.kinds {
            let in_force = if kind.in_force.max() > 0.0 {
                three(&kind.in_force)
            } else {
                [const { String::new() }; 3]
            };
            let cells = [kind.what.to_owned(), kind.count.to_string()].into_iter();
            let cells = cells.chain(in_force).chain(three(&kind.held));
            self.0.push(cells.chain([time(kind.held_undisturbed.max())]).collect());
        }
        let stale = three(&changes.while_stale);
        let what = "a decision before the refresh".to_owned();
        self.0.push([what, String::new()].into_iter().chain(stale).collect());
    }

    pub fn peer(&mut self, engine: &str, one: &Times, group: &Times) {
        self.membership(&format!("{engine}: one assignment"), one);
        self.membership(&format!("{engine}: one of the biggest group"), group);
    }

    pub fn membership(&mut self, what: &str, times: &Times) {
        let cells = [what.to_owned(), times.count().to_string()];
        self.0.push(cells.into_iter().chain(three(times)).collect());
    }

    pub fn print(mut self, size: Size) {
        let head = [
            "",
            "changes",
            "in force p50",
            "p99",
            "max",
            "lock held p50",
            "p99",
            "max",
            "undisturbed",
        ];
        self.0.insert(0, line(&head));
        print(&format!("A change, {}", size.name()), &self.0);
    }
}

fn three(times: &Times) -> [String; 3] {
    [times.median(), times.percentile(99), times.max()].map(time)
}

/// What our engine promises at a size.
pub struct Target {
    pub size: Size,
    pub load_ns: f64,
    pub load_alone: Times,
    pub ours_ns: f64,
    pub alone: Times,
    pub heap: usize,
}

#[derive(Default)]
pub struct Verdicts(Vec<Vec<String>>);

impl Verdicts {
    pub fn note(&mut self, target: &Target, changes: &Changes) {
        let mut row = |what: &str, most: String, measured: String, ratio: f64| {
            let verdict = if ratio <= 1.0 { "ok" } else { "MISSED" };
            let what = format!("{}: {what}", target.size.name());
            self.0
                .push(vec![what, most, measured, format!("{ratio:.2}"), verdict.into()]);
        };
        let mut at_most = |what: &str, most_ns: f64, ns: f64| {
            row(what, format!("<= {}", time(most_ns)), time(ns), ns / most_ns);
        };
        // The small world fits into the processor's first cache, where nothing beats a load; it has no promise.
        if target.size != Size::Small {
            at_most(
                "p50 of a decision: p50 of a dependent load",
                target.load_alone.median(),
                target.alone.median(),
            );
            at_most(
                "decisions in a loop: dependent loads in a loop",
                target.load_ns,
                target.ours_ns,
            );
            at_most(
                "p99 of a decision: five times p50",
                target.alone.median() * 5.0,
                target.alone.percentile(99),
            );
        }
        for kind in &changes.kinds[..4] {
            let most = if kind.what == ours::ONE { 1e4 } else { 2e6 };
            let p99 = kind.in_force_undisturbed.percentile(99);
            at_most(&format!("{}, in force, p99", kind.what), most, p99);
        }
        let of = |kind: &Summary| kind.held_undisturbed.max();
        let longest = changes.kinds.iter().max_by(|one, other| of(one).total_cmp(&of(other)));
        let longest = longest.expect("there are kinds of changes");
        at_most(
            &format!("longest hold of the lock ({})", longest.what),
            1e6,
            of(longest),
        );
        let most = 150 << 20;
        let ratio = target.heap as f64 / most as f64;
        row("heap", format!("<= {}", bytes(most)), bytes(target.heap), ratio);
    }

    pub fn print(mut self) {
        self.0.insert(0, line(&["", "target", "measured", "ratio", ""]));
        print("Our engine's promises", &self.0);
    }
}
