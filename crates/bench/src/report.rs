//! Tables for people, JSON for machines, and whether the targets are met.

use crate::{
    Outcome,
    cli::Options,
    measure::{Run, median},
    rows::{Figure, RSS_MB_MAX, Row, Target},
};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::{Value, json};
use std::{collections::HashMap, path::Path};

/// A row with the runs of each of its contenders, round by round.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) row: &'static Row,
    pub(crate) runs: Vec<Vec<Run>>,
}

/// A target, and what was reached.
#[derive(Debug)]
struct Verdict {
    about: String,
    reached: f64,
    met: bool,
}

/// Prints the table of one row and its targets.
pub(crate) fn print_row(measured: &Measured) {
    let row = measured.row;
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["", "events/s", "lowest – highest", "p50 ms", "p99 ms", "CPU s/1M", "RSS MB"]);
    let ran = |(_, runs): &(_, &Vec<Run>)| !runs.is_empty();
    for (contender, runs) in row.contenders.iter().zip(&measured.runs).filter(ran) {
        let rates = || runs.iter().map(|run| run.events_per_second);
        let lowest = rates().fold(f64::INFINITY, f64::min);
        let highest = rates().fold(0.0, f64::max);
        let middle = |figure: fn(&Run) -> Option<f64>| median(runs.iter().filter_map(figure));
        table.add_row([
            contender.name.to_owned(),
            median(rates()).map_or_else(String::new, thousands),
            format!("{} – {}", thousands(lowest), thousands(highest)),
            shown(middle(|run| run.p50_ms)),
            shown(middle(|run| run.p99_ms)),
            shown(middle(|run| run.cpu_seconds_per_million)),
            shown(middle(|run| run.rss_mb)),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{} ({})\n{table}", row.about, row.name);
    for verdict in verdicts(measured) {
        print_verdict(&verdict);
    }
}

/// Prints what holds for all rows, and writes everything as JSON.
pub(crate) fn finish(
    measured: &[Measured],
    peaks: &HashMap<&'static str, f64>,
    options: &Options,
    path: &Path,
) -> Outcome<()> {
    println!();
    let memory: Vec<Verdict> = peaks
        .iter()
        .map(|(log, &reached)| Verdict {
            about: format!("resident memory {log} at its highest ≤ {RSS_MB_MAX} MB"),
            reached,
            met: reached <= RSS_MB_MAX,
        })
        .collect();
    memory.iter().for_each(print_verdict);
    let rows: Vec<Value> = measured.iter().map(row_json).collect();
    let document = json!({
        "machine": {
            "cpu": cpu(),
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        },
        "secondsMeasured": options.window().as_secs(),
        "rounds": options.rounds,
        "rows": rows,
        "memory": memory.iter().map(verdict_json).collect::<Vec<_>>(),
    });
    let text = format!("{document:#}\n");
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    println!(
        "{} rounds of {} s each; events/s, p50, p99, CPU and RSS are medians of the rounds, a ratio is the\n\
         median of the rounds' ratios; all of it is in {}",
        options.rounds,
        options.window().as_secs(),
        path.display()
    );
    Ok(())
}

fn verdicts(measured: &Measured) -> Vec<Verdict> {
    let verdict = |target: &Target| {
        let beside = &measured.row.contenders.get(target.beside)?.name;
        let ours = measured.runs.first()?;
        let theirs = measured.runs.get(target.beside)?;
        let figure = |run: &Run| match target.figure {
            Figure::Rate => Some(run.events_per_second),
            Figure::P99 | Figure::P99Ms => run.p99_ms,
        };
        let of = |(a, b)| Some(figure(a)? / if target.figure == Figure::P99Ms { 1.0 } else { figure(b)? });
        let ratios = ours.iter().zip(theirs).filter_map(of);
        let reached = median(ratios)?;
        let bound = target.bound;
        let (about, met) = match target.figure {
            Figure::Rate => (format!("events/s ≥ {bound} × {beside}"), reached >= bound),
            Figure::P99 => (format!("p99 ≤ {bound} × {beside}"), reached <= bound),
            Figure::P99Ms => (format!("p99 ≤ {bound} ms"), reached <= bound),
        };
        Some(Verdict { about, reached, met })
    };
    measured.row.targets.iter().filter_map(verdict).collect()
}

fn row_json(measured: &Measured) -> Value {
    let contenders: Vec<Value> = measured
        .row
        .contenders
        .iter()
        .zip(&measured.runs)
        .map(|(contender, runs)| json!({"name": contender.name, "runs": runs}))
        .collect();
    json!({
        "name": measured.row.name,
        "about": measured.row.about,
        "contenders": contenders,
        "targets": verdicts(measured).iter().map(verdict_json).collect::<Vec<_>>(),
    })
}

fn verdict_json(verdict: &Verdict) -> Value {
    json!({"target": verdict.about, "reached": verdict.reached, "met": verdict.met})
}

fn print_verdict(verdict: &Verdict) {
    let word = if verdict.met { "met" } else { "MISSED" };
    println!("  target: {}: {:.2}, {word}", verdict.about, verdict.reached);
}

fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn shown(figure: Option<f64>) -> String {
    figure.map_or_else(String::new, |figure| {
        if figure < 10.0 { format!("{figure:.2}") } else { format!("{figure:.1}") }
    })
}

fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::with_capacity(digits.len() + 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    fn measured(name: &str, ours: Run, theirs: Run) -> Measured {
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        let mut runs = vec![vec![theirs]; row.contenders.len()];
        runs[0] = vec![ours];
        Measured { row, runs }
    }

    fn rate(events_per_second: f64) -> Run {
        Run { events_per_second, p99_ms: Some(1000.0 / events_per_second), ..Run::default() }
    }

    #[test]
    fn a_rate_must_reach_its_share_and_a_latency_must_stay_within_it() {
        for (name, ours, met) in [
            ("http-64", 76.0, true),
            ("http-64", 74.0, false),
            ("latency", 70.0, true),
            ("latency", 60.0, false),
            ("handled", 50.0, true),
            ("handled", 30.0, false),
        ] {
            let verdicts = verdicts(&measured(name, rate(ours), rate(100.0)));
            assert_eq!(verdicts.len(), 1);
            assert_eq!(verdicts[0].met, met, "{name}: {:?}", verdicts[0]);
        }
    }

    #[test]
    fn every_target_stands_beside_a_contender_of_its_row() {
        for row in ROWS {
            let stands = |target: &Target| {
                let alone = target.figure == Figure::P99Ms;
                alone || (1..row.contenders.len()).contains(&target.beside)
            };
            assert!(row.targets.iter().all(stands));
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            ["7", "1 234", "28 400", "1 800 000"],
            [7.0, 1234.4, 28_400.0, 1.8e6].map(thousands).each_ref().map(String::as_str)
        );
    }
}
