//! From the columns of a table to rows of numbers, learnt from the rows that train.

use serde::{Deserialize, Serialize};

use crate::table::{Table, excerpt};
use crate::{DataError, stratified_split};

/// Most different texts of a column that is coded one-hot; one with more is a name or a sentence, not a category.
const MAX_LEVELS: usize = 256;
/// Most classes of a target.
const MAX_CLASSES: usize = 10_000;
/// Widest row of inputs.
const MAX_WIDTH: usize = 1 << 16;
/// Most inputs of all rows together: 4 GiB.
const MAX_INPUTS: usize = 1 << 30;

/// What is learnt of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One of some classes.
    Classify,
    /// A number.
    Regress,
}

/// How a column becomes inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Encoding {
    /// `(x - mean) / deviation`, and 0, which is the mean, where a value is missing: scikit-learn's `StandardScaler` before
    /// `SimpleImputer(add_indicator=True)`.
    Number {
        /// Mean of the training rows' values.
        mean: f64,
        /// Their standard deviation, of the population; 1 where it is 0.
        deviation: f64,
        /// Whether a second input is 1 where a value is missing; so where one is missing in training.
        indicator: bool,
    },
    /// An input a level, 1 for the cell's and 0 for all others: scikit-learn's `OneHotEncoder(handle_unknown="ignore")`.
    Category {
        /// The training rows' texts, sorted; a text that is not among them is all zeros.
        levels: Vec<String>,
        /// Whether one more input is 1 where a value is missing; so where one is missing in training.
        indicator: bool,
    },
    /// No input: the training rows have no value.
    Empty,
}

impl Encoding {
    /// Number of inputs.
    pub fn width(&self) -> usize {
        match self {
            Self::Number { indicator, .. } => 1 + usize::from(*indicator),
            Self::Category { levels, indicator } => levels.len() + usize::from(*indicator),
            Self::Empty => 0,
        }
    }
}

/// A column and how it becomes inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnEncoding {
    /// Its name in the header.
    pub name: String,
    /// Its inputs.
    #[serde(flatten)]
    pub encoding: Encoding,
}

/// What is to be told of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "lowercase")]
pub enum Target {
    /// One of the classes, which are the texts of the column, sorted (by value where all are numbers).
    Classify {
        /// Name of the column.
        column: String,
        /// In the order of the logits.
        classes: Vec<String>,
    },
    /// The number in the column. A network learns `(y - mean) / deviation`.
    Regress {
        /// Name of the column.
        column: String,
        /// Mean of the training rows.
        mean: f64,
        /// Their standard deviation, of the population; 1 where it is 0.
        deviation: f64,
    },
}

impl Target {
    /// Name of the column.
    pub fn column(&self) -> &str {
        match self {
            Self::Classify { column, .. } | Self::Regress { column, .. } => column,
        }
    }

    /// Outputs that a network needs: one a class, or one.
    pub fn width(&self) -> usize {
        match self {
            Self::Classify { classes, .. } => classes.len(),
            Self::Regress { .. } => 1,
        }
    }
}

/// What turns the rows of a table into inputs and targets; saved with the model, so that it is used as it was learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableEncoder {
    /// In the table's order; the target and the columns that were left out are not among them.
    pub columns: Vec<ColumnEncoding>,
    /// What is to be told.
    pub target: Target,
}

impl TableEncoder {
    /// Learns an encoder of `table` from its rows `train`.
    ///
    /// A column is one of numbers where every value of the table is a finite number, and one of categories otherwise. The
    /// columns named in `without` are left out. The classes are those of all rows, everything else is of the training rows
    /// alone, so that nothing of the others leaks.
    ///
    /// # Errors
    ///
    /// [`DataError::Table`] naming file, line and column: a missing target, a target of one class or no number, a column
    /// with more than 256 different texts, more than 65,536 inputs, no input at all, an unknown name.
    ///
    /// # Panics
    ///
    /// If a row is out of range.
    pub fn fit(
        table: &Table,
        train: &[usize],
        target: &str,
        task: Task,
        without: &[String],
    ) -> Result<Self, DataError> {
        let target_column = table.column(target)?;
        let mut left_out = vec![target_column];
        for name in without {
            left_out.push(table.column(name)?);
        }
        let target = match task {
            Task::Classify => {
                Target::Classify { column: target.to_owned(), classes: classes(table, target_column)? }
            }
            Task::Regress => {
                let numbers = numbers(table, target_column, train)?;
                let (mean, deviation) = moments(&numbers);
                Target::Regress { column: target.to_owned(), mean, deviation }
            }
        };
        let columns: Vec<ColumnEncoding> = (0..table.columns().len())
            .filter(|column| !left_out.contains(column))
            .map(|column| {
                let name = table.columns()[column].clone();
                Ok(ColumnEncoding { name, encoding: fit_column(table, column, train)? })
            })
            .collect::<Result<_, DataError>>()?;
        let encoder = Self { columns, target };
        encoder.validate().map_err(|reason| table.wrong_column(target_column, reason))?;
        Ok(encoder)
    }

    /// Number of inputs of a row.
    pub fn width(&self) -> usize {
        self.columns.iter().map(|column| column.encoding.width()).fold(0, usize::saturating_add)
    }

    /// What each input is: the column's name, `name=level`, or `name is missing`.
    pub fn input_names(&self) -> Vec<String> {
        let mut names = Vec::with_capacity(self.width());
        for ColumnEncoding { name, encoding } in &self.columns {
            let indicator = match encoding {
                Encoding::Number { indicator, .. } => {
                    names.push(name.clone());
                    *indicator
                }
                Encoding::Category { levels, indicator } => {
                    names.extend(levels.iter().map(|level| format!("{name}={level}")));
                    *indicator
                }
                Encoding::Empty => false,
            };
            if indicator {
                names.push(format!("{name} is missing"));
            }
        }
        names
    }

    /// Checks an encoder that came from a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        let width = self.width();
        if !(1..=MAX_WIDTH).contains(&width) {
            return Err(format!("the columns beside it give {width} inputs, there must be 1 to {MAX_WIDTH}"));
        }
        let moments = |name: &str, mean: f64, deviation: f64| match mean.is_finite() && deviation.is_finite()
        {
            true if deviation > 0.0 => Ok(()),
            _ => Err(format!("column `{name}` has the mean {mean} and the deviation {deviation}")),
        };
        for ColumnEncoding { name, encoding } in &self.columns {
            if let Encoding::Number { mean, deviation, .. } = encoding {
                moments(name, *mean, *deviation)?;
            }
        }
        match &self.target {
            Target::Classify { column, classes } if !(2..=MAX_CLASSES).contains(&classes.len()) => {
                Err(format!(
                    "the target `{column}` has {} classes, there must be 2 to {MAX_CLASSES}",
                    classes.len()
                ))
            }
            Target::Classify { .. } => Ok(()),
            Target::Regress { column, mean, deviation } => moments(column, *mean, *deviation),
        }
    }

    /// The inputs of `rows`, [`width`](Self::width) each, one row after another.
    ///
    /// `table` may be another one than was learnt from; its columns are found by their names, in any order.
    ///
    /// # Errors
    ///
    /// [`DataError::Table`] naming file, line and column: a column that is not there, text in a column of numbers, more
    /// than 2^30 inputs.
    ///
    /// # Panics
    ///
    /// If a row is out of range.
    pub fn inputs(&self, table: &Table, rows: &[usize]) -> Result<Vec<f32>, DataError> {
        let width = self.width();
        let places: Vec<usize> =
            self.columns.iter().map(|column| table.column(&column.name)).collect::<Result<_, _>>()?;
        if rows.len().saturating_mul(width) > MAX_INPUTS {
            return Err(table.wrong_column(
                places[0],
                format!(
                    "{} rows of {width} inputs are more than {MAX_INPUTS}; leave out columns of many categories",
                    rows.len()
                ),
            ));
        }
        let mut inputs = Vec::with_capacity(rows.len() * width);
        for &row in rows {
            for (ColumnEncoding { encoding, .. }, &place) in self.columns.iter().zip(&places) {
                match encoding {
                    Encoding::Number { mean, deviation, indicator } => {
                        let number = table.number(row, place)?;
                        inputs.push(number.map_or(0.0, |number| ((number - mean) / deviation) as f32));
                        if *indicator {
                            inputs.push(f32::from(u8::from(number.is_none())));
                        }
                    }
                    Encoding::Category { levels, indicator } => {
                        let text = table.text(row, place);
                        inputs.extend(levels.iter().map(|l| f32::from(u8::from(text == Some(l.as_str())))));
                        if *indicator {
                            inputs.push(f32::from(u8::from(text.is_none())));
                        }
                    }
                    Encoding::Empty => {}
                }
            }
        }
        Ok(inputs)
    }

    /// The classes of `rows`.
    ///
    /// # Errors
    ///
    /// [`DataError::Table`] naming file, line and column, for a missing target or an unknown class, and if the target is a
    /// number.
    ///
    /// # Panics
    ///
    /// If a row is out of range.
    pub fn labels(&self, table: &Table, rows: &[usize]) -> Result<Vec<usize>, DataError> {
        let column = table.column(self.target.column())?;
        let Target::Classify { classes, .. } = &self.target else {
            return Err(table.wrong_column(column, "it is a number, there are no classes"));
        };
        rows.iter()
            .map(|&row| {
                let text = table.text(row, column).ok_or_else(|| missing_target(table, row, column))?;
                classes.iter().position(|class| class == text).ok_or_else(|| {
                    let known: Vec<&str> = classes.iter().take(10).map(String::as_str).collect();
                    table.wrong(
                        row,
                        column,
                        format!("there is no class `{}`; there are {}", excerpt(text), known.join(", ")),
                    )
                })
            })
            .collect()
    }

    /// The targets of `rows` in their own unit.
    ///
    /// # Errors
    ///
    /// [`DataError::Table`] naming file, line and column, for a target that is missing or no finite number.
    ///
    /// # Panics
    ///
    /// If a row is out of range.
    pub fn numbers(&self, table: &Table, rows: &[usize]) -> Result<Vec<f64>, DataError> {
        numbers(table, table.column(self.target.column())?, rows)
    }
}

impl Table {
    /// Rows for training and for validation: class by class where the task has classes, at random otherwise; see
    /// [`stratified_split`].
    ///
    /// # Errors
    ///
    /// [`DataError::Table`] for an unknown column, a missing target, or if one side would be empty.
    pub fn split(
        &self,
        target: &str,
        task: Task,
        fraction: f32,
        seed: u64,
    ) -> Result<(Vec<usize>, Vec<usize>), DataError> {
        let column = self.column(target)?;
        let labels = match task {
            Task::Classify => self.groups(target)?,
            Task::Regress => vec![0; self.rows()],
        };
        if !(0.0..1.0).contains(&fraction) {
            return Err(DataError::InvalidSplit { path: self.path().to_owned(), fraction });
        }
        let (train, validation) = stratified_split(&labels, fraction, seed);
        match train.is_empty() || validation.is_empty() {
            true => Err(self.wrong_column(
                column,
                format!("of {} rows, none is left on one side of the split; add rows", self.rows()),
            )),
            false => Ok((train, validation)),
        }
    }

    /// A number for each different text of a column, e.g. for [`KFold::stratified`](crate::KFold::stratified) or
    /// [`KFold::grouped`](crate::KFold::grouped).
    ///
    /// # Errors
    ///
    /// [`DataError::Table`] for an unknown column or a missing value.
    pub fn groups(&self, column: &str) -> Result<Vec<usize>, DataError> {
        let column = self.column(column)?;
        let mut known = std::collections::HashMap::new();
        (0..self.rows())
            .map(|row| {
                let text = self.text(row, column).ok_or_else(|| missing_target(self, row, column))?;
                let next = known.len();
                Ok(*known.entry(text).or_insert(next))
            })
            .collect()
    }
}

fn missing_target(table: &Table, row: usize, column: usize) -> DataError {
    table.wrong(row, column, "the value is missing; fill it in, or remove the row")
}

fn numbers(table: &Table, column: usize, rows: &[usize]) -> Result<Vec<f64>, DataError> {
    let number = |&row: &usize| table.number(row, column)?.ok_or_else(|| missing_target(table, row, column));
    rows.iter().map(number).collect()
}

fn classes(table: &Table, column: usize) -> Result<Vec<String>, DataError> {
    let mut classes = std::collections::BTreeSet::new();
    for row in 0..table.rows() {
        classes.insert(table.text(row, column).ok_or_else(|| missing_target(table, row, column))?);
        if classes.len() > MAX_CLASSES {
            return Err(table.wrong_column(
                column,
                format!("it has more than {MAX_CLASSES} different values, too many for classes; for numbers use the task regress"),
            ));
        }
    }
    if classes.len() < 2 {
        return Err(table.wrong_column(column, "all its values are the same; a classifier needs two classes"));
    }
    let mut classes: Vec<String> = classes.into_iter().map(str::to_owned).collect();
    if table.first_text(column).is_none() {
        let value = |text: &String| text.parse().unwrap_or(f64::NAN);
        classes.sort_by(|a, b| value(a).total_cmp(&value(b)).then_with(|| a.cmp(b)));
    }
    Ok(classes)
}

fn fit_column(table: &Table, column: usize, train: &[usize]) -> Result<Encoding, DataError> {
    let indicator = train.iter().any(|&row| table.text(row, column).is_none());
    let Some((row, text)) = table.first_text(column) else {
        let numbers: Vec<f64> = train
            .iter()
            .filter_map(|&row| table.number(row, column).transpose())
            .collect::<Result<_, _>>()?;
        if numbers.is_empty() {
            return Ok(Encoding::Empty);
        }
        let (mean, deviation) = moments(&numbers);
        return Ok(Encoding::Number { mean, deviation, indicator });
    };
    let mut levels = std::collections::BTreeSet::new();
    for &row in train {
        levels.extend(table.text(row, column));
    }
    if levels.len() > MAX_LEVELS {
        return Err(table.wrong(
            row,
            column,
            format!(
                "the column has {} different texts, e.g. `{}` here, at most {MAX_LEVELS} are coded; leave the column out (--without), or correct the cell if the column should hold numbers",
                levels.len(),
                excerpt(text)
            ),
        ));
    }
    if levels.is_empty() {
        return Ok(Encoding::Empty);
    }
    Ok(Encoding::Category { levels: levels.into_iter().map(str::to_owned).collect(), indicator })
}

/// Mean and standard deviation of the population; 1 where that is 0 or beyond what a float holds.
fn moments(numbers: &[f64]) -> (f64, f64) {
    let count = numbers.len() as f64;
    // Divided first, so that the sum of huge values is no infinity.
    let mean: f64 = numbers.iter().map(|x| x / count).sum();
    let variance: f64 = numbers.iter().map(|x| (x - mean) * (x - mean) / count).sum();
    let deviation = variance.sqrt();
    // What rounding leaves of equal values is no deviation (as scikit-learn's `_is_constant_feature`).
    let noise = 10.0 * f64::EPSILON * mean.abs() * count.sqrt();
    (mean, if deviation.is_finite() && deviation > noise { deviation } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableLimits;

    fn table(content: &str) -> Table {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), content).expect("written");
        Table::read(file.path(), &TableLimits::default()).expect("a table")
    }

    const SHOP: &str = "size,colour,note,sold,kind\n1,red,,10,b\n3,NA,,20,a\n?,blue,,30,b\n7,red,,40,a\n";

    /// The figures are those of scikit-learn's StandardScaler, SimpleImputer and OneHotEncoder, worked by hand.
    #[test]
    fn numbers_are_standardised_and_texts_one_hot() {
        let table = table(SHOP);
        let encoder = TableEncoder::fit(&table, &[0, 1, 2], "kind", Task::Classify, &["sold".to_owned()])
            .expect("fits");
        assert_eq!(
            encoder.input_names(),
            ["size", "size is missing", "colour=blue", "colour=red", "colour is missing"]
        );
        let inputs = encoder.inputs(&table, &[0, 1, 2, 3]).expect("the same table");
        assert_eq!(
            inputs.chunks(5).collect::<Vec<_>>(),
            [
                [-1.0, 0.0, 0.0, 1.0, 0.0],
                [1.0, 0.0, 0.0, 0.0, 1.0],
                [0.0, 1.0, 1.0, 0.0, 0.0],
                [5.0, 0.0, 0.0, 1.0, 0.0]
            ]
        );
        assert_eq!(encoder.labels(&table, &[0, 1]).expect("classes"), [1, 0]);

        let text = serde_json::to_string(&encoder).expect("JSON");
        assert_eq!(serde_json::from_str::<TableEncoder>(&text).expect("JSON"), encoder);
    }

    #[derive(Deserialize)]
    struct Golden {
        made_by: String,
        csv: String,
        train: usize,
        names: Vec<String>,
        inputs: Vec<Vec<f64>>,
    }

    /// Standardised numbers, indicators of what is missing, levels known and unknown.
    #[test]
    fn inputs_are_scikit_learns() {
        let golden: Golden =
            serde_json::from_str(include_str!("../tests/goldens/table.json")).expect("valid JSON");
        let table = table(&golden.csv);
        let train: Vec<usize> = (0..golden.train).collect();
        let encoder = TableEncoder::fit(&table, &train, "target", Task::Classify, &[]).expect("fits");
        assert_eq!(encoder.input_names(), golden.names, "made by: {}", golden.made_by);
        let rows: Vec<usize> = (0..table.rows()).collect();
        let inputs = encoder.inputs(&table, &rows).expect("the same table");
        let mut largest: f64 = 0.0;
        for (ours, theirs) in inputs.chunks(encoder.width()).zip(&golden.inputs) {
            for (ours, theirs) in ours.iter().zip(theirs) {
                largest = largest.max((f64::from(*ours) - theirs).abs() / theirs.abs().max(1.0));
            }
        }
        // An input is an f32, whose rounding is 6e-8.
        assert!(largest < 1e-7, "largest error {largest:e}, made by: {}", golden.made_by);
    }

    #[test]
    fn another_table_may_have_other_columns_around_and_unknown_texts() {
        let encoder = TableEncoder::fit(
            &table(SHOP),
            &[0, 1, 2, 3],
            "sold",
            Task::Regress,
            &["kind".to_owned(), "note".to_owned()],
        )
        .expect("fits");
        assert_eq!(
            encoder.target,
            Target::Regress { column: "sold".to_owned(), mean: 25.0, deviation: 125.0_f64.sqrt() }
        );
        let other = table("extra,colour,size\nx,green,3\n");
        let inputs = encoder.inputs(&other, &[0]).expect("both columns");
        assert_eq!(inputs[1..], [0.0; 4]);
        let wrong = table("colour,size\nred,big\n");
        let message = encoder.inputs(&wrong, &[0]).expect_err("text").to_string();
        assert!(
            message.contains("line 2") && message.contains("`size`") && message.contains("big"),
            "{message}"
        );
        let message = encoder.numbers(&other, &[0]).expect_err("no such column").to_string();
        assert!(message.contains("`sold`"), "{message}");
    }

    #[test]
    fn classes_of_numbers_are_in_their_order() {
        let table = table("x,y\n1,10\n2,9\n3,100\n");
        let encoder = TableEncoder::fit(&table, &[0, 1, 2], "y", Task::Classify, &[]).expect("fits");
        assert!(matches!(encoder.target, Target::Classify { classes, .. } if classes == ["9", "10", "100"]));
    }

    #[test]
    fn equal_values_have_no_deviation() {
        assert_eq!(moments(&[0.1; 7]).1, 1.0);
        assert_eq!(moments(&[1e308, -1e308]), (0.0, 1.0));
    }

    #[test]
    fn what_cannot_be_learnt_is_told_the_place() {
        let many: String = (0..300).map(|row| format!("name {row},{}\n", row % 2)).collect();
        for (content, target, task, words) in [
            ("x,y\n1,a\n2,\n", "y", Task::Classify, &["line 3", "`y`", "missing"][..]),
            ("x,y\n1,a\n2,a\n", "y", Task::Classify, &["`y`", "two classes"]),
            ("x,y\n1,a\n2,3\n", "y", Task::Regress, &["line 2", "`y`", "`a`", "number"]),
            ("x,y\n1,2\n", "z", Task::Regress, &["`z`", "`x`, `y`"]),
            ("y\n1\n2\n", "y", Task::Regress, &["0 inputs"]),
            (
                &format!("x,y\n{many}"),
                "y",
                Task::Classify,
                &["line 2", "`x`", "300 different texts", "name 0"],
            ),
        ] {
            let table = table(content);
            let rows: Vec<usize> = (0..table.rows()).collect();
            let message = TableEncoder::fit(&table, &rows, target, task, &[]).expect_err(content).to_string();
            for word in words {
                assert!(message.contains(word), "`{word}` is not in: {message}");
            }
        }
        let table = table("x,y\n1,a\n");
        assert!(table.split("y", Task::Classify, 0.5, 0).is_err());
    }

    #[test]
    fn a_damaged_encoder_is_refused() {
        let mut encoder =
            TableEncoder::fit(&table(SHOP), &[0, 1, 2, 3], "kind", Task::Classify, &[]).expect("fits");
        assert_eq!(encoder.validate(), Ok(()));
        encoder.columns[0].encoding = Encoding::Number { mean: 0.0, deviation: 0.0, indicator: false };
        assert!(encoder.validate().is_err());
    }
}
