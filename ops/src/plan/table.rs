//! A plan as people read it: one column for each service, the same in Markdown and in a terminal.

use std::fmt::Write as _;

use super::model::{Plan, Rates, Topics};

type Figure = fn(&Plan) -> String;

/// The rows, in groups.
const ROWS: &[(&str, &[(&str, Figure)])] = &[
    (
        "Each second: mean / peak",
        &[
            ("messages", |plan| both(plan, |rates| rates.messages)),
            ("inbox rows of messages", |plan| both(plan, |rates| rates.deliveries)),
            ("pushes to sockets", |plan| both(plan, |rates| rates.pushes)),
            ("receipts", |plan| both(plan, |rates| rates.receipts)),
            ("heartbeats", |plan| both(plan, |rates| rates.heartbeats)),
            ("events, all of these from clients", |plan| both(plan, |rates| rates.events)),
            ("records on the log", |plan| both(plan, |rates| rates.records.sum())),
        ],
    ),
    (
        "Records each second at the peak",
        &[
            ("events", |plan| record(plan, |topics| topics.events)),
            ("timeline", |plan| record(plan, |topics| topics.timeline)),
            ("fanout", |plan| record(plan, |topics| topics.fanout)),
            ("inbox", |plan| record(plan, |topics| topics.inbox)),
            ("deliveries", |plan| record(plan, |topics| topics.deliveries)),
            ("notifications", |plan| record(plan, |topics| topics.notifications)),
            ("signals", |plan| record(plan, |topics| topics.signals)),
        ],
    ),
    (
        "Bandwidth: mean / peak",
        &[
            ("log, appended, one copy", |plan| bandwidth(plan, |rates| rates.bytes.sum())),
            ("clients to edges", |plan| bandwidth(plan, |rates| rates.edges_in_bytes)),
            ("edges to clients", |plan| bandwidth(plan, |rates| rates.edges_out_bytes)),
            ("among roles and brokers", |plan| bandwidth(plan, |rates| rates.inner_bytes)),
        ],
    ),
    (
        "Storage and memory",
        &[
            ("log, appended in a day, one copy", |plan| size(plan.log_day_bytes)),
            ("log, kept, all copies", |plan| size(plan.log_stored_bytes)),
            ("archive, a day, one copy", |plan| size(plan.archive_day_bytes)),
            ("archive, a year, one copy", |plan| size(plan.archive_year_bytes)),
            ("views after 30 days", |plan| size(plan.views_bytes)),
            ("views, all tails full", |plan| size(plan.views_full_bytes)),
            ("state of the stages", |plan| size(plan.stages_bytes)),
        ],
    ),
    (
        "Partitions",
        &[
            ("events, timeline: each", |plan| whole(plan.conversations_partitions)),
            ("signals, fanout, inbox, notifications: each", |plan| whole(plan.recipients_partitions)),
            ("deliveries", |plan| whole(plan.deliveries_partitions)),
            ("all, one copy", |plan| whole(plan.partitions)),
            ("logs of 4 096 partitions at most", |plan| whole(plan.logs)),
        ],
    ),
    (
        "Machines and processes",
        &[
            ("connections", |plan| short(plan.connections)),
            ("edges", |plan| whole(plan.edges)),
            ("dataflow processes", |plan| whole(plan.dataflows)),
            ("cores that both stages use", |plan| format!("{:.1}", plan.stages_cores)),
            ("projection processes", |plan| whole(plan.projections)),
            ("Kafka brokers", |plan| whole(plan.brokers)),
            ("Redis servers, views after 30 days", |plan| whole(plan.redis_servers)),
        ],
    ),
];

/// All plans side by side.
pub fn text(plans: &[(String, Plan)]) -> String {
    let label_width = ROWS.iter().flat_map(|(_, rows)| rows.iter()).map(|(label, _)| label.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (group, rows) in ROWS {
        let columns: Vec<Vec<String>> =
            plans.iter().map(|(_, plan)| rows.iter().map(|(_, figure)| figure(plan)).collect()).collect();
        let widths: Vec<usize> = plans
            .iter()
            .zip(&columns)
            .map(|((name, _), column)| {
                column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0).max(name.chars().count())
            })
            .collect();
        let label_width = label_width.max(group.chars().count());
        let _ = write!(out, "| {group:label_width$} |");
        for ((name, _), width) in plans.iter().zip(&widths) {
            let _ = write!(out, " {name:>width$} |");
        }
        let _ = write!(out, "\n|-{}-|", "-".repeat(label_width));
        for width in &widths {
            let _ = write!(out, "-{}:|", "-".repeat(*width));
        }
        out.push('\n');
        for (row, (label, _)) in rows.iter().enumerate() {
            let _ = write!(out, "| {label:label_width$} |");
            for (column, width) in columns.iter().zip(&widths) {
                let _ = write!(out, " {:>width$} |", column[row]);
            }
            out.push('\n');
        }
        out.push('\n');
    }
    out
}

fn both(plan: &Plan, of: fn(&Rates) -> f64) -> String {
    format!("{} / {}", short(of(&plan.mean)), short(of(&plan.peak)))
}

fn record(plan: &Plan, of: fn(&Topics) -> f64) -> String {
    short(of(&plan.peak.records))
}

fn bandwidth(plan: &Plan, of: fn(&Rates) -> f64) -> String {
    let bits = |rates| format!("{}bit/s", short(of(rates) * 8.0));
    format!("{} / {}", bits(&plan.mean), bits(&plan.peak))
}

fn size(bytes: f64) -> String {
    format!("{}B", short(bytes))
}

/// A whole number, with a space every three digits.
fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Three digits and a unit: `1.23 M`.
pub fn short(number: f64) -> String {
    const UNITS: [(f64, &str); 6] = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    for (unit, name) in UNITS {
        // What rounds up to the unit is shown in it.
        if number >= unit * 0.9995 {
            let number = number / unit;
            let digits = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
            return format!("{number:.digits$} {name}");
        }
    }
    format!("{number:.0} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (number, shown) in [
            (0.0, "0 "),
            (999.0, "999 "),
            (999.6, "1.00 k"),
            (12_345.0, "12.3 k"),
            (999_900.0, "1.00 M"),
            (123_456_789.0, "123 M"),
            (1.5e15, "1.50 P"),
        ] {
            assert_eq!(short(number), shown);
        }
        assert_eq!(whole(1_234_567.0), "1 234 567");
    }
}
