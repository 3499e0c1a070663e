//! Tables from CSV files, as text.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::StringRecord;

use crate::DataError;

/// What a table may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLimits {
    /// Bytes of the file; 1 GiB by default.
    pub max_bytes: u64,
    /// Rows below the header; 10 million by default.
    pub max_rows: usize,
    /// Columns; 10,000 by default.
    pub max_columns: usize,
}

impl Default for TableLimits {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_rows: 10_000_000, max_columns: 10_000 }
    }
}

/// Cells that stand for no value, as pandas' `read_csv` and R's `read.csv` take them, and UCI's `?`.
const MISSING: [&str; 10] = ["", "?", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None"];

/// The cells of a CSV file (RFC 4180: commas, quotes, a header) as text without space around it.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    columns: Vec<String>,
    rows: Vec<StringRecord>,
}

impl Table {
    /// Reads a file in UTF-8 whose first line names the columns.
    ///
    /// # Errors
    ///
    /// [`DataError::Missing`], [`DataError::Read`]; [`DataError::Table`] naming the line, for a row with too few or too many
    /// cells, text that is not UTF-8, a column without a name or with another's, no rows, or more than `limits` allow.
    pub fn read(path: impl AsRef<Path>, limits: &TableLimits) -> Result<Self, DataError> {
        let path = path.as_ref();
        let refused = |line: Option<u64>, reason: String| DataError::Table {
            path: path.to_owned(),
            line,
            column: None,
            reason,
        };
        let read = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => DataError::Missing { path: path.to_owned() },
            _ => DataError::Read { path: path.to_owned(), source },
        };
        let file = File::open(path).map_err(read)?;
        let bytes = file.metadata().map_err(read)?.len();
        if bytes > limits.max_bytes {
            return Err(refused(
                None,
                format!("it has {bytes} bytes, at most {} are read", limits.max_bytes),
            ));
        }
        // The length may have grown since, and a pipe has none.
        let file = file.take(limits.max_bytes + 1);
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let wrong = |error: csv::Error| match error.kind() {
            csv::ErrorKind::Utf8 { pos, .. } => refused(
                pos.as_ref().map(csv::Position::line),
                "it is not UTF-8 text; convert the file, e.g. with iconv".to_owned(),
            ),
            csv::ErrorKind::UnequalLengths { pos, expected_len, len } => refused(
                pos.as_ref().map(csv::Position::line),
                format!("it has {len} cells, the header has {expected_len}; quote cells that hold a comma"),
            ),
            _ => refused(None, format!("it cannot be read: {error}")),
        };
        let mut columns: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
        if let Some(first) = columns.first_mut() {
            // Spreadsheets mark UTF-8 so.
            *first = first.trim_start_matches('\u{feff}').to_owned();
        }
        if columns.is_empty() || columns.len() > limits.max_columns {
            return Err(refused(
                Some(1),
                format!(
                    "the header names {} columns, there must be 1 to {}",
                    columns.len(),
                    limits.max_columns
                ),
            ));
        }
        for (index, name) in columns.iter().enumerate() {
            if name.is_empty() {
                return Err(refused(Some(1), format!("column {} has no name in the header", index + 1)));
            }
            if let Some(first) = columns[..index].iter().position(|other| other == name) {
                return Err(refused(
                    Some(1),
                    format!("columns {} and {} are both named `{name}`", first + 1, index + 1),
                ));
            }
        }
        let mut rows = Vec::new();
        for row in reader.records() {
            let row = row.map_err(wrong)?;
            if rows.len() == limits.max_rows {
                return Err(refused(None, format!("it has more than {} rows", limits.max_rows)));
            }
            rows.push(row);
        }
        if reader.position().byte() > limits.max_bytes {
            return Err(refused(None, format!("it has more than {} bytes", limits.max_bytes)));
        }
        if rows.is_empty() {
            return Err(refused(None, "it has no rows below the header".to_owned()));
        }
        Ok(Self { path: path.to_owned(), columns, rows })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The columns' names, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Position of the column `name`.
    ///
    /// # Errors
    ///
    /// [`DataError::Table`] with the names that there are.
    pub fn column(&self, name: &str) -> Result<usize, DataError> {
        self.columns.iter().position(|column| column == name).ok_or_else(|| {
            let mut names: Vec<String> =
                self.columns.iter().take(12).map(|name| format!("`{name}`")).collect();
            if self.columns.len() > names.len() {
                names.push(format!("{} more", self.columns.len() - names.len()));
            }
            DataError::Table {
                path: self.path.clone(),
                line: None,
                column: None,
                reason: format!("it has no column `{name}`; there are {}", names.join(", ")),
            }
        })
    }

    /// A cell's text; none where the value is missing.
    pub fn text(&self, row: usize, column: usize) -> Option<&str> {
        self.rows[row].get(column).filter(|text| !MISSING.contains(text))
    }

    /// A cell's number; none where the value is missing.
    ///
    /// # Errors
    ///
    /// [`DataError::Table`] naming file, line and column, if it is no finite number.
    pub fn number(&self, row: usize, column: usize) -> Result<Option<f64>, DataError> {
        let Some(text) = self.text(row, column) else { return Ok(None) };
        parse(text)
            .map(Some)
            .ok_or_else(|| self.wrong(row, column, format!("`{}` is no finite number", excerpt(text))))
    }

    /// Whether every value of a column is a finite number; so also where it has none.
    pub fn is_of_numbers(&self, column: usize) -> bool {
        self.first_text(column).is_none()
    }

    /// The first cell of a column that is neither missing nor a finite number; none where the column is one of numbers.
    pub(crate) fn first_text(&self, column: usize) -> Option<(usize, &str)> {
        (0..self.rows())
            .find_map(|row| Some((row, self.text(row, column).filter(|text| parse(text).is_none())?)))
    }

    /// An error about a cell.
    pub(crate) fn wrong(&self, row: usize, column: usize, reason: impl Into<String>) -> DataError {
        DataError::Table {
            path: self.path.clone(),
            line: self.rows[row].position().map(csv::Position::line),
            column: Some(self.columns[column].clone()),
            reason: reason.into(),
        }
    }

    /// An error about a column.
    pub(crate) fn wrong_column(&self, column: usize, reason: impl Into<String>) -> DataError {
        DataError::Table {
            path: self.path.clone(),
            line: None,
            column: Some(self.columns[column].clone()),
            reason: reason.into(),
        }
    }
}

/// The beginning of a cell, short enough for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn parse(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: impl AsRef<[u8]>) -> Result<Table, DataError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), content).expect("written");
        let limits = TableLimits { max_bytes: 1000, max_rows: 3, max_columns: 4 };
        Table::read(file.path(), &limits)
    }

    #[test]
    fn cells_are_text_numbers_or_missing() {
        let table = read("\u{feff}a, b\n1.5,\" x, y\"\n?, NA\n-2e3,3\n").expect("a table");
        assert_eq!(table.columns(), ["a", "b"]);
        assert_eq!(table.text(0, 1), Some("x, y"));
        assert_eq!((table.text(1, 0), table.text(1, 1)), (None, None));
        assert_eq!(table.number(2, 0).expect("a number"), Some(-2000.0));
        assert_eq!(table.first_text(0), None);
        assert_eq!(table.first_text(1), Some((0, "x, y")));
        let message = table.number(0, 1).expect_err("text").to_string();
        assert!(
            message.contains("line 2") && message.contains("`b`") && message.contains("x, y"),
            "{message}"
        );
    }

    #[test]
    fn what_is_no_table_is_told_the_line() {
        for (content, words) in [
            (&b""[..], &["columns"][..]),
            (b"a,b\n", &["no rows"]),
            (b"a,b\n1,2\n1\n", &["line 3", "1 cells", "2"]),
            (b"a,b\n1,2\n1,2,3\n", &["line 3", "3 cells"]),
            (b"a,a\n1,2\n", &["line 1", "columns 1 and 2", "`a`"]),
            (b"a,\n1,2\n", &["line 1", "column 2 has no name"]),
            (b"a\n\xff\n", &["line 2", "UTF-8"]),
            (b"a\n1\n2\n3\n4\n", &["more than 3 rows"]),
            (b"a,b,c,d,e\n1,2,3,4,5\n", &["5 columns", "1 to 4"]),
            (&[b'a'; 1001], &["1001 bytes"]),
        ] {
            let message = read(content).expect_err("refused").to_string();
            for word in words {
                assert!(message.contains(word), "`{word}` is not in: {message}");
            }
        }
        assert!(matches!(
            Table::read("nowhere.csv", &TableLimits::default()),
            Err(DataError::Missing { .. })
        ));
        let message =
            read("a,b\n1,2\n").expect("a table").column("c").expect_err("no such column").to_string();
        assert!(message.contains("`c`") && message.contains("`a`, `b`"), "{message}");
    }
}
