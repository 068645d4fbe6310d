//! What was measured, as a table.

use std::fmt::Write;

/// One measurement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// What the scenario is called.
    pub(crate) scenario: &'static str,
    /// What the link is like.
    pub(crate) link: String,
    /// Who was measured.
    pub(crate) who: String,
    /// What came out.
    pub(crate) result: String,
    /// What should; empty where that is only to compare with.
    pub(crate) goal: String,
    /// Whether it did.
    pub(crate) is_met: Option<bool>,
    /// Time in the bottleneck's queue.
    pub(crate) queue: String,
    /// Packets lost.
    pub(crate) lost: String,
    /// What else there is to say.
    pub(crate) note: String,
}

/// All measurements of a run.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

const COLUMNS: usize = 9;
/// Of a note in the table; standard error has all of it.
const NOTE_CHARS: usize = 100;
const HEAD: [&str; COLUMNS] = ["scenario", "link", "who", "result", "goal", "", "queue ms", "lost", "note"];

impl Table {
    /// Adds a measurement, and tells it on standard error.
    pub(crate) fn add(&mut self, row: Row) {
        let Row { scenario, who, result, goal, .. } = &row;
        let goal = if goal.is_empty() { String::new() } else { format!(" (goal {goal}: {})", row.verdict()) };
        eprintln!("lab: {scenario}: {who}: {result}{goal} {}", row.note);
        self.rows.push(row);
    }

    /// How many goals were met, and how many missed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let count = |wanted| self.rows.iter().filter(|row| row.is_met == Some(wanted)).count();
        (count(true), count(false))
    }

    /// The table, with its columns in line.
    pub(crate) fn print(&self) -> String {
        let head = HEAD.map(str::to_owned);
        let lines: Vec<[String; COLUMNS]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        align(&lines)
    }
}

/// Lines of cells as text, with their columns in line.
pub fn align<L: AsRef<[String]>>(lines: &[L]) -> String {
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.as_ref().iter().enumerate() {
            let width = lines.iter().map(|line| line.as_ref()[column].chars().count()).max().unwrap_or_default();
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.is_met {
            Some(true) => "ok",
            Some(false) => "MISS",
            None => "",
        }
    }

    fn cells(&self) -> [String; COLUMNS] {
        let row = self.clone();
        let verdict = self.verdict().to_owned();
        let scenario = row.scenario.to_owned();
        let note = row.note.chars().take(NOTE_CHARS).collect();
        [scenario, row.link, row.who, row.result, row.goal, verdict, row.queue, row.lost, note]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_line_and_verdicts_are_counted() {
        let mut table = Table::default();
        let row = Row { scenario: "a", who: "curl".to_owned(), note: "x".to_owned(), ..Row::default() };
        table.add(row.clone());
        table.add(Row { scenario: "longer", is_met: Some(false), goal: "50%".to_owned(), ..row.clone() });
        table.add(Row { is_met: Some(true), ..row });
        assert_eq!(table.counts(), (1, 1));
        let text = table.print();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        let notes: Vec<Option<usize>> = lines[1..].iter().map(|line| line.rfind('x')).collect();
        assert!(notes.iter().all(|at| *at == lines[0].find("note")), "{text}");
        assert!(lines[2].contains("MISS"), "{text}");
    }
}
