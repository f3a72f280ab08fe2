//! Plain tables, and the arithmetic of measured times.

use std::time::Duration;

/// What is shown: what was measured, what was promised, the same work's floor in the same run.
pub struct Row {
    pub what: String,
    pub target: String,
    pub measured: String,
    pub floor: String,
    pub ratio: String,
    /// `ok`, `MISSED`, or nothing where no promise was made.
    pub verdict: &'static str,
}

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// A time that should be at most `target`.
    pub fn time(&mut self, what: &str, target: Option<Duration>, measured: Duration, floor: Option<Duration>) {
        self.rows.push(Row {
            what: what.into(),
            target: target.map_or(String::new(), |target| format!("<= {}", time(target))),
            measured: time(measured),
            floor: floor.map_or(String::new(), time),
            ratio: floor.map_or(String::new(), |floor| {
                ratio(measured.as_secs_f64(), floor.as_secs_f64())
            }),
            verdict: target.map_or("", |target| verdict(measured <= target)),
        });
    }

    /// A rate that should be at least `target`.
    pub fn rate(&mut self, what: &str, target: Option<f64>, measured: f64, floor: Option<f64>) {
        self.rows.push(Row {
            what: what.into(),
            target: target.map_or(String::new(), |target| format!(">= {target:.0}/s")),
            measured: format!("{measured:.0}/s"),
            floor: floor.map_or(String::new(), |floor| format!("{floor:.0}/s")),
            ratio: floor.map_or(String::new(), |floor| ratio(measured, floor)),
            verdict: target.map_or("", |target| verdict(measured >= target)),
        });
    }

    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub fn print(&self, title: &str) {
        let head = ["", "target", "measured", "floor", "ratio", ""];
        let lines: Vec<[&str; 6]> = std::iter::once(head)
            .chain(self.rows.iter().map(|row| {
                [
                    row.what.as_str(),
                    &row.target,
                    &row.measured,
                    &row.floor,
                    &row.ratio,
                    row.verdict,
                ]
            }))
            .collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..6).map(width).collect();
        println!("\n{title}");
        for line in lines {
            let cells: Vec<String> = line
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    if column == 0 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                })
                .collect();
            println!("{}", cells.join("  ").trim_end());
        }
    }
}

pub fn verdict(holds: bool) -> &'static str {
    if holds { "ok" } else { "MISSED" }
}

pub fn time(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 1.0 {
        format!("{ms:.3} ms")
    } else if ms < 100.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

fn ratio(measured: f64, floor: f64) -> String {
    format!("{:.2}", measured / floor)
}

/// The time that `percent` of all stay within.
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    if times.is_empty() {
        return Duration::ZERO;
    }
    times.sort_unstable();
    times[(times.len() * percent).div_ceil(100).clamp(1, times.len()) - 1]
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
