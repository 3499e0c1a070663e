//! The table of ratios, in Markdown.

use std::fmt::Write;

/// All figures of one side of a row, of one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Whose.
    pub name: String,
    /// In the order in which they were taken.
    pub values: Vec<f64>,
}

impl Figures {
    /// The middle value, or the mean of the two middle ones; none if there is none.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            length if length % 2 == 1 => Some(sorted[middle]),
            _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        }
    }
}

/// A line of the table, measured.
pub struct Line {
    /// What is done.
    pub work: &'static str,
    /// Unit of all figures.
    pub unit: &'static str,
    /// Empty where it failed.
    pub ours: Figures,
    /// Everybody who was measured.
    pub theirs: Vec<Figures>,
    /// Of the ratio, at most.
    pub target: f64,
    /// More about our figures, for the list below the table.
    pub remark: String,
}

impl Line {
    fn fastest(&self) -> Option<(&Figures, f64)> {
        let medians = self.theirs.iter().filter_map(|peer| Some((peer, peer.median()?)));
        medians.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn row(&self) -> String {
        let figure =
            |figure: Option<f64>| figure.map_or("-".to_owned(), |f| format!("{} {}", digits(f), self.unit));
        let ours = self.ours.median();
        let fastest = self.fastest();
        let theirs = fastest.map(|(_, median)| median);
        let peer = match (fastest, self.theirs.as_slice()) {
            (None, _) => "-".to_owned(),
            (Some((fastest, _)), [_]) => fastest.name.clone(),
            (Some((fastest, _)), several) => format!("{}, the fastest of {}", fastest.name, several.len()),
        };
        let ratio = ours.zip(theirs).map_or("-".to_owned(), |(ours, theirs)| format!("{:.2}", ours / theirs));
        format!(
            "| {} | {peer} | {} | {} | {ratio} | {:.2} |",
            self.work,
            figure(ours),
            figure(theirs),
            self.target
        )
    }

    /// Everybody's median, with the least and the most.
    fn detail(&self) -> String {
        let sides = std::iter::once(&self.ours).chain(&self.theirs).filter_map(|side| {
            let median = side.median()?;
            let least = side.values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = side.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let [median, least, most] = [median, least, most].map(digits);
            Some(format!("{} {median} ({least} to {most}, {} runs)", side.name, side.values.len()))
        });
        let sides: Vec<String> = sides.collect();
        format!("- {}, {}: {}{}", self.work, self.unit, sides.join("; "), self.remark)
    }
}

/// Three figures that count.
fn digits(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The table, the machine's line, and a list of all figures behind it.
pub fn markdown(lines: &[Line], machine: &str) -> String {
    let mut text = String::from(
        "| work | peer | ours | theirs | ratio | target |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let mut push = |line: String| writeln!(text, "{line}").expect("a string takes everything");
    for line in lines {
        push(line.row());
    }
    push(format!("\n{machine}\n\nMedians, ms of an image or a sequence; least and most behind them:\n"));
    for line in lines {
        push(line.detail());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(name: &str, values: &[f64]) -> Figures {
        Figures { name: name.to_owned(), values: values.to_vec() }
    }

    fn line(ours: &[f64], theirs: Vec<Figures>) -> Line {
        Line {
            work: "inference, batch 1",
            unit: "ms",
            ours: figures("Firebrick", ours),
            theirs,
            target: 0.8,
            remark: String::new(),
        }
    }

    #[test]
    fn compares_medians_with_the_fastest_peer() {
        let theirs =
            vec![figures("OpenVINO 2026.4.1", &[6.0]), figures("PyTorch 2.15.0", &[4.0, 5.0, 100.0])];
        let line = line(&[3.0, 5.0], theirs);
        assert_eq!(
            line.row(),
            "| inference, batch 1 | PyTorch 2.15.0, the fastest of 2 | 4.00 ms | 5.00 ms | 0.80 | 0.80 |"
        );
        assert_eq!(
            line.detail(),
            "- inference, batch 1, ms: Firebrick 4.00 (3.00 to 5.00, 2 runs); OpenVINO 2026.4.1 6.00 (6.00 to 6.00, 1 runs); \
             PyTorch 2.15.0 5.00 (4.00 to 100, 3 runs)"
        );
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let one = vec![figures("Keras 3.15.1", &[8.0])];
        assert_eq!(line(&[], one).row(), "| inference, batch 1 | Keras 3.15.1 | - | 8.00 ms | - | 0.80 |");
        assert_eq!(line(&[2.0], vec![]).row(), "| inference, batch 1 | - | 2.00 ms | - | - | 0.80 |");
    }

    #[test]
    fn shows_three_figures_that_count() {
        let shown = [0.1234, 0.99999, 1.234, 9.999, 12.34, 99.96, 1234.5].map(digits);
        assert_eq!(shown, ["0.123", "1.00", "1.23", "10.0", "12.3", "100", "1234"]);
    }

    #[test]
    fn the_table_is_markdown() {
        let text = markdown(&[line(&[2.0], vec![figures("Keras", &[8.0])])], "2 threads");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "| work | peer | ours | theirs | ratio | target |");
        assert!(lines[..3].iter().all(|line| line.matches('|').count() == 7), "{text}");
        assert_eq!((lines[3], lines[4]), ("", "2 threads"));
    }
}
