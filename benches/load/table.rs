//! The one table which the benchmark prints.

use std::fmt::Write as _;

pub struct Row {
    pub what: &'static str,
    pub unit: Unit,
    /// The real manager's and purser's, or the one server's that was measured alone.
    pub values: Vec<Option<f64>>,
    pub budget: Option<Budget>,
}

#[derive(Clone, Copy)]
pub enum Unit {
    PerSecond,
    Seconds,
    Bytes,
}

/// What purser's value divided by the real manager's has to be.
#[derive(Clone, Copy)]
pub enum Budget {
    AtLeast(f64),
    AtMostOneIn(f64),
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let [Some(real), Some(purser)] = self.values[..] else {
            return None;
        };
        Some(purser / real)
    }

    /// `None` for a row without a budget, or without two values to compare.
    pub fn met(&self) -> Option<bool> {
        let ratio = self.ratio()?;
        Some(match self.budget? {
            Budget::AtLeast(times) => ratio >= times,
            Budget::AtMostOneIn(times) => ratio <= 1.0 / times,
        })
    }
}

pub fn render(servers: &[&str], rows: &[Row]) -> String {
    let mut header = vec![String::new()];
    header.extend(servers.iter().map(|&server| server.to_owned()));
    header.extend(["ratio", "budget", "met"].map(str::to_owned));
    let mut lines = vec![header];
    lines.extend(rows.iter().map(cells));
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();

    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let mut padded = format!("{:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            write!(padded, "  {cell:>width$}").expect("a String takes everything");
        }
        text += &padded;
        text.push('\n');
        if number == 0 {
            text += &"─".repeat(padded.chars().count());
            text.push('\n');
        }
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let none = || "–".to_owned();
    let mut cells = vec![row.what.to_owned()];
    cells.extend(
        row.values.iter().map(|value| value.map_or_else(none, |value| quantity(value, row.unit))),
    );
    cells.push(row.ratio().map_or_else(none, times));
    cells.push(match row.budget {
        None => none(),
        Some(Budget::AtLeast(factor)) => format!("≥ {factor}×"),
        Some(Budget::AtMostOneIn(factor)) => format!("≤ 1/{factor}"),
    });
    cells.push(row.met().map_or_else(none, |met| if met { "yes" } else { "no" }.to_owned()));
    cells
}

fn quantity(value: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Seconds => format!("{:.2} ms", value * 1e3),
        Unit::Bytes => format!("{:.1} MiB", value / (1024.0 * 1024.0)),
    }
}

fn times(ratio: f64) -> String {
    if ratio < 1.0 { format!("1/{:.1}", 1.0 / ratio) } else { format!("{ratio:.1}×") }
}
