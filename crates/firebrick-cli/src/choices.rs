//! The values of flags that are more than a number or a path.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use firebrick::augment::{ImageDataGenerator, Pipeline};
use firebrick::data::Task;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Implements serde by the flag's own text, so that a file and a flag mean the same.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use as_text;
as_text!(Weights, Freeze, OnBadImage, DataSource);

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DataSource {
    /// The 3,000 images of Fashion-MNIST that are compiled in.
    BuiltinFashion,
    /// A folder.
    Folder(PathBuf),
}

impl FromStr for DataSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("builtin:") {
            Some("fashion") => Ok(Self::BuiltinFashion),
            Some(other) => Err(format!("there is no built-in data `{other}`; there is builtin:fashion")),
            None => Ok(Self::Folder(text.into())),
        }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltinFashion => f.write_str("builtin:fashion"),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

impl DataSource {
    /// Whether it is a CSV file, by its name.
    pub(crate) fn is_table(&self) -> bool {
        match self {
            Self::Folder(path) => path.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv")),
            Self::BuiltinFashion => false,
        }
    }
}

/// A column of a table; none where none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Column(pub(crate) Option<String>);

impl FromStr for Column {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Some(text.to_owned())))
    }
}

/// Columns of a table: a list in a file, separated by commas in a flag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Columns(pub(crate) Vec<String>);

impl FromStr for Columns {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.split(',').map(|name| name.trim().to_owned()).collect()))
    }
}

/// What is learnt of a table; by the target's column where it is not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TaskChoice(pub(crate) Option<Task>);

impl FromStr for TaskChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "classify" => Ok(Self(Some(Task::Classify))),
            "regress" => Ok(Self(Some(Task::Regress))),
            _ => Err(format!("task is `{text}`, it must be classify or regress")),
        }
    }
}

/// What training starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// The published ones.
    Imagenet,
    /// None.
    None,
    /// A checkpoint.
    File(PathBuf),
}

impl FromStr for Weights {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "imagenet" => Self::Imagenet,
            "none" => Self::None,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Imagenet => f.write_str("imagenet"),
            Self::None => f.write_str("none"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// What of the model is not trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Freeze {
    /// Everything but the head.
    Backbone,
    /// Everything up to a stage of the backbone.
    Until(String),
    /// Nothing.
    None,
}

impl FromStr for Freeze {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "backbone" => Self::Backbone,
            "none" => Self::None,
            stage => Self::Until(stage.to_owned()),
        })
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backbone => "backbone",
            Self::Until(stage) => stage,
            Self::None => "none",
        })
    }
}

/// What becomes of an image that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnBadImage {
    /// It ends the run.
    Fail,
    /// It is left out, with a warning.
    Skip,
}

/// Implements `FromStr` and `Display` by clap's names.
macro_rules! by_value_name {
    ($($name:ty: $field:literal),*) => {$(
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                <Self as clap::ValueEnum>::from_str(text, false).map_err(|_| {
                    let names: Vec<String> = <Self as clap::ValueEnum>::value_variants().iter().map(Self::to_string).collect();
                    format!("{} is `{text}`, it must be {}", $field, names.join(" or "))
                })
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let value = clap::ValueEnum::to_possible_value(self).expect("no variant is skipped");
                f.write_str(value.get_name())
            }
        }
    )*};
}
pub(crate) use by_value_name;
by_value_name!(OnBadImage: "on-bad-image");

impl From<OnBadImage> for firebrick::data::OnBadSample {
    fn from(choice: OnBadImage) -> Self {
        match choice {
            OnBadImage::Fail => Self::Fail,
            OnBadImage::Skip => Self::Skip,
        }
    }
}

/// How images are varied in training.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Augment {
    /// `none`, `keras`, the name of a pipeline, or a TOML file of either kind.
    Named(String),
    /// The generator's settings themselves, as a table of the configuration file.
    Generator(Box<ImageDataGenerator>),
    /// The steps of a pipeline themselves, as tables of the configuration file.
    Pipeline(Pipeline),
}

impl FromStr for Augment {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::Named(text.to_owned()))
    }
}

/// By hand, because an untagged enum would not say which key of a table is wrong.
impl<'de> Deserialize<'de> for Augment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Augment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "`none`, `keras`, {}, the name of a TOML file, or a table of ImageDataGenerator's settings or of steps",
                    Pipeline::NAMES.join(", ")
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Augment, E> {
                Ok(Augment::Named(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Augment, A::Error> {
                let table = toml::Table::deserialize(de::value::MapAccessDeserializer::new(table))?;
                if table.contains_key("step") {
                    return Pipeline::from_table(table).map(Augment::Pipeline).map_err(de::Error::custom);
                }
                let generator: ImageDataGenerator = table
                    .try_into()
                    .map_err(|error: toml::de::Error| de::Error::custom(error.to_string().trim_end()))?;
                Ok(Augment::Generator(Box::new(generator)))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// Widths of the head's hidden layers: `128`, `256,64`, or `none`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Vec<usize>")]
pub(crate) struct Hidden(pub(crate) Vec<usize>);

/// In a file a number, a list of numbers, or the flag's text.
impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Widths;
        impl<'de> Visitor<'de> for Widths {
            type Value = Hidden;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a width, a list of widths, or `none`")
            }

            fn visit_u64<E: de::Error>(self, width: u64) -> Result<Hidden, E> {
                let width = usize::try_from(width)
                    .map_err(|_| E::custom(format!("the width {width} is too large")))?;
                Ok(Hidden(vec![width]))
            }

            fn visit_i64<E: de::Error>(self, width: i64) -> Result<Hidden, E> {
                let width =
                    u64::try_from(width).map_err(|_| E::custom(format!("the width {width} is negative")))?;
                self.visit_u64(width)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hidden, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, widths: A) -> Result<Hidden, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(widths)).map(Hidden)
            }
        }
        deserializer.deserialize_any(Widths)
    }
}

impl From<Hidden> for Vec<usize> {
    fn from(hidden: Hidden) -> Self {
        hidden.0
    }
}

impl FromStr for Hidden {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        text.split(',')
            .map(|width| {
                width.trim().parse().map_err(|_| format!("`{width}` is no width; give 128, 256,64 or none"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}
